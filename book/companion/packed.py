"""A few checkpoints of a run in one file, for readers who do not train it anew.

FILE.safetensors holds every parameter with the checkpoints as its first dimension, FILE.json the
run's manifest (settings, versions, and a line for each checkpoint) and the file's sha256.
"""

import functools
import shlex
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from devlib.checkpoints import CheckpointStore, read_manifest
from devlib.errors import CheckpointError
from devlib.files import make_directory, sha256, write_atomic
from devlib.sealed import write_sealed


def pack(store, steps, path) -> Path:
    """Writes the checkpoints of these steps to `path` (.safetensors), the manifest last."""
    path, steps = Path(path), sorted(steps)
    make_directory(path.parent)
    loaded = [store.load(step) for step in steps]
    data = save({name: torch.stack([params[name] for params in loaded]) for name in loaded[0]})
    lines = store.manifest["checkpoints"]
    write_atomic(path, data)
    write_sealed(path.with_suffix(".json"), store.manifest | {
        "checkpoints": {str(step): lines[str(step)] for step in steps}, "file": sha256(data)})
    return path


class Packed:
    """Checkpoints read from such a file: `steps`, `loadable`, `load`, `manifest`, `directory` as of
    a CheckpointStore. Raises CheckpointError, naming the file, if it is missing or damaged."""

    def __init__(self, path):
        self.directory = Path(path)  # where it can be opened again, in another process
        self.manifest = read_manifest(self.directory.with_suffix(".json"),
                                      _remedy(self.directory))
        self._tensors = _read(self.directory, self.manifest.get("file"))

    @property
    def steps(self) -> list[int]:
        return sorted(map(int, self.manifest["checkpoints"]))

    @property
    def loadable(self) -> list[int]:
        """The same: none can be missing on its own."""
        return self.steps

    def load(self, step) -> dict:
        """The tensors of one checkpoint. Raises CheckpointError if it is not among them."""
        if step not in self.steps:
            raise CheckpointError(f"{self.directory} has no checkpoint of step {step}; it has "
                                  f"{', '.join(map(str, self.steps))}")
        return {name: stack[self.steps.index(step)] for name, stack in self._tensors.items()}


def open_run(place):
    """The checkpoints at a place: a run's directory or a packed file."""
    return Packed(place) if Path(place).suffix == ".safetensors" else CheckpointStore(place)


def _remedy(path):
    names = [path.name, path.with_suffix(".json").name]
    git = ["git", "-C", str(path.parent), "restore", *names]
    return f"restore it and the file beside it: {shlex.join(git)}"


@functools.lru_cache(maxsize=2)
def _read(path, expected):
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {_remedy(path)}"
                              ) from error
    if sha256(data) != expected:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the one in "
                              f"{path.with_suffix('.json').name}; {_remedy(path)}")
    try:
        return dict(sorted(load(data).items()))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}); {_remedy(path)}"
                              ) from error
