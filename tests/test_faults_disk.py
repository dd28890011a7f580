"""A full disk, one that cannot be written, two processes at once: a clear line or a wait, nothing
torn, and the same results afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from companion import presets, results, runs
from companion.cli import main
from companion.compute import parallel
from companion.corpus.offline import offline_corpus
from companion.mend import mend
from companion.places import project_root
from companion.presets import Preset
from devlib.errors import UserError
from devlib.locks import lock_path, locked
from devlib.sampling.draws import Draws
from devlib.sampling.sgld import SGLD
from devlib.settings import RegressionEvaluation, replace
from tests.companion.test_results import TINY
from tests.corpus_archives import write_all
from tests.killing import processes, run_victim
from tests.test_faults_kill import finished, tables

CASES = Path(__file__).parent / "notebook_cases"
SIZE = 2**20  # bytes of the small disk
PAGE = os.sysconf("SC_PAGESIZE")
SMALL = replace(TINY, evaluation=RegressionEvaluation(samples=100, curve_checkpoints=4))
NAME = "regression-doubled-seed0"


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place],
                           capture_output=True, text=True) if os.geteuid() == 0 else None
    if mount is None or mount.returncode:
        pytest.skip("mounting a small disk takes root, or is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(autouse=True)
def scale(tmp_path, monkeypatch):
    """The preset "tiny", all in this process, and no tables of the repository."""
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", SMALL))
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    monkeypatch.setattr(runs, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr("companion.mend.project_root", lambda: tmp_path)
    monkeypatch.setenv("DEVLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    place = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "COMMITTED", place / "committed")
        tables(place)
    return csv_of(place)


def csv_of(place):
    return {path.name: path.read_bytes() for path in (place / "tiny" / NAME).glob("*.csv")}


def fill(disk, left):
    """Leaves so many bytes."""
    free = os.statvfs(disk).f_bavail * PAGE
    (disk / "filler").write_bytes(bytes(free - left))


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and "make room, or name another disk" in text
    return text


# -------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize("pages", [0, 4, 12, 18, 24])
def test_a_full_disk(pages, disk, monkeypatch, unbroken):
    """From the first file to the last table."""
    monkeypatch.setenv("DEVLIB_RUNS", str(disk))
    fill(disk, pages * PAGE)
    with pytest.raises(UserError, match="No space left") as error:
        results.regression("tiny", 0, recompute=True)
    one_line(error)
    assert mend() == []  # what is there is whole
    done = finished(disk)
    (disk / "filler").unlink()
    results.regression("tiny", 0, recompute=True)
    assert csv_of(disk) == unbroken
    assert {path: finished(disk)[path] for path in done} == done


def ends(arguments, capfd):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    printed = capfd.readouterr()
    assert end.value.code == 2 and printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("companion: cannot ")
    return printed.err


def test_commands_on_a_full_disk(disk, capfd):
    page = CASES / "01_sum.py"
    fill(disk, 0)
    for command in (["train", "--preset", "tiny"], ["run", page, "-p", "recompute", "false"]):
        assert "No space left" in ends([*command, "--runs", disk], capfd)
    assert not [path for path in disk.rglob("*")
                if path.is_file() and path.stat().st_size and path.name != "filler"]


def test_a_corpus_on_a_full_disk(disk, tmp_path, monkeypatch):
    lock = write_all(disk / "archives")
    expected = offline_corpus(300, write_all(tmp_path / "cache" / "archives"))
    monkeypatch.setenv("DEVLIB_CACHE", str(disk))
    fill(disk, 0)
    with pytest.raises(UserError) as error:
        offline_corpus(300, lock)
    one_line(error)
    (disk / "filler").unlink()
    assert offline_corpus(300, lock).train.tolist() == expected.train.tolist()


def test_draws_on_a_full_disk(disk):
    draws = Draws(np.zeros((2, 500)), np.zeros((2, 500)), 0.0, SGLD(1e-3, 10, 1), 0, 4, 0)
    fill(disk, 0)
    with pytest.raises(UserError, match="No space left") as error:
        draws.save(disk / "draws.nc")
    one_line(error)
    assert [path.name for path in disk.iterdir()] == ["filler"]


# ---------------------------------------------------------------- one that cannot be written


def read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def test_a_read_only_directory(disk, tmp_path, monkeypatch, capfd):
    read_only(disk)
    for command in (["train", "--preset", "tiny"], ["run", CASES / "01_sum.py"]):
        assert "Read-only file system" in ends([*command, "--runs", disk / "runs"], capfd)
    monkeypatch.setenv("DEVLIB_RUNS", str(disk))
    monkeypatch.setenv("DEVLIB_CACHE", str(disk))
    lock = write_all(tmp_path / "archives")
    for work in (lambda: results.regression("tiny", 0, recompute=True),
                 lambda: offline_corpus(300, lock)):
        with pytest.raises(UserError, match=r"cannot write to .*Read-only file system.*another"
                           ) as error:
            work()
        assert "\n" not in str(error.value)


def test_finished_work_is_read_from_a_read_only_directory(disk, monkeypatch, unbroken):
    tables(disk)
    lock = write_all(disk / "archives")
    monkeypatch.setenv("DEVLIB_RUNS", str(disk))
    monkeypatch.setenv("DEVLIB_CACHE", str(disk))
    corpus = offline_corpus(300, lock)
    read_only(disk)
    for recompute in (True, False):
        found = results.regression("tiny", 0, recompute=recompute)
        assert len(found["llc"]) == 4
    assert offline_corpus(300, lock).train.tolist() == corpus.train.tolist()


# ------------------------------------------------------------------------- two at the same time


def test_two_runs_at_once(tmp_path, unbroken):
    """Both end with the tables, and every checkpoint and row was written once."""
    place, count = tmp_path / "runs", tmp_path / "count"
    place.mkdir()
    context = processes()
    start = context.Barrier(2)
    both = [context.Process(target=_counted, args=(place, count, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(3_000)
    assert [process.exitcode for process in both] == [0, 0]
    assert csv_of(place) == unbroken
    written = [*place.rglob("*_step_*.json"), *place.rglob("step_*.safetensors")]
    assert count.stat().st_size == len(written) > 10


def _counted(place, count, start):
    from tests.killing import arm

    arm("renamed", "*step_*", 10**9, count)  # a moment that does not come, but is counted
    start.wait(60)
    tables(place)


HOLD = """
import os, signal, sys
from devlib.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def holder(folder, how):
    return subprocess.Popen([sys.executable, "-c", HOLD, folder, how], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": str(project_root())})


def test_the_second_waits_and_says_so(tmp_path):
    folder = tmp_path / "folder"
    with locked(folder), locked(folder):  # again in one process
        other = holder(folder, "ends")
        assert other.stderr.readline() == (
            f"devlib: another process is at work in {folder}; waiting for it to end\n")
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "held\n" and other.returncode == 0
    assert list(folder.iterdir()) == []


def test_a_lock_dies_with_its_process(tmp_path, capfd):
    folder = tmp_path / "folder"
    dead = holder(folder, "dies")
    assert dead.communicate(timeout=60)[0] == "held\n" and dead.returncode == -signal.SIGKILL
    assert lock_path(folder).exists()
    with locked(folder):
        pass
    assert capfd.readouterr().err == ""


def test_half_written_files_of_the_dead_are_removed(tmp_path):
    context, place = processes(), tmp_path / "runs"
    place.mkdir()
    code = run_victim(context, tables, [place],
                      ("written", "*/step_*", 2, tmp_path / "count"))
    assert code == -signal.SIGKILL and len(list(place.rglob(".*.part"))) == 1
    tables(place)
    assert not list(place.rglob(".*.part"))
