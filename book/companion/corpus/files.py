"""Streams of tokens on disk: one raw file of uint16 a split, and a manifest that makes them
valid."""

import hashlib
from pathlib import Path

import numpy as np

from companion.corpus.contexts import SPLITS
from companion.program import PROGRAM
from devlib.errors import UserError
from devlib.sealed import read_sealed, write_sealed

MANIFEST = "manifest.json"
TOKEN = np.dtype("<u2")
REMEDY = (f"{PROGRAM} mend sets its folder aside; then run the same command again, and it is "
          "made anew")


def is_complete(folder) -> bool:
    """Whether the folder's streams were written to their end."""
    return (Path(folder) / MANIFEST).exists()


def stream_path(folder, split) -> Path:
    """The file of a split's tokens."""
    return Path(folder) / f"{split}.bin"


def seal(folder, identity, **facts):
    """Writes the manifest, once both streams are there: what made them, their lengths and their
    sha256."""
    paths = {split: stream_path(folder, split) for split in SPLITS}
    write_sealed(Path(folder) / MANIFEST, {
        "identity": identity, **facts,
        "splits": {split: {"sha256": _sha256(path), "tokens": path.stat().st_size // TOKEN.itemsize}
                   for split, path in paths.items()}})


def open_streams(folder, identity=None) -> tuple[list[np.ndarray], dict]:
    """Memory maps of the train and the validation stream, and the manifest. Raises UserError,
    naming the file, if one is missing, damaged, or made in another way than `identity` says (where
    it is given)."""
    folder = Path(folder)
    try:
        manifest = read_sealed(folder / MANIFEST)
        known = {split: manifest["splits"][split]["sha256"] for split in SPLITS}
        made_by = manifest["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}); {REMEDY}") from error
    if identity is not None and made_by != identity:
        raise UserError(f"{folder} was made by another version of the project; delete it, and it "
                        "is made again")
    for split in SPLITS:
        path = stream_path(folder, split)
        if not path.exists() or _sha256(path) != known[split]:
            raise UserError(f"{path} is missing or damaged (its sha256 is not the manifest's); "
                            f"{REMEDY}")
    return [np.memmap(stream_path(folder, split), TOKEN, "r") for split in SPLITS], manifest


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
