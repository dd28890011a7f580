"""Checkpoints: whole or absent, refused by name when they are not what the manifest says."""

import json
import os
import pickle
import re
import stat
from pathlib import Path

import pytest
import torch

import companion
import devlib
from devlib import files
from devlib.checkpoints import MANIFEST, CheckpointStore
from devlib.errors import CheckpointError, UserError
from devlib.files import make_directory, settings_hash, sha256, write_atomic, write_json
from devlib.sealed import write_sealed

SETTINGS = {"kind": "tests", "seed": 0, "rate": 0.1}


def tensors(step):
    gen = torch.Generator().manual_seed(step)
    return {"b": torch.randn(3, generator=gen), "a.weight": torch.randn(2, 5, generator=gen),
            "c": torch.randn(1, 1, generator=gen).double()}


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path, SETTINGS)
    for step in (5, 0, 12):
        store.save(step, tensors(step), train_loss=0.5 + step)
    return store


def refused(directory, step, path, why):
    with pytest.raises(CheckpointError, match=why) as error:
        CheckpointStore(directory).load(step)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


# ------------------------------------------------------------------------------ round trip


def test_what_is_saved_is_loaded(store, tmp_path):
    for reader in (store, CheckpointStore(tmp_path), CheckpointStore(tmp_path, SETTINGS)):
        assert reader.steps == [0, 5, 12]
        for step in reader.steps:
            loaded, expected = reader.load(step), tensors(step)
            assert loaded.keys() == expected.keys()
            assert all(loaded[name].equal(expected[name]) for name in expected)
            assert all(loaded[name].dtype == expected[name].dtype for name in expected)


def test_tensors_come_in_sorted_order(store):
    """Safetensors writes them in another order in every process."""
    assert list(store.load(5)) == ["a.weight", "b", "c"]


def test_manifest_says_what_made_it(store, tmp_path):
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["settings"] == SETTINGS and manifest["hash"] == settings_hash(SETTINGS)
    assert manifest["made with"]["torch"] == torch.__version__.split("+")[0] or \
        manifest["made with"]["torch"] == torch.__version__
    entry = manifest["checkpoints"]["5"]
    assert entry["train_loss"] == 5.5
    assert entry["sha256"] == sha256(store.path(5).read_bytes())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])


def test_file_names(store, tmp_path):
    assert sorted(os.listdir(tmp_path)) == [
        MANIFEST, "step_0000000.safetensors", "step_0000005.safetensors",
        "step_0000012.safetensors"]


def test_the_same_checkpoint_has_the_same_bytes(tmp_path):
    """An order of chance, as that of several entries of its metadata, would show among ten."""
    found = set()
    for number in range(10):
        store = CheckpointStore(make_directory(tmp_path / str(number)), SETTINGS)
        store.save(7, tensors(7))
        found.add(store.path(7).read_bytes())
    assert len(found) == 1


def test_saving_again_replaces(store, tmp_path):
    store.save(5, tensors(6))
    assert CheckpointStore(tmp_path).load(5)["b"].equal(tensors(6)["b"])


def test_has(store):
    assert store.has(5) and not store.has(6)
    store.path(5).unlink()
    assert not store.has(5)


# ------------------------------------------------------------------------- what is refused


def test_every_changed_byte_is_refused(store, tmp_path):
    path = store.path(5)
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        refused(tmp_path, 5, path, "damaged or of another run")


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x00" * 64])
def test_a_file_that_is_no_checkpoint(store, tmp_path, content):
    store.path(5).write_bytes(content)
    refused(tmp_path, 5, store.path(5), "damaged")


def test_a_checkpoint_of_another_step_or_run(store, tmp_path):
    store.path(5).write_bytes(store.path(0).read_bytes())
    refused(tmp_path, 5, store.path(5), "damaged or of another run")
    other = CheckpointStore(make_directory(tmp_path / "other"), SETTINGS | {"seed": 1})
    other.save(12, tensors(12))
    store.path(12).write_bytes(other.path(12).read_bytes())
    refused(tmp_path, 12, store.path(12), "damaged or of another run")


def test_a_missing_file(store, tmp_path):
    store.path(5).unlink()
    refused(tmp_path, 5, store.path(5), "is missing; train the run again")


def test_a_step_that_was_never_saved(store, tmp_path):
    refused(tmp_path, 7, tmp_path, "no checkpoint of step 7; it has 3, from 0 to 12")
    empty = CheckpointStore(make_directory(tmp_path / "empty"), SETTINGS)
    with pytest.raises(CheckpointError, match="it has none"):
        empty.load(0)


def test_a_directory_without_a_run(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=f"no run in {place}"):
            CheckpointStore(place)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("change", [
    lambda text: "", lambda text: text[:-20], lambda text: "[]", lambda text: "null",
    lambda text: "{}", lambda text: text.replace('"checkpoints"', '"checkpoint"'),
    lambda text: text.replace('"rate": 0.1', '"rate": 0.2'),
    lambda text: text.replace('"seed": 0', '"seed": 1'),
    lambda text: text.replace('"hash": "', '"hash": "0'),
    lambda text: text.replace('"sha256"', '"sha255"'), lambda text: text.replace('"5"', '"_"'),
    lambda text: re.sub('"checkpoints": {.*?}.*?}.*?}.*?}', '"checkpoints": [1]', text,
                        flags=re.DOTALL)])
def test_a_damaged_manifest(store, tmp_path, change):
    path = tmp_path / MANIFEST
    path.write_text(change(path.read_text()))
    for settings in (None, SETTINGS):
        with pytest.raises(CheckpointError, match="is damaged") as error:
            CheckpointStore(tmp_path, settings)
        assert str(path) in str(error.value)


def test_a_manifest_that_is_not_text(store, tmp_path):
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        CheckpointStore(tmp_path)


@pytest.mark.parametrize("other", [{"seed": 1}, {"rate": 0.1000001}, {"new": None}])
def test_a_run_with_other_settings(store, tmp_path, other):
    before = (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(CheckpointError, match=f"{tmp_path} holds a run with other settings"):
        CheckpointStore(tmp_path, SETTINGS | other)
    assert (tmp_path / MANIFEST).read_bytes() == before


# ---------------------------------------------------------------------- a stranger's code


class Payload:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_a_strangers_checkpoint_runs_no_code(store, tmp_path):
    """The whole directory is the stranger's, so that the sha256 is right."""
    trace = tmp_path / "trace"
    data = pickle.dumps(Payload(trace))
    store.path(5).write_bytes(data)
    store.manifest["checkpoints"]["5"]["sha256"] = sha256(data)
    write_sealed(tmp_path / MANIFEST, store.manifest)
    refused(tmp_path, 5, store.path(5), "is no safetensors file")
    assert not trace.exists()
    pickle.loads(data)  # the trap does work
    assert trace.exists()


def test_nothing_in_the_library_unpickles():
    words = (r"import c?pickle|torch\.load\((?!.*weights_only=True)|joblib\.load\(|allow_pickle|"
             r"\bread_pickle\(")
    for room in (devlib, companion):
        for path in Path(room.__file__).parent.rglob("*.py"):
            assert not re.search(words, path.read_text()), path


# --------------------------------------------------------------------------------- files


class Crash(BaseException):
    pass


@pytest.mark.parametrize("at", ["fsync", "chmod", "replace"])
def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch, at):
    path = tmp_path / "table"
    write_atomic(path, b"old")

    def crash(*args):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(files.os, at, crash)
        with pytest.raises(Crash):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["table"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_save_that_fails_leaves_the_store_as_it_was(store, tmp_path, monkeypatch):
    real = os.replace
    for dies in (1, 2):  # at the checkpoint, at the manifest
        calls = []

        def replace(source, target, calls=calls, dies=dies):
            calls.append(target)
            if len(calls) == dies:
                raise Crash
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", replace)
            with pytest.raises(Crash):
                CheckpointStore(tmp_path).save(20, tensors(20))
        after = CheckpointStore(tmp_path)
        assert after.steps == [0, 5, 12] and not after.has(20)
        for step in after.steps:
            after.load(step)


def test_written_files_can_be_read_by_others(tmp_path):
    write_json(tmp_path / "file", {"b": 1, "a": [0.1]})
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert (tmp_path / "file").read_text() == '{\n "a": [\n  0.1\n ],\n "b": 1\n}\n'


def test_make_directory(tmp_path):
    assert make_directory(tmp_path / "a" / "b").is_dir()
    assert not os.listdir(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"cannot write to {bad}"):
            make_directory(bad)


def test_settings_hash():
    assert settings_hash({"a": 1, "b": {"c": 2.5}}) == settings_hash({"b": {"c": 2.5}, "a": 1})
    hashes = {settings_hash(s) for s in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1.5}, {"a": "1"},
                                         {"a": None}, {"a": {"a": 1}})}
    assert len(hashes) == 7
    assert all(re.fullmatch("[0-9a-f]{12}", h) for h in hashes)
