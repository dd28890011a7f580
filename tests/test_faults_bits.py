"""One bit turned over anywhere in what devlib keeps: seen, named, not believed, and mended by one
command."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companion import packed, presets, results, runs
from companion.cli import main
from companion.compute import parallel
from companion.corpus import hub as corpus_hub
from companion.corpus.files import open_streams
from companion.corpus.offline import offline_corpus
from companion.curve import read_rows
from companion.mend import mend
from companion.packed import Packed, pack
from companion.places import project_root
from companion.presets import Preset
from companion.program import PROGRAM
from devlib.checkpoints import MANIFEST, CheckpointStore
from devlib.errors import CheckpointError, UserError
from devlib.files import write_json
from devlib.regression.train import train
from devlib.resume import load_state
from devlib.sealed import read_sealed, write_sealed
from tests.companion.test_results import TINY
from tests.corpus_archives import write_all

VOCABULARY = 300
FLIPS = 10  # of each kind of file
NAME = "regression-doubled-seed0"


class Broken(Exception):
    pass


def environment(patch, folder):
    patch.setenv("DEVLIB_RUNS", str(folder / "runs"))
    patch.setenv("DEVLIB_CACHE", str(folder / "cache"))
    patch.setattr(runs, "COMMITTED", folder / "committed")
    patch.setattr(parallel, "cores", lambda: 1)
    patch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", TINY))
    patch.setattr("companion.mend.project_root", lambda: folder)  # whose data/ is not there


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with its tables, checkpoints packed, an offline corpus, and a hub's corpus
    that broke off: everything that lies on a disk and is read again."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, folder)
        results.regression("tiny", 0, recompute=True)
        run = folder / "runs" / "tiny" / NAME
        store = CheckpointStore(run / "checkpoints")
        pack(store, store.steps[:3], folder / "packed" / "few.safetensors")
        offline_corpus(VOCABULARY, write_all(folder / "cache" / "archives"))
        (folder / "tokens").mkdir()
        ids = np.random.default_rng(0).integers(0, VOCABULARY, (30, 16)).tolist()
        pd.DataFrame({"tokens": ids}).to_parquet(folder / "tokens" / "train-0-of-1.parquet")
        hub(folder, patch, dies=3)
    return folder


def hub(folder, patch, dies=10**9):
    """The hub's corpus, broken off at its `dies`-th record of where it is."""
    import datasets

    calls, real = iter(range(1, 10**9)), corpus_hub.write_sealed

    def record(path, value):
        real(path, value)
        if next(calls) == dies:
            raise Broken

    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "huggingface")
    patch.setattr(corpus_hub, "TOGETHER", 4)
    with patch.context() as inner:
        inner.setattr(corpus_hub, "write_sealed", record)
        try:
            return corpus_hub.hub_corpus(VOCABULARY, None, folder / "tokens", folder / "tokens")
        except Broken:
            return None


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    environment(monkeypatch, copy)
    packed._read.cache_clear()  # what was read before the damage was sound
    return copy


def run_of(folder):
    return folder / "runs" / "tiny" / NAME


def read_checkpoint(folder, path):
    store = CheckpointStore(path.parent)
    return store.load(int(path.stem.removeprefix("step_")))


def read_resume(folder, path):
    return load_state(path, CheckpointStore(path.parent).manifest["hash"])


def read_packed(folder, path):
    packed._read.cache_clear()
    return Packed(path.with_suffix(".safetensors"))


KINDS = {  # files, how they are read
    "checkpoints": ("runs/tiny/*/checkpoints/step_*", read_checkpoint),
    "resume state": ("runs/tiny/*/checkpoints/resume.safetensors", read_resume),
    "run's manifest": ("runs/tiny/*/checkpoints/manifest.json",
                       lambda folder, path: CheckpointStore(path.parent)),
    "packed checkpoints": ("packed/few.safetensors", read_packed),
    "packed manifest": ("packed/few.json", read_packed),
    "tables": ("runs/tiny/*/*.csv", lambda folder, path: results.load(path.parent)),
    "tables' manifest": (f"runs/tiny/*/{MANIFEST}",
                         lambda folder, path: results.load(path.parent)),
    "rows of checkpoints": ("runs/tiny/*/*/*_step_*.json", lambda folder, path: read_rows(path)),
    "seconds": ("runs/tiny/*/seconds.json", lambda folder, path: results.spent(path)),
    "corpus": ("cache/corpora/offline-*/*", lambda folder, path: open_streams(path.parent)),
}


def flips():
    """(kind, which file, which bit), as parts of the whole number there are of each."""
    gen = np.random.default_rng(7)
    return [(kind, number, *gen.random(2).tolist()) for kind in KINDS for number in range(FLIPS)]


def turn(path, where):
    """Turns over the bit at this part of a file's length; returns the sound bytes."""
    data = path.read_bytes()
    bit = int(where * 8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    return data


def test_there_are_a_hundred():
    assert len(flips()) == 100


@pytest.fixture(scope="module")
def shared(made, tmp_path_factory):
    copy = tmp_path_factory.mktemp("shared") / "copy"
    shutil.copytree(made, copy)
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_is_seen_and_named(kind, shared):
    pattern, read = KINDS[kind]
    paths = sorted(shared.glob(pattern))
    assert paths
    for path in paths:
        read(shared, path)
    for _, _, which, where in (flip for flip in flips() if flip[0] == kind):
        path = paths[int(which * len(paths))]
        sound = turn(path, where)
        with pytest.raises(UserError) as error:
            read(shared, path)
        path.write_bytes(sound)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert re.search(f"{PROGRAM} mend|git -C|; set it aside, then train the run again",
                         str(error.value))


@pytest.mark.parametrize("name", ["train.part", "train.place.json"])
def test_one_bit_in_a_corpus_that_broke_off(name, folder, monkeypatch):
    # the place of the data is part of what the corpus is: read it where it was made
    path, = (folder / "cache" / "corpora").glob(f"hub-*/{name}")
    tokens = json.loads(next(path.parent.glob("train.place.json")).read_text())["tokens"]
    for where in np.random.default_rng(1).random(10):
        sound = turn(path, where if name.endswith("json") else
                     where * tokens * 2 / path.stat().st_size)
        with pytest.raises(UserError, match=f"{path.parent}/train.part .*is damaged.* mend"):
            corpus_hub._found(path.parent / "train.bin", path.parent / "train.part",
                              path.parent / "train.place.json")
        path.write_bytes(sound)


def test_every_bit_of_a_sealed_file(tmp_path):
    path = tmp_path / "file.json"
    content = {"a": [1e-5, None, "é"], "b": {"1": -0.5}}
    write_sealed(path, content)
    assert read_sealed(path) == content
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        turn(path, (bit + 0.5) / (8 * len(data)))
        with pytest.raises(ValueError):
            read_sealed(path)
        path.write_bytes(data)


# --------------------------------------------------------------------------- one command


def damaged(folder, pattern):
    path = sorted(folder.glob(pattern))[0]
    turn(path, 0.5)
    return path


@pytest.mark.parametrize("kind", ["checkpoints", "resume state", "run's manifest", "tables",
                                  "tables' manifest", "rows of checkpoints", "seconds"])
def test_mend_and_the_same_command_again(kind, made, folder, capsys):
    """The tables come out the same, and what was sound is not computed again."""
    place = run_of(folder)
    expected = {path.name: path.read_bytes() for path in run_of(made).glob("*.csv")}
    path = damaged(folder, KINDS[kind][0])
    rows = {row: row.stat().st_mtime_ns for row in place.glob("*/*_step_*.json") if row != path}
    main(["mend"])
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder}/runs/") and ".damaged: " in line and str(path) in line
    if kind in ("rows of checkpoints", "seconds"):
        (place / MANIFEST).unlink()  # or else the tables are finished, and nothing is read
    if kind in ("checkpoints", "resume state", "run's manifest"):
        assert train(TINY, 0, place / "checkpoints").steps == CheckpointStore(
            run_of(made) / "checkpoints").steps
    results.regression("tiny", 0, recompute=True)
    assert {path.name: path.read_bytes() for path in place.glob("*.csv")} == expected
    assert {row: row.stat().st_mtime_ns for row in rows} == rows
    for step in CheckpointStore(place / "checkpoints").steps:
        one, two = (CheckpointStore(run_of(root) / "checkpoints").load(step)
                    for root in (folder, made))
        assert all(one[name].equal(two[name]) for name in two)
    main(["mend"])
    assert capsys.readouterr().out == "nothing is damaged\n"


def test_mend_a_corpus(made, folder):
    corpora = folder / "cache" / "corpora"
    path = damaged(folder, "cache/corpora/offline-*/train.bin")
    line, = mend()
    assert str(path) in line
    offline_corpus(VOCABULARY, folder / "cache" / "corpus.lock.txt")
    name = Path(f"offline-{VOCABULARY}") / "train.bin"
    assert (corpora / name).read_bytes() == (made / "cache" / "corpora" / name).read_bytes()


def test_what_git_holds_is_restored_by_the_command_of_the_message(folder):
    place = folder / "packed"
    for command in (["init", "--quiet"], ["add", "."],
                    ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], cwd=place, check=True)
    path = place / "few.safetensors"
    sound = path.read_bytes()
    turn(path, 0.9)
    with pytest.raises(CheckpointError) as error:
        Packed(path)
    subprocess.run(shlex.split(str(error.value).split(": ")[-1]), check=True)
    assert path.read_bytes() == sound
    Packed(path)


# ------------------------------------------------------------------- files without a digest


def test_every_manifest_of_the_repository_is_sealed():
    data = project_root() / "data"
    packs = [path.with_suffix(".json") for path in data.rglob("*.safetensors")]
    found = [*data.rglob("manifest.json"), *(path for path in packs if path.exists())]
    assert found
    for path in found:
        read_sealed(path)


@pytest.mark.parametrize("kind", ["run's manifest", "packed manifest", "tables' manifest",
                                  "rows of checkpoints", "seconds"])
def test_a_file_without_its_digest_is_refused(kind, folder):
    pattern, read = KINDS[kind]
    path = sorted(folder.glob(pattern))[0]
    write_json(path, read_sealed(path))
    with pytest.raises(UserError, match=f"{path}.*it has no digest"):
        read(folder, path)
