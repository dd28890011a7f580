"""Corpora: streams that are whole and the same everywhere, and contexts cut from them."""

import json
import math
import os
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from companion.corpus import hub as corpus_hub
from companion.corpus import offline as corpus_offline
from companion.corpus.contexts import SPLITS, Corpus, fixed_contexts, training_batch
from companion.corpus.corpora import facts, load_corpus, may_be_quoted
from companion.corpus.files import MANIFEST, stream_path
from companion.corpus.hub import hub_corpus
from companion.corpus.offline import RECORD, digest, offline_corpus
from companion.corpus.text import SOURCES, documents
from companion.corpus.tokenizer import load_tokenizer
from companion.corpus.toy import toy_corpus
from companion.places import cache_directory, project_root
from devlib.errors import UserError
from devlib.sealed import write_sealed
from tests.corpus_archives import FILES, PAGES, write, write_all

VOCABULARY = 300
CACHE = cache_directory()  # of this machine, before a test sets another


class Crash(Exception):
    pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of this test's own, and the lock file of the tiny archives in it."""
    monkeypatch.setenv("DEVLIB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(cache):
    """What makes the offline corpus of the tiny archives."""
    lock = write_all(cache / "archives")
    return lambda: offline_corpus(VOCABULARY, lock)


def counted(length=101):
    """A corpus of the tokens 0, 1, 2, ..., 50 of them in the validation split."""
    return Corpus("own", 2_000, np.arange(length, dtype=np.uint16), np.arange(50, dtype=np.uint16))


def refused(words, make):
    with pytest.raises(UserError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------ the offline corpus


def test_streams_by_hand(offline, cache):
    """Every document is in one split, begun by end of text, in the order of its hash."""
    corpus, tokenizer = offline(), load_tokenizer(VOCABULARY)
    archives = dict(zip(FILES, (write(cache, package) for package in FILES), strict=True))
    archives["django"] = cache / "archives" / archives["django"].name
    everything = sorted((digest(text), origin, text) for origin, text in documents(archives))
    assert len(everything) == 8 + PAGES
    for split, low, high in (("validation", 0.0, 0.02), ("train", 0.02, 1.0)):
        part = [(origin, text) for hashed, origin, text in everything
                if low <= hashed / 2**64 < high]
        stream = [id for _, text in part for id in (VOCABULARY - 1, *tokenizer.encode(text))]
        assert getattr(corpus, split).tolist() == stream
        assert corpus.origins[split].tolist() == [origin for origin, _ in part]


def test_2_percent_are_held_out(offline):
    """Binomial: 4 standard deviations."""
    held_out, n = len(offline().origins["validation"]), 8 + PAGES
    assert held_out > 0 and abs(held_out - 0.02 * n) < 4 * (0.02 * 0.98 * n) ** 0.5


def test_the_same_bytes_in_another_process(offline, cache, tmp_path_factory):
    """Python orders its sets by PYTHONHASHSEED; no byte may depend on that."""
    offline()
    other = tmp_path_factory.mktemp("other")
    lock = write_all(other / "archives")
    code = ("from pathlib import Path; from companion.corpus.offline import offline_corpus; "
            f"offline_corpus({VOCABULARY}, Path({str(lock)!r}))")
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project_root(),
                   env=os.environ | {"PYTHONHASHSEED": seed, "DEVLIB_CACHE": str(other)})
    folder = Path("corpora") / f"offline-{VOCABULARY}"
    for split in SPLITS:
        path = stream_path(folder, split)
        assert (cache / path).read_bytes() == (other / path).read_bytes()


def test_made_once(offline, cache, monkeypatch):
    first = offline()
    monkeypatch.setattr(corpus_offline, "_build", None)
    second = offline()
    assert isinstance(second.train, np.memmap)
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.validation, second.validation)


@pytest.mark.parametrize("split", SPLITS)
def test_damaged_streams_are_refused(offline, cache, split):
    offline()
    path = stream_path(cache / "corpora" / f"offline-{VOCABULARY}", split)
    data = path.read_bytes()
    for bad in (data[:-2], data + b"\0\0", data[:7] + bytes([data[7] ^ 1]) + data[8:]):
        path.write_bytes(bad)
        refused(f"{path} is missing or damaged .* python -m companion mend", offline)
    path.unlink()
    refused(f"{path} is missing or damaged", offline)


def test_damaged_and_foreign_manifests_are_refused(offline, cache):
    offline()
    folder = cache / "corpora" / f"offline-{VOCABULARY}"
    good = json.loads((folder / MANIFEST).read_text())
    for bad in ("", "[]", json.dumps({k: v for k, v in good.items() if k != "splits"})):
        (folder / MANIFEST).write_text(bad)
        refused(f"{folder / MANIFEST} is damaged .* python -m companion mend", offline)
    good["identity"]["recipe"] = 0
    write_sealed(folder / MANIFEST, good)
    refused(f"{folder} was made by another version", offline)


def test_an_interrupted_build_is_made_again(offline, cache, monkeypatch):
    expected = offline().train.tolist()
    folder = cache / "corpora" / f"offline-{VOCABULARY}"
    real = corpus_offline.write_atomic
    for split in SPLITS:
        (folder / MANIFEST).unlink()

        def dies(path, data, split=split):
            if path.stem == split:
                raise Crash
            real(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(corpus_offline, "write_atomic", dies)
            with pytest.raises(Crash):
                offline()
        assert offline().train.tolist() == expected


def test_streams_are_compared_with_the_record(offline, cache):
    offline()
    folder = cache / "corpora" / f"offline-{VOCABULARY}"
    splits = json.loads((folder / MANIFEST).read_text())["splits"]
    record, lock = cache / "record.json", cache / "corpus.lock.txt"
    record.write_text(json.dumps({str(VOCABULARY): splits}))
    offline_corpus(VOCABULARY, lock, record)
    splits["train"]["sha256"] = "0" * 64
    record.write_text(json.dumps({str(VOCABULARY): splits}))
    refused(f"the streams in {folder} are not those on record",
            lambda: offline_corpus(VOCABULARY, lock, record))


@pytest.mark.parametrize("vocabulary", sorted(map(int, json.loads(RECORD.read_text()))))
def test_the_real_corpus(vocabulary):
    """Where this machine has it, it is the one on record (or loading it raises)."""
    if not (CACHE / "corpora" / f"offline-{vocabulary}" / MANIFEST).exists():
        pytest.skip("the offline corpus is not in this machine's cache: make reproduce")
    corpus = load_corpus("offline", vocabulary)
    for split in SPLITS:
        stream = getattr(corpus, split)
        assert stream[0] == corpus.end_of_text
        assert len(corpus.origins[split]) == (stream == corpus.end_of_text).sum()
        assert set(corpus.origins[split]) == set(range(len(SOURCES)))


# ------------------------------------------------------------------------------- contexts


def test_contexts_are_bos_and_then_the_stream():
    contexts = fixed_contexts(counted(), 0, "test", 10, 11, "train")
    assert contexts.dtype == torch.int64 and contexts.shape == (10, 11)
    assert contexts[:, 0].eq(1_999).all()
    assert contexts[:, 1].sort().values.tolist() == list(range(0, 100, 10))
    assert contexts[:, 1:].diff().eq(1).all()
    assert fixed_contexts(counted(), 0, "test", 5, 11).shape == (5, 11)  # validation has 5


def test_fixed_contexts_are_a_function_of_seed_and_name():
    corpus = counted(1001)
    sets = [fixed_contexts(corpus, *who, 50, 11, "train") for who in
            ((0, "test"), (0, "llc"), (1, "test"))]
    torch.manual_seed(7)
    assert fixed_contexts(corpus, 0, "test", 50, 11, "train").equal(sets[0])
    assert not sets[0].equal(sets[1]) and not sets[0].equal(sets[2])
    assert all(len(part[:, 1].unique()) == 50 for part in sets)


def test_what_a_page_may_print_holds_nothing_under_the_gpl(offline):
    """Token by token, of documents counted by their ends of text."""
    corpus, context = offline(), 5
    licences = [source.licence for source in SOURCES]
    assert any("GPL" in licence for licence in licences)
    allowed = []
    document = np.cumsum(corpus.train == corpus.end_of_text) - 1
    for row in document[:len(document) // 4 * 4].reshape(-1, 4):
        allowed.append(all("GPL" not in licences[corpus.origins["train"][d]] for d in row))
    assert may_be_quoted(corpus, "train", context).tolist() == allowed
    assert 0 < sum(allowed) < len(allowed)
    shown = fixed_contexts(corpus, 0, "shown", sum(allowed), context, "train",
                           among=may_be_quoted(corpus, "train", context))
    rows = corpus.rows("train", context)[allowed]
    assert sorted(shown[:, 1:].tolist()) == sorted(rows.tolist())
    refused("contexts of 5 tokens", lambda: fixed_contexts(
        corpus, 0, "shown", sum(allowed) + 1, context, "train",
        among=may_be_quoted(corpus, "train", context)))


def test_an_epoch_has_every_context_once():
    """10 contexts in batches of 4: epochs meet within a batch, and each has its own order."""
    corpus = counted()
    first = torch.cat([training_batch(corpus, 3, step, 4, 11) for step in range(15)])[:, 1]
    epochs = first.view(6, 10)
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(0, 100, 10))
    assert len(epochs.unique(dim=0)) == 6


def test_batch_is_a_function_of_seed_and_step():
    corpus = counted(1001)
    forwards = [training_batch(corpus, 3, step, 16, 11) for step in range(12)]
    torch.manual_seed(99)  # the global state has no part in it
    backwards = [training_batch(corpus, 3, step, 16, 11) for step in reversed(range(12))][::-1]
    assert all(a.equal(b) for a, b in zip(forwards, backwards, strict=True))
    assert not forwards[0].equal(training_batch(corpus, 4, 0, 16, 11))


def test_a_batch_longer_than_the_corpus():
    batch = training_batch(counted(), 0, 1, 25, 11)
    assert batch[:, 1].bincount(minlength=100)[::10].tolist() <= [3] * 10
    assert batch.shape == (25, 11)


# ------------------------------------------------------------------------------- the toy


def test_toy_documents_come_twice():
    stream = toy_corpus(50).train.reshape(-1, 2, 32)
    assert (stream[:, 0] == stream[:, 1]).all() and (stream[:, :, 0] == 49).all()
    assert (stream[:, 0, 1:] < 49).all()


def test_toy_is_a_function_of_its_seed():
    one, two, other = (toy_corpus(50, 100, 10, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.train, two.train)
    assert not np.array_equal(one.train, other.train)
    assert not np.array_equal(one.train[:640], one.validation)


def test_toy_by_kind():
    assert np.array_equal(load_corpus("toy", 64).train, toy_corpus(64).train)


# ------------------------------------------------------------------------------- the hub


def write_hub(folder, column, rows):
    """A dataset of the hub's layout: parquet of ids in two files, or lines of JSON."""
    folder.mkdir()
    if column == "tokens":
        half = len(rows) // 2
        for i, part in enumerate((rows[:half], rows[half:])):
            pd.DataFrame({"tokens": part}).to_parquet(folder / f"train-{i:05d}-of-00002.parquet")
    else:
        lines = [json.dumps({column: row, "metadata": {"n": i}}) for i, row in enumerate(rows)]
        (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def hub(cache, monkeypatch):
    """A tokenised dataset of 30 rows of 16, of text for validation, and how to read them."""
    monkeypatch.setattr(corpus_hub, "TOGETHER", 4)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "huggingface")
    gen = np.random.default_rng(0)
    rows = [[VOCABULARY - 1, *gen.integers(0, VOCABULARY, 15).tolist()] for _ in range(30)]
    texts = [f"Text {i} of the world." for i in range(7)]
    train = write_hub(cache / "tokens", "tokens", rows)
    validation = write_hub(cache / "raw", "contents", texts)
    return rows, texts, lambda tokens=None: hub_corpus(VOCABULARY, tokens, train, validation)


def test_hub_corpus(hub):
    """Ids as they are, so that contexts of 16 are the dataset's rows; text in our tokens."""
    rows, texts, read = hub
    corpus = read()
    assert corpus.train.tolist() == [id for row in rows for id in row[1:]]
    assert fixed_contexts(corpus, 0, "all", 30, 16, "train").sort(0).values.equal(
        torch.tensor(rows).sort(0).values)
    tokenizer = load_tokenizer(VOCABULARY)
    assert corpus.validation.tolist() == [
        id for text in texts for id in (VOCABULARY - 1, *tokenizer.encode(text))]


def test_hub_corpus_of_so_many_tokens(hub):
    rows, _, read = hub
    assert read(100).train.tolist() == [id for row in rows for id in row[1:]][:100]


@pytest.mark.parametrize("writes", [1, 3, 6, 9])
def test_an_interrupted_hub_corpus_goes_on(hub, monkeypatch, writes):
    """It dies after tokens were written but before their place was, the worst moment."""
    expected, read = hub[2](), lambda: hub[2](10**6)  # another folder
    count, places, real = 0, [], corpus_hub.write_sealed

    def dies(path, value):
        nonlocal count
        count += 1
        if count == writes:
            raise Crash
        places.append(value["tokens"])
        real(path, value)

    monkeypatch.setattr(corpus_hub, "write_sealed", dies)
    with pytest.raises(Crash):
        read()
    found = read()
    assert found.train.tolist() == expected.train.tolist()
    assert found.validation.tolist() == expected.validation.tolist()
    assert len(places) == 8 + 2  # 30 rows and 7 texts by fours: none was read and kept twice


def test_hub_out_of_reach(cache):
    refused("cannot read the dataset .*nowhere .*--corpus offline .*corpus=\"offline\"",
            lambda: hub_corpus(VOCABULARY, None, cache / "nowhere", cache / "nowhere"))


def test_hub_without_its_library(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("needs the library datasets: pip install datasets, or use --corpus offline",
            lambda: load_corpus("hub"))


def test_hub_columns_that_are_wrong(hub, cache):
    bad = write_hub(cache / "bad", "text", ["a", "b"])
    refused("has the columns text, metadata, but neither 'tokens' nor 'contents'.*--corpus offline",
            lambda: hub_corpus(VOCABULARY, None, bad, bad))


@pytest.mark.parametrize("column, value, words", [
    ("contents", None, "a null"), ("contents", 7, "int"),
    ("tokens", None, "a null"), ("tokens", [1, None, 3], "a null")])
def test_hub_rows_without_a_value(hub, cache, column, value, words):
    """Named by the dataset and the row, counted over all that was read before."""
    rows = hub[1] if column == "contents" else hub[0][:7]
    bad = write_hub(cache / "bad", column, [*rows[:6], value, *rows[6:]])
    refused(f"row 6 of the dataset {bad} has {words} in its column '{column}'",
            lambda: hub_corpus(VOCABULARY, None, bad, bad))


def test_hub_rows_are_as_many_as_the_card_says(hub, cache):
    card = ("---\ndataset_info:\n  features:\n  - {{name: contents, dtype: string}}\n"
            "  splits:\n  - {{name: train, num_bytes: 9, num_examples: {}}}\n---\n")
    whole = cache / "whole"
    whole.mkdir()
    lines = [json.dumps({"contents": text}) for text in hub[1]]
    (whole / "train.jsonl").write_text("\n".join(lines))
    (whole / "README.md").write_text(card.format(8))
    refused(f"the dataset {whole} ended after 7 rows and its card says that it has 8: where",
            lambda: hub_corpus(VOCABULARY, None, whole, whole))
    (whole / "README.md").write_text(card.format(7))
    assert len(hub_corpus(VOCABULARY, 10, whole, whole).train) == 10


@pytest.mark.parametrize("killed", [(3, 1, 4), (1, 1, 1, 1)])
def test_hub_rows_of_many_groups_are_all_there_after_any_kills(cache, monkeypatch, killed):
    """What datasets before 5.1 gets wrong: a file of several row groups, gone on with twice."""
    monkeypatch.setattr(corpus_hub, "TOGETHER", 20)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "huggingface")
    folder = cache / "groups"
    folder.mkdir()
    rows = [[i % 200, i // 200] for i in range(400)]
    pd.DataFrame({"tokens": rows}).to_parquet(folder / "train.parquet", row_group_size=50)
    left, real = 0, corpus_hub.write_sealed

    def dies(path, value):
        nonlocal left
        real(path, value)
        left -= 1
        if not left:
            raise Crash

    monkeypatch.setattr(corpus_hub, "write_sealed", dies)
    for writes in killed:
        left = writes
        with pytest.raises(Crash):
            hub_corpus(VOCABULARY, None, folder, folder)
    left = 0
    found = hub_corpus(VOCABULARY, None, folder, folder)
    assert found.train.tolist() == [id for row in rows for id in row]


def test_hub_library_that_loses_rows(hub, monkeypatch):
    """book/pyproject.toml asks for no less."""
    least = ".".join(map(str, corpus_hub.LEAST))
    project = tomllib.loads((project_root() / "book" / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["hub"] == [f"datasets>={least}"]
    monkeypatch.setattr(datasets, "__version__", "5.0.1")
    refused(f"datasets 5.0.1 loses rows .*: pip install 'datasets>={least}'", hub[2])


def test_hub_ids_of_another_vocabulary(hub, cache):
    tokens = cache / "tokens"
    refused("token ids must be from 0 to 256, .*tokenised with another vocabulary",
            lambda: hub_corpus(257, None, tokens, tokens))


# ------------------------------------------------------------------------------- bad input


def test_bad_input(cache):
    refused("corpus must be one of offline, toy, hub, not 'pile'", lambda: load_corpus("pile"))
    refused("vocabulary must be from 257", lambda: load_corpus("offline", 64))
    refused("toy corpus needs a vocabulary of 5 to 65536", lambda: load_corpus("toy", 4))
    empty, ids = np.zeros(0, np.uint16), np.arange(9, dtype=np.uint16)
    refused("the train tokens must be one row of at least one", lambda: Corpus("x", 9, empty, ids))
    refused("the validation tokens must be", lambda: Corpus("x", 9, ids, empty))
    refused("ids must be from 0 to 7, not 0 to 8", lambda: Corpus("x", 8, ids, ids))
    corpus = counted()
    for context in (0, 1, 103):
        refused(f"train split must be of 2 to 102 tokens, not {context}",
                lambda context=context: training_batch(corpus, 0, 0, 4, context))
    refused("split must be one of train, validation, not 'test'",
            lambda: fixed_contexts(corpus, 0, "x", 1, 4, "test"))
    for count in (0, 6):
        refused(f"the validation split has 5 contexts of 11 tokens, not {count}",
                lambda count=count: fixed_contexts(corpus, 0, "x", count, 11))


# ------------------------------------------------------------------------------- facts


def test_facts(offline):
    """Against sums over pairs, one at a time."""
    corpus = offline()
    table = facts(corpus).set_index("source")
    assert list(table.index) == [*(source.package for source in SOURCES), "all"]
    train = corpus.train.tolist()
    pairs = list(pairwise(train))
    both, first, second = Counter(pairs), *map(Counter, zip(*pairs, strict=True))
    document = np.cumsum(corpus.train == corpus.end_of_text) - 1
    losses = defaultdict(list)
    for (a, b), origin in zip(pairs, corpus.origins["train"][document[1:]], strict=True):
        loss = -math.log(second[b] / len(pairs)), -math.log(both[a, b] / first[a])
        losses[SOURCES[origin].package].append(loss)
        losses["all"].append(loss)
    for name, row in table.iterrows():
        np.testing.assert_allclose(row[["unigram_loss", "bigram_loss"]].astype(float),
                                   np.mean(losses[name], 0), rtol=1e-12)
    parts = table.drop("all")
    for column in ("documents", "train_tokens", "validation_tokens"):
        assert parts[column].sum() == table.loc["all", column]
    assert table.loc["all", "documents"] == 8 + PAGES
    assert table.loc["all", "train_tokens"] == len(train)
    assert table.loc["django", "documents"] == 1 + PAGES


def test_facts_without_sources():
    table = facts(toy_corpus(50, 100, 10))
    assert table.source.tolist() == ["all"] and table.documents.tolist() == [220]
    assert table.validation_tokens.tolist() == [640]
    table = facts(counted())  # no end of text at all: one document a split
    assert table.documents.tolist() == [2] and table.train_tokens.tolist() == [101]
    assert table.unigram_loss.tolist() == [pytest.approx(math.log(100))]
    assert table.bigram_loss.tolist() == [0.0]
