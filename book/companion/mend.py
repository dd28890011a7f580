"""Finds every damaged file of the runs and of the cache, and sets it aside.

Nothing is deleted: FILE becomes FILE.damaged. What is set aside is made again, and only that, by
the command that made it first. The files of the repository itself are only named: git has them.
"""

import os
from pathlib import Path

from companion.corpus import files as corpus_files
from companion.curve import read_rows
from companion.packed import Packed
from companion.places import cache_directory, project_root, runs_directory
from companion.results import MANIFEST, SECONDS, load, spent
from devlib.checkpoints import CheckpointStore
from devlib.errors import UserError
from devlib.files import storing
from devlib.resume import read_state

ASIDE = ".damaged"


def mend(runs=None) -> list[str]:
    """Sets aside what is damaged in the runs directory and among the corpora of the cache; returns
    a line for each damaged file, those of the repository included."""
    runs, data = Path(runs or runs_directory()), project_root() / "data"
    lines = [f"{path.parent}: {error}" for path, error in damaged_runs(data)]
    for path, error in damaged_runs(runs):
        lines.append(_set_aside(path, error))
    for folder, error in damaged_corpora(cache_directory() / "corpora"):
        lines.append(_set_aside(folder, error))
    return lines


def damaged_runs(place):
    """(file, what is wrong with it) of every damaged file of ours below a folder."""
    for path in sorted(Path(place).rglob("*")):
        kind = _kind(path)
        if kind:
            yield from kind(path)


def damaged_corpora(place):
    """(folder, what is wrong with it) of every damaged corpus below a folder."""
    for folder in sorted(path for path in Path(place).glob("*") if path.is_dir()):
        if folder.suffix == ASIDE or not corpus_files.is_complete(folder):
            continue
        error = _problem(corpus_files.open_streams, folder)
        if error:
            yield folder, error


def _kind(path):
    """How to check a file, None for one that is not ours or is checked with its manifest."""
    if path.name == MANIFEST:
        return _run if path.parent.name == "checkpoints" or _has_steps(path.parent) else _tables
    if path.name == "resume.safetensors":
        return _one(read_state)
    if path.name == SECONDS:
        return _one(spent)
    if path.suffix == ".safetensors" and path.with_suffix(".json").exists():
        return _one(Packed)
    if path.suffix == ".json" and ("_step_" in path.name or path.parent.name == "jobs"):
        return _one(read_rows)
    return None


def _has_steps(folder):
    return next(folder.glob("step_*.safetensors"), None) is not None


def _one(read):
    def check(path):
        error = _problem(read, path)
        if error:
            yield path, error
    return check


def _run(path):
    """A run's manifest, or each checkpoint that is not what it says."""
    error = _problem(CheckpointStore, path.parent)
    if error:
        yield path, error
        return
    store = CheckpointStore(path.parent)
    for step in store.steps:
        error = store.path(step).exists() and _problem(store.load, step)
        if error:
            yield store.path(step), error


def _tables(path):
    """A folder's manifest. With it aside, the tables are made again from the measurements that
    lie beside them."""
    error = _problem(load, path.parent)
    if error:
        yield path, error


def _problem(read, what):
    try:
        read(what)
    except UserError as error:
        return str(error)


def _set_aside(path, error):
    aside = path.with_name(path.name + ASIDE)
    with storing(aside):
        os.replace(path, aside)
    return f"{aside}: {error.split('; ')[0]}"
