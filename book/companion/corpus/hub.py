"""The paper's data from the Hugging Face hub (F.1.3), streamed once into a file of tokens.

Batches are drawn from all over the data, which a stream does not allow. A file does, and takes
10 GB for the 5 million contexts of the paper.
"""

import contextlib
import hashlib
import os
import queue
import threading

import numpy as np

from companion.corpus.contexts import SPLITS, Corpus, check_ids
from companion.corpus.files import REMEDY, TOKEN, is_complete, open_streams, seal, stream_path
from companion.corpus.tokenizer import load_tokenizer
from companion.places import cache_directory
from companion.presets import PAPER
from devlib.errors import UserError
from devlib.files import make_directory, settings_hash, storing
from devlib.locks import locked
from devlib.sealed import read_sealed, write_sealed

TRAIN = "timaeus/dsir-pile-10m-tokens"  # in the 5,000-token vocabulary
# the authors' data for metrics; their test set, georgeyw/dsir-pile-10k, has fewer contexts than the
# metrics of the paper take
VALIDATION = "georgeyw/dsir-pile-100k"
TOGETHER = 1_000  # rows read at a time; a kill loses at most these
LEAST = (5, 1)  # of datasets: up to 5.0.1, one that goes on twice loses rows or has some twice
OPENING, READING = 60, 600  # seconds to wait for a dataset, and for so many rows of it


def hub_corpus(vocabulary, tokens=None, train=TRAIN, validation=VALIDATION) -> Corpus:
    """The first `tokens` tokens of the paper's training data (default: those of its 50,000
    batches), and all of the data that its metrics read.

    `train` and `validation` name datasets on the hub, or folders of the same layout: a column
    `tokens` of ids, each row begun by end of text, which the context puts back; or a column
    `contents` of text, which is tokenised here (stanford-crfm/DSIR-filtered-pile-50M, for another
    vocabulary than the paper's). Killed or cut off, it goes on where it was. Raises UserError if a
    dataset is out of reach, has neither column, a row without a value, ids of another vocabulary,
    or ends at another row than it says; and for a library `datasets` before 5.1.
    """
    tokenizer = load_tokenizer(vocabulary)
    paper = PAPER.language
    if tokens is None:
        tokens = paper.training.steps * paper.training.batch * (paper.model.context - 1)
    identity = {"kind": "hub", "vocabulary": vocabulary, "tokens": tokens,
                "train": str(train), "validation": str(validation)}
    folder = cache_directory() / "corpora" / f"hub-{settings_hash(identity)}"
    if not is_complete(folder):
        make_directory(folder, "the variable DEVLIB_CACHE")
        with locked(folder), storing(folder):
            if not is_complete(folder):  # or else another process made it meanwhile
                _make(folder, identity, tokenizer)
    streams, _ = open_streams(folder, identity)
    return Corpus("hub", vocabulary, *streams)


def _make(folder, identity, tokenizer):
    train, validation = (stream_path(folder, split) for split in SPLITS)
    _collect(identity["train"], tokenizer, identity["tokens"], train)
    _collect(identity["validation"], tokenizer, None, validation)
    seal(folder, identity)
    for path in (train, validation):
        _place(path).unlink(missing_ok=True)


def _place(path):
    return path.with_suffix(".place.json")


def _collect(name, tokenizer, limit, path):
    """Writes the first `limit` tokens of a dataset to `path`, going on from what an earlier call
    left beside it: tokens, their sha256, rows, and where in the dataset they end. Raises UserError
    if these do not agree."""
    part, place = path.with_suffix(".part"), _place(path)
    at, digest = _found(path, part, place)
    if path.exists():
        return
    with _reaching(name):
        dataset, column = _within(OPENING, lambda: _open(name))
        if at["tokens"]:
            dataset.load_state_dict(at["dataset"])
        batches = dataset.iter(TOGETHER)
    with open(part, "r+b" if part.exists() else "w+b") as file:
        file.truncate(at["tokens"] * TOKEN.itemsize)
        file.seek(0, os.SEEK_END)
        while limit is None or at["tokens"] < limit:
            with _reaching(name):
                batch = _within(READING, lambda: next(batches, None))
            if batch is None:
                _check_rows(name, dataset, at["rows"])
                break
            stream = _stream(batch[column], column, tokenizer, name, at["rows"])
            stream = stream[:None if limit is None else limit - at["tokens"]]
            data = stream.tobytes()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            digest.update(data)
            at = {"tokens": at["tokens"] + len(stream), "sha256": digest.hexdigest(),
                  "rows": at["rows"] + len(batch[column]), "dataset": dataset.state_dict()}
            write_sealed(place, at)
    os.replace(part, path)


def _found(path, part, place):
    """Where an earlier call came to, and the running sha256 of its tokens."""
    digest, held = hashlib.sha256(), path if path.exists() else part
    if not place.exists():
        return {"tokens": 0, "rows": 0}, digest
    try:
        at = read_sealed(place)
        left, _ = at["tokens"] * TOKEN.itemsize, at["rows"]
        with held.open("rb") as file:
            while block := file.read(min(left, 2**20)):
                digest.update(block)
                left -= len(block)
        if left or at["sha256"] != digest.hexdigest():
            raise ValueError("its sha256 is another")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{held} or {place.name} beside it is damaged ({error}); {REMEDY}"
                        ) from error
    return at, digest


def _within(seconds, work):
    """`work()`, or TimeoutError: the hub's client alone would try a silent hub for a long while.
    What is still waiting then ends with the process."""
    answer = queue.SimpleQueue()

    def run():
        try:
            answer.put((work(), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        found, error = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} seconds") from None
    if error is not None:
        raise error
    return found


def _open(name):
    """The dataset, streaming, and the column to read."""
    import datasets

    if tuple(map(int, datasets.__version__.split(".")[:2])) < LEAST:
        raise UserError(f"datasets {datasets.__version__} loses rows of a stream that was broken "
                        f"off: pip install 'datasets>={LEAST[0]}.{LEAST[1]}', or use --corpus "
                        'offline (corpus="offline")')
    dataset = datasets.load_dataset(str(name), split="train", streaming=True)
    columns = dataset.column_names or list(next(iter(dataset)))
    for column in ("tokens", "contents"):
        if column in columns:
            return dataset.select_columns(column), column
    raise UserError(f"the dataset {name} has the columns {', '.join(columns)}, but neither "
                    "'tokens' nor 'contents'; name another, or use --corpus offline "
                    '(corpus="offline")')


def _check_rows(name, dataset, rows):
    """Raises UserError if a dataset that says how many rows it has ended after another number."""
    said = (dataset.info.splits or {}).get("train")
    if said is not None and said.num_examples and said.num_examples != rows:
        raise UserError(f"the dataset {name} ended after {rows:,} rows and its card says that it "
                        f"has {said.num_examples:,}: where the card is right, {REMEDY}")


def _stream(rows, column, tokenizer, name, first):
    """The tokens of some rows, one after another; `first` is the number of the first, counted
    from 0. Raises UserError for a row that is no text, or no list of ids."""
    begin = np.array([tokenizer.end_of_text])
    kind = str if column == "contents" else list
    for i, row in enumerate(rows, first):
        if not isinstance(row, kind) or (kind is list and None in row):
            what = "a null" if row is None or isinstance(row, list) else type(row).__name__
            raise UserError(f"row {i} of the dataset {name} has {what} in its column {column!r}: "
                            "leave that row out of the dataset, or name another")
    if column == "contents":
        parts = [part for ids in tokenizer.encode_batch(rows) for part in (begin, ids)]
    else:
        parts = [np.asarray(row, np.int64) for row in rows]
        parts = [row[1:] if row[:1] == begin else row for row in parts]
    stream = np.concatenate(parts)
    check_ids(stream, tokenizer.vocabulary)
    return stream.astype(TOKEN)


@contextlib.contextmanager
def _reaching(name):
    """One line for whatever datasets, its file systems and its HTTP client raise."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError("the hub's corpus needs the library datasets: pip install datasets, or use "
                        '--corpus offline (corpus="offline")') from error
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"cannot read the dataset {name} ({reason}); what has come so far is kept: "
                        "try again with a network, or use --corpus offline (corpus=\"offline\")"
                        ) from error
