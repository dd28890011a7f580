"""Kill -9 at any moment: the rerun ends with the same results, and computes nothing twice.

Each case is a piece of work, a moment and a file (tests/kill_hook/kill_at.py). What is killed
first runs in a process of its own; then the same work runs here, to its end.
"""

import json
import os
import shutil
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from companion import presets, results
from companion.cli import main
from companion.compute import parallel
from companion.corpus import hub as corpus_hub
from companion.corpus.contexts import training_batch
from companion.corpus.offline import offline_corpus
from companion.corpus.toy import toy_corpus
from companion.presets import Preset
from companion.regression import llc_table
from devlib.checkpoints import MANIFEST, CheckpointStore
from devlib.regression.train import train
from devlib.settings import RegressionEvaluation, replace
from tests.companion.test_results import TINY
from tests.corpus_archives import write_all
from tests.killing import command, processes, run_victim

CASES = Path(__file__).parent / "notebook_cases"
VOCABULARY = 300
LANGUAGE = replace(presets.SMOKE.language, training=replace(
    presets.SMOKE.language.training, steps=30, stop=30, batch=2))
SMALL = replace(TINY, evaluation=RegressionEvaluation(samples=100, curve_checkpoints=4))


# ---------------------------------------------------------------- the work, each to its end


def training(place):
    train(TINY, 0, place / "checkpoints", save_every=0)


def language(place):
    from devlib.language import train as training_language

    text = toy_corpus(64, 50, 10)
    model, size = LANGUAGE.model, LANGUAGE.training.batch
    training_language.train(
        LANGUAGE, 0, lambda step: training_batch(text, 0, step, size, model.context), "toy",
        place / "checkpoints", precision="float32", save_every=0)


def curve(place):
    store = train(TINY, 0, place / "checkpoints")
    with patch.object(parallel, "cores", lambda: 1):
        llc_table(store, store.steps[::2], TINY, 0, place / "llc")


def curve_on_two_cores(place):
    store = train(TINY, 0, place / "checkpoints")
    with patch.object(parallel, "cores", lambda: 2):
        llc_table(store, store.steps[::2], TINY, 0, place / "llc")


def tables(place):
    with (patch.dict(os.environ, DEVLIB_RUNS=str(place)),
          patch.dict(presets.PRESETS, tiny=Preset("tiny", "-", SMALL)),
          patch.object(parallel, "cores", lambda: 1)):
        results.regression("tiny", 0, recompute=True)


def offline(place):
    lock = place / "corpus.lock.txt"
    if not lock.exists():  # archives carry the time when they were made
        write_all(place / "archives")
    with patch.dict(os.environ, DEVLIB_CACHE=str(place)):
        offline_corpus(VOCABULARY, lock)


def hub(place):
    import datasets

    folder = place / "tokens"
    if not folder.exists():
        folder.mkdir()
        gen = np.random.default_rng(0)
        pd.DataFrame({"tokens": gen.integers(0, VOCABULARY, (30, 16)).tolist()}).to_parquet(
            folder / "train-00000-of-00001.parquet")
    with (patch.dict(os.environ, DEVLIB_CACHE=str(place)),
          patch.object(corpus_hub, "TOGETHER", 4),
          patch.object(datasets.config, "HF_DATASETS_CACHE", place / "huggingface")):
        corpus_hub.hub_corpus(VOCABULARY, None, folder, folder)


def page(place):
    folder = place / "pages"
    folder.mkdir(exist_ok=True)
    shutil.copy(CASES / "01_sum.py", folder)
    with patch.dict(os.environ, DEVLIB_RUNS=str(place)):
        main(["run", str(folder / "01_sum.py"), "--preset", "smoke"])


def book(place):
    """A book of one page, whose tables are `tables`."""
    root = place / "root"
    (root / "book").mkdir(parents=True, exist_ok=True)
    (root / "notebooks").mkdir(exist_ok=True)
    (root / "book" / "intro.md").write_text("# Intro\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/01_sum\n")
    (root / "_config.yml").write_text('title: T\nexecute: {execute_notebooks: "off"}\n')
    shutil.copy(CASES / "01_sum.py", root / "notebooks")
    from companion import reproduce
    from companion.site import book_copy

    build_copy = book_copy.build_copy
    with (patch.object(book_copy, "build_copy", lambda *scale: build_copy(*scale, root=root)),
          patch.object(reproduce, "compute_tables", lambda *scale: tables(place))):
        main(["reproduce", "--preset", "smoke", "--runs", str(place)])


# ------------------------------------------------------- what has to be the same, and to stay


def run_of(place):
    """Weights and training loss of every checkpoint."""
    store = CheckpointStore(place / "checkpoints")
    return {step: ({name: part.tolist() for name, part in store.load(step).items()},
                   store.manifest["checkpoints"][str(step)]["train_loss"]) for step in store.steps}


def files_of(*patterns):
    def found(place):
        return {path.relative_to(place): path.read_bytes()
                for pattern in patterns for path in sorted(place.glob(pattern))}
    return found


def streams_of(place):
    """By name: a folder's depends on where the data come from."""
    return {path.name: path.read_bytes() for path in place.glob("corpora/*/*.bin")}


def html_of(place):
    built = place / "smoke-seed0" / "book" / "_build" / "html"
    return {name: (built / name).read_bytes()
            for name in ("book/intro.html", "notebooks/01_sum.html")} | files_of("tiny/*/*.csv")(
        place)


def finished(place):
    """What is done and must not be done again, by its inode and the time it was written:
    checkpoints that a manifest lists, and rows."""
    done = list(place.rglob("*_step_*.json"))
    for manifest in place.rglob("checkpoints/" + MANIFEST):
        store = CheckpointStore(manifest.parent)
        done += [store.path(step) for step in store.steps]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in done}


WORK = {"training": (training, run_of), "language": (language, run_of),
        "curve": (curve, files_of("llc/*.json")),
        "curve on two cores": (curve_on_two_cores, files_of("llc/*.json")),
        "tables": (tables, files_of("tiny/*/*.csv", "tiny/*/*/*_step_*.json")),
        "offline corpus": (offline, streams_of),
        "hub corpus": (hub, streams_of),
        "page": (page, files_of("smoke-seed0/notebooks/01_sum.ipynb")),
        "book": (book, html_of)}

MOMENTS = [
    ("training", "before", "*/step_*", 4, 3),  # the last number: what must be finished by then
    ("training", "written", "*/checkpoints/manifest.json", 5, 3),
    ("training", "renamed", "*/resume.safetensors", 15, 4),
    ("language", "renamed", "*/step_*", 3, 2),
    ("language", "written", "*/resume.safetensors", 10, 3),
    ("curve", "before", "*/llc/*_step_*.json", 1, 7),
    ("curve", "written", "*/llc/*_step_*.json", 2, 8),
    ("curve", "renamed", "*/llc/*_step_*.json", 3, 10),
    ("tables", "renamed", "*/seconds.json", 1, 7),
    ("tables", "written", "*/evaluation/*_step_*.json", 4, 10),
    ("tables", "renamed", "*/evaluation.csv", 1, 18),
    ("tables", "written", "*-seed0/manifest.json", 1, 18),
    ("offline corpus", "before", "*/train.bin", 1, 0),
    ("offline corpus", "renamed", "*/validation.bin", 1, 0),
    ("offline corpus", "written", "*/manifest.json", 1, 0),
    ("hub corpus", "renamed", "*/train.place.json", 3, 0),
    ("hub corpus", "renamed", "*/train.bin", 1, 0),
    ("page", "written", "*/01_sum.ipynb", 1, 0),
    ("book", "renamed", "*/book/notebooks/01_sum.ipynb", 1, 18),
    ("book", "opened", "*/notebooks/01_sum.html", 1, 18),
    ("curve on two cores", "written", "*/llc/*_step_*.json", 3, 7),
]
SLOW = {"book", "curve on two cores"}


@pytest.fixture(scope="module")
def context():
    return processes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What each piece of work gives when nothing interrupts it."""
    known = {}

    def result(name):
        if name not in known:
            work, result_of = WORK[name]
            place = tmp_path_factory.mktemp("unbroken") / "place"
            place.mkdir()
            work(place)
            known[name] = result_of(place)
        return known[name]

    return result


@pytest.mark.parametrize("name, moment, pattern, number, least", [
    pytest.param(*case, marks=[pytest.mark.slow] if case[0] in SLOW else [],
                 id=f"{case[0]}: {case[2].rsplit('/', 1)[1]} {case[1]}") for case in MOMENTS])
def test_kill_9(name, moment, pattern, number, least, context, unbroken, tmp_path):
    work, result_of = WORK[name]
    place = tmp_path / "place"
    place.mkdir()
    expected = unbroken(name)
    code = run_victim(context, work, [place], (moment, pattern, number, tmp_path / "count"))
    assert code == -signal.SIGKILL
    done = finished(place)
    assert len(done) >= least
    work(place)
    assert result_of(place) == expected and expected
    assert {path: finished(place)[path] for path in done} == done
    if name != "page":  # nor is anything left behind, where one process holds the place
        assert not list(place.rglob(".*.part"))


# ------------------------------------------------------------------------ whole commands

COMMANDS = {  # arguments, moment, pattern, number
    "page, in mid-curve": (["run", "stage_boundaries", "--preset", "smoke"],
                           "written", "*/llc/*_step_*.json", 3),
    "page, tables written": (["run", "stage_boundaries", "--preset", "smoke"],
                             "written", "*-seed0/manifest.json", 1),
    "sweep, in its second cell": (["sweep", "stage_boundaries", "--seeds", "0-1", "--preset",
                                   "smoke", "--jobs", "1"],
                                  "written", "*-seed1/llc/*_step_*.json", 3),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of a command that nothing interrupts."""
    known = {}

    def result(arguments):
        key = json.dumps(arguments)
        if key not in known:
            place = tmp_path_factory.mktemp("whole")
            end = command(arguments, DEVLIB_RUNS=str(place))
            assert end.returncode == 0, end.stderr
            known[key] = files_of("**/*.csv")(place)
        return known[key]

    return result


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_kill_9_of_a_command(case, whole, tmp_path):
    arguments, moment, pattern, number = COMMANDS[case]
    place = tmp_path / "runs"
    place.mkdir()
    expected = whole(arguments)
    killed = command(arguments, moment, pattern, number, tmp_path / "count",
                     DEVLIB_RUNS=str(place))
    assert killed.returncode == -signal.SIGKILL
    done = finished(place)
    assert done
    again = command(arguments, DEVLIB_RUNS=str(place))
    assert again.returncode == 0, again.stderr
    assert files_of("**/*.csv")(place) == expected and expected
    assert {path: finished(place)[path] for path in done} == done
