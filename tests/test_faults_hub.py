"""A hub that is out of reach, silent, or gives something else: one line, with the way around it.

(tests/companion/corpus/test_corpus.py has wrong columns and vocabularies. No test leaves this
machine.)
"""

import http.server
import os
import socket
import threading

import pytest

from companion.corpus import hub as corpus_hub
from companion.released import download
from devlib.errors import UserError
from tests.killing import in_a_process, processes


@pytest.fixture
def silent():
    """The address of a server that takes every connection and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def useless():
    """The address of a server that answers everything with a page of its own."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in</html>")

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(endpoint, cache):
    """What the user reads, in a process whose hub is at that address."""
    import datasets
    import huggingface_hub

    huggingface_hub.constants.ENDPOINT = datasets.config.HF_ENDPOINT = endpoint
    datasets.config.HF_DATASETS_CACHE = cache / "datasets"
    huggingface_hub.constants.HF_HUB_CACHE = str(cache / "hub")
    corpus_hub.OPENING = 3

    os.environ["DEVLIB_CACHE"] = str(cache)
    try:
        corpus_hub.hub_corpus(300, 1000, "owner/data", "owner/data")
    except UserError as error:
        return str(error)


def one_line(text):
    assert "\n" not in text
    assert "cannot read the dataset owner/data (" in text
    assert "--corpus offline" in text and "what has come so far is kept" in text
    return text


def test_a_hub_that_does_not_answer(silent, tmp_path):
    text = in_a_process(processes(), ask, silent, tmp_path)
    assert "no answer within 3 seconds" in one_line(text)


def test_a_hub_out_of_reach(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = f"http://127.0.0.1:{server.getsockname()[1]}"
    one_line(in_a_process(processes(), ask, nowhere, tmp_path))


def test_a_hub_behind_a_login_page(useless, tmp_path):
    one_line(in_a_process(processes(), ask, useless, tmp_path))


def test_rows_that_do_not_come():
    """A dataset that opens and then is silent."""
    ends = threading.Event()
    with pytest.raises(UserError, match=r"no answer within 0\.1 seconds.*--corpus offline"), \
            corpus_hub._reaching("owner/data"):
        corpus_hub._within(0.1, ends.wait)
    ends.set()


def test_work_within_its_time():
    assert corpus_hub._within(60, lambda: 5) == 5
    with pytest.raises(KeyError):
        corpus_hub._within(60, lambda: {}["a"])
    with pytest.raises(StopIteration):
        corpus_hub._within(60, lambda: next(iter(())))


def test_released_models_need_the_hub(monkeypatch):
    import huggingface_hub

    def out_of_reach(*args, **kwargs):
        raise OSError("Cannot reach the hub\nTraceback")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", out_of_reach)
    with pytest.raises(UserError, match="the hub is out of reach or has no such step") as error:
        download(2, 0)
    assert "\n" not in str(error.value) and "load_released" in str(error.value)
