"""The state of a run between two updates: one atomic file, refused when it is not whole or not
this run's."""

import hashlib
import json

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from devlib.devices import to_numpy
from devlib.errors import CheckpointError
from devlib.files import write_atomic

REMEDY = "set it aside, then train the run again, from its beginning"


def save_state(path, tensors: dict, facts: dict):
    """All that the next update depends on: tensors, and facts as strings, with their sha256."""
    write_atomic(path, save(tensors, facts | {"sha256": digest(tensors, facts)}))


def load_state(path, run) -> tuple[dict, dict]:
    """The inverse of `save_state`. Raises CheckpointError if the file is damaged, or if its fact
    "run" is not `run`."""
    tensors, facts = read_state(path)
    if facts.get("run") != run:
        raise CheckpointError(f"{path} belongs to another run; delete it, or name another "
                              "directory")
    return tensors, facts


def read_state(path) -> tuple[dict, dict]:
    """The same, of whichever run."""
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {REMEDY}") from error
    if facts.pop("sha256", None) != digest(tensors, facts):
        raise CheckpointError(f"{path} is damaged (its sha256 is another); {REMEDY}")
    return tensors, facts


def digest(tensors, facts) -> str:
    """sha256 of a state: safetensors itself notices no changed number."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(to_numpy(tensor).tobytes())
    return found.hexdigest()
