"""The offline corpus as tokens: made once for each vocabulary, the same bytes everywhere.

Documents go by a hash of their text: it orders them, so that every source is everywhere, and it
picks the 2 % that are held out.
"""

import hashlib
import json

import numpy as np
from tqdm import tqdm

from companion.corpus.archives import LOCK, fetch
from companion.corpus.contexts import SPLITS, Corpus
from companion.corpus.files import TOKEN, is_complete, open_streams, seal, stream_path
from companion.corpus.text import documents
from companion.corpus.tokenizer import load_tokenizer
from companion.places import cache_directory, project_root
from devlib.errors import UserError
from devlib.files import make_directory, sha256, write_atomic
from devlib.locks import locked

RECIPE = 1  # raise it when the same archives come to give other documents
RECORD = project_root() / "data" / "corpus.json"  # length and sha256 of the streams we know
HELD_OUT = 0.02  # share of the documents that go to validation
TOGETHER = 64  # documents given to the tokenizer at a time: some 100 MB of its own records


def offline_corpus(vocabulary, lock=LOCK, record=RECORD) -> Corpus:
    """The offline corpus in tokens of a vocabulary, 257 to 50,257. The first time it takes a
    network and about two minutes: one to download 67 MB, one to cut and tokenise them.

    Raises UserError if an archive or a stream is not what its sha256 says.
    """
    tokenizer = load_tokenizer(vocabulary)
    identity = {"kind": "offline", "vocabulary": vocabulary, "recipe": RECIPE,
                "lock": sha256(lock.read_bytes())}
    folder = place(vocabulary)
    if not is_complete(folder):
        make_directory(folder, "the variable DEVLIB_CACHE")
        with locked(folder):
            if not is_complete(folder):  # or else another process made it meanwhile
                _build(tokenizer, folder, identity, lock)
    (train, validation), manifest = open_streams(folder, identity)
    _compare(manifest["splits"], json.loads(record.read_text()).get(str(vocabulary)), folder)
    origins = {split: np.array([int(index) for index in manifest["origins"][split]], np.uint8)
               for split in SPLITS}
    return Corpus("offline", vocabulary, train, validation, origins)


def place(vocabulary):
    """Where its streams in tokens of a vocabulary are kept, or will be."""
    return cache_directory() / "corpora" / f"offline-{vocabulary}"


def _compare(splits, known, folder):
    """Against what the project has on record, if it has this vocabulary."""
    if known is not None and splits != known:
        raise UserError(f"the streams in {folder} are not those on record in {RECORD.name}: delete "
                        "that folder, install the versions of requirements.txt, and they are made "
                        "again")


def _build(tokenizer, folder, identity, lock):
    """The streams, each written whole, and then the manifest; the archives stay for the next
    vocabulary."""
    archives = fetch(cache_directory() / "archives", lock)
    found = tqdm(documents(archives), desc="reading", unit="document", disable=None)
    everything = sorted((digest(text), origin, text) for origin, text in found)
    limit = int(HELD_OUT * 2**64)
    origins = {}
    for split in SPLITS:
        chosen = [document for document in everything
                  if (document[0] < limit) == (split == "validation")]
        stream = tokenise(tokenizer, [text for _, _, text in chosen])
        write_atomic(stream_path(folder, split), stream.astype(TOKEN).tobytes())
        origins[split] = "".join(str(origin) for _, origin, _ in chosen)
    seal(folder, identity, origins=origins)


def digest(text) -> int:
    """64 bits of a text's hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def tokenise(tokenizer, texts) -> np.ndarray:
    """The stream of some documents: end of text, then a document, and so on."""
    begin = np.array([tokenizer.end_of_text], np.uint16)
    stream = []
    for start in tqdm(range(0, len(texts), TOGETHER), desc="tokenising", unit="batch",
                      disable=None):
        for ids in tokenizer.encode_batch(texts[start:start + TOGETHER]):
            stream += [begin, ids]
    return np.concatenate(stream) if stream else begin[:0]
