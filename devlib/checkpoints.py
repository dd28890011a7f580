"""Checkpoints: how they are stored, and how a bad one is refused.

A run's directory holds `manifest.json` (settings, seed, versions, and for each step the file's
sha256, its time and the training loss) and `step_0000984.safetensors` files. Nothing is pickled:
a checkpoint from a stranger cannot run code.
"""

import time
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from devlib.errors import CheckpointError
from devlib.files import provenance, settings_hash, sha256, write_atomic
from devlib.sealed import read_sealed, write_sealed

MANIFEST = "manifest.json"
REMEDY = "set it aside, then train the run again"


class CheckpointStore:
    """The checkpoints of one run in one directory. Raises CheckpointError if the directory already
    holds a run with other settings."""

    def __init__(self, directory, settings: dict | None = None):
        self.directory = Path(directory)
        self._path = self.directory / MANIFEST
        if self._path.exists():
            self.manifest = read_manifest(self._path)
            if settings is not None and self.manifest["hash"] != settings_hash(settings):
                raise CheckpointError(
                    f"{self.directory} holds a run with other settings; give this run another "
                    "directory, or delete that one")
        elif settings is None:
            raise CheckpointError(f"no run in {self.directory}: {MANIFEST} is missing; train it "
                                  "first, or correct the path")
        else:
            self.manifest = {"hash": settings_hash(settings), "settings": settings,
                             "made with": provenance(), "checkpoints": {}}
            write_sealed(self._path, self.manifest)

    @property
    def steps(self) -> list[int]:
        return sorted(int(step) for step in self.manifest["checkpoints"])

    @property
    def loadable(self) -> list[int]:
        """The steps whose files are there, which of a run that was carried are not all."""
        return [step for step in self.steps if self.has(step)]

    def has(self, step) -> bool:
        """Whether the checkpoint's file is there."""
        return str(step) in self.manifest["checkpoints"] and self.path(step).exists()

    def left(self, step) -> bool:
        """Whether it was left behind on another machine, and is not to be made again."""
        return self.manifest["checkpoints"].get(str(step), {}).get("left", False)

    def path(self, step) -> Path:
        return self.directory / f"step_{step:07d}.safetensors"

    def save(self, step, tensors, **facts):
        """Stores one checkpoint: the file first, then its line in the manifest."""
        # one entry: several would be written in an order of chance
        data = save(tensors, {"checkpoint": f"run {self.manifest['hash']}, step {step}"})
        write_atomic(self.path(step), data)
        self.manifest["checkpoints"][str(step)] = {
            "sha256": sha256(data), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **facts}
        write_sealed(self._path, self.manifest)

    def load(self, step) -> dict:
        """The tensors of one checkpoint. Raises CheckpointError, naming the file, if it is
        missing, damaged or foreign."""
        path = self.path(step)
        entry = self.manifest["checkpoints"].get(str(step))
        if entry is None:
            raise CheckpointError(f"{self.directory} has no checkpoint of step {step}; it has "
                                  f"{_spell(self.steps)}")
        if not path.exists():
            remedy = REMEDY if self.left(step) else "train the run again (finished steps are kept)"
            raise CheckpointError(f"checkpoint {path} is missing; {remedy}")
        data = path.read_bytes()
        if sha256(data) != entry["sha256"]:
            raise CheckpointError(f"checkpoint {path} is damaged or of another run: its sha256 is "
                                  f"not the manifest's; {REMEDY}")
        try:
            return dict(sorted(load(data).items()))  # safetensors' order is a process's own
        except SafetensorError as error:
            raise CheckpointError(f"checkpoint {path} is no safetensors file ({error})") from error


def read_manifest(path, remedy=REMEDY) -> dict:
    """A run's manifest. Raises CheckpointError, naming the file and the remedy, if it is not a
    whole one."""
    try:
        manifest = read_sealed(path)
        manifest["hash"], manifest["checkpoints"]
        if manifest["hash"] != settings_hash(manifest["settings"]):
            raise ValueError("its hash is not that of its settings")
        for step, entry in manifest["checkpoints"].items():
            int(step), entry["sha256"]
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {remedy}") from error


def _spell(steps):
    return "none" if not steps else f"{len(steps)}, from {steps[0]} to {steps[-1]}"
