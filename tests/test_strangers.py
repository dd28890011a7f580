"""What strangers give: files that are code in disguise run nothing, whatever reads them, and the
versions that we install are checked for known holes."""

import io
import os
import pickle
import re
import zipfile
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch

from companion import packed, results
from companion.corpus import files as corpus_files
from companion.corpus.hub import hub_corpus
from companion.curve import read_rows
from companion.packed import Packed
from companion.places import project_root
from companion.released import load_released
from devlib.checkpoints import MANIFEST, CheckpointStore
from devlib.errors import UserError
from devlib.files import settings_hash, sha256
from devlib.resume import read_state
from devlib.sampling import Chains
from devlib.sampling.draws import Draws
from devlib.sealed import write_sealed
from tests.audit import ENVIRONMENT, audit

RUN = {"hash": "", "settings": {}, "made with": {}}


class Trap:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def plain(trap):
    return pickle.dumps(trap)


def torch_file(trap):
    buffer = io.BytesIO()
    torch.save({"model": {"embed.W_E": trap}}, buffer)
    return buffer.getvalue()


def old_torch_file(trap):
    buffer = io.BytesIO()
    torch.save({"embed.W_E": trap}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def joblib_file(trap):
    buffer = io.BytesIO()
    joblib.dump(trap, buffer)
    return buffer.getvalue()


def numpy_file(trap):
    """What numpy.load(allow_pickle=True) would run."""
    array = np.empty(1, object)
    array[0] = trap
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zip_file(trap):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap))
    return buffer.getvalue()


FORMATS = [plain, torch_file, old_torch_file, joblib_file, numpy_file, zip_file]


# Each puts the bytes where a file of ours would be, with the right name and, where there is one,
# the right sha256 beside it, since the whole folder may be the stranger's; and then reads it.


def run_manifest(**more):
    return RUN | {"hash": settings_hash({}), "checkpoints": {}} | more


def checkpoint(folder, data):
    (folder / "step_0000005.safetensors").write_bytes(data)
    write_sealed(folder / MANIFEST, run_manifest(
        checkpoints={"5": {"sha256": sha256(data)}}))
    CheckpointStore(folder).load(5)


def packed_checkpoints(folder, data):
    (folder / "few.safetensors").write_bytes(data)
    write_sealed(folder / "few.json", run_manifest(
        checkpoints={"5": {"sha256": ""}}, file=sha256(data)))
    packed._read.cache_clear()
    Packed(folder / "few.safetensors").load(5)


def resume(folder, data):
    (folder / "resume.safetensors").write_bytes(data)
    read_state(folder / "resume.safetensors")


def released(folder, data):
    (folder / "checkpoint_0000005.pth").write_bytes(data)
    load_released(folder / "checkpoint_0000005.pth")


def draws(folder, data):
    (folder / "draws.nc").write_bytes(data)
    Draws.read(folder / "draws.nc")


def chains(folder, data):
    (folder / "chains.safetensors").write_bytes(data)
    Chains.load(folder / "chains.safetensors", None, None, None, None)


def manifest(folder, data):
    (folder / MANIFEST).write_bytes(data)
    results.load(folder)


def rows(folder, data):
    (folder / "0_step_0000005.json").write_bytes(data)
    read_rows(folder / "0_step_0000005.json")


def corpus(folder, data):
    (folder / MANIFEST).write_bytes(data)
    corpus_files.open_streams(folder)


READERS = [checkpoint, packed_checkpoints, resume, released, draws, chains, manifest, rows, corpus]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("disguise", FORMATS)
def test_a_pickle_with_the_right_name_does_not_run(read, disguise, tmp_path):
    trace, folder = tmp_path / "trace", tmp_path / "stranger"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        read(folder, disguise(Trap(trace)))
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("disguise, loads", [
    (plain, lambda path: pickle.loads(path.read_bytes())),
    (torch_file, lambda path: torch.load(path, weights_only=False)),
    (old_torch_file, lambda path: torch.load(path, weights_only=False)),
    (joblib_file, joblib.load)])
def test_the_traps_do_work(disguise, loads, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(disguise(Trap(tmp_path / "trace")))
    loads(path)
    assert (tmp_path / "trace").exists()


def test_a_table_is_text(tmp_path):
    """A table whose bytes are a pickle, and its manifest the stranger's: read as text at most."""
    data = plain(Trap(tmp_path / "trace"))
    (tmp_path / "llc.csv").write_bytes(data)
    write_sealed(tmp_path / MANIFEST, {"tables": {"llc": sha256(data)}})
    with pytest.raises(UserError, match=r"llc\.csv is no table"):
        results.load(tmp_path)
    assert not (tmp_path / "trace").exists()


def test_a_dataset_brings_no_script(tmp_path, monkeypatch):
    """datasets once ran NAME/NAME.py of whoever made the dataset."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "stranger.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'trace')!r})\n")
    monkeypatch.setenv("DEVLIB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cannot read the dataset .*--corpus offline"):
        hub_corpus(300, None, folder, folder)
    assert not (tmp_path / "trace").exists()


def test_no_reader_of_pickles_in_the_sources():
    words = (r"\bc?pickle\b|\bdill\b|torch\.load\((?!.*weights_only=True)|joblib\.load\(|"
             r"allow_pickle|\bread_pickle\(|trust_remote_code|\bshelve\b|\bmarshal\b")
    for folder in ("devlib", "notebooks", "book/_ext", "book/companion"):
        for path in (project_root() / folder).rglob("*.py"):
            assert not re.search(words, path.read_text()), path


# ------------------------------------------------------------------ the versions we install


def test_the_pins_have_no_known_holes():
    """`make audit`, which CI runs too. It asks a service on the network: where there is none, or
    where pip-audit is not installed, there is nothing to say."""
    verdict, words = audit()
    if verdict is None:
        pytest.skip(words)
    assert verdict, words


@pytest.mark.parametrize("answer, verdict, words", [
    ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', True, "1 pins, no known"),
    ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", '
     '"fix_versions": ["2"]}]}]}', False, "a 1: X-1, mended in 2"),
    ("Connection refused", None, "cannot be reached"), ("no such option", False, "no such option")])
def test_what_an_audit_says(answer, verdict, words, tmp_path):
    assert audit(tmp_path) == (None, "pip-audit is not installed here; make audit installs it")
    (tmp_path / ENVIRONMENT / "bin").mkdir(parents=True)
    (tmp_path / ENVIRONMENT / "bin" / "python").write_text("")
    asked = []

    def run(command, **options):
        asked.extend(command)
        return SimpleNamespace(stdout=answer, stderr=answer)

    (tmp_path / "requirements.txt").write_text("a==1\n")
    found, said = audit(tmp_path, run)
    assert found is verdict and words in said
    assert str(tmp_path / "requirements.txt") in asked
