"""The smoke preset ten times in a row in one process: the same tables, and no memory kept."""

import ctypes
import gc
import hashlib
import sys

import psutil
import pytest

from companion import results, results_language, runs
from companion.compute import parallel
from companion.places import runs_directory

ROUNDS = 10
MORE = 1.05  # of the memory after the second round, which has compiled and cached what is to be


def round_of_tables(folder, monkeypatch) -> str:
    """sha256 over every table that smoke computes of its models, from nothing."""
    monkeypatch.setenv("DEVLIB_RUNS", str(folder))
    results.regression("smoke", 0, recompute=True)
    results.development("smoke", 0, recompute=True)
    results.hessian("smoke", 0, recompute=True)
    results.check("smoke", 0, recompute=True)
    results_language.language("smoke", 0, recompute=True)
    digest = hashlib.sha256()
    paths = sorted(runs_directory().rglob("*.csv"))
    assert len(paths) > 10
    for path in paths:
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def memory() -> int:
    """Resident bytes, once what is free has been given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_ten_times(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 1)  # everything in this process
    monkeypatch.setattr(runs, "COMMITTED", tmp_path / "committed")
    found, used = [], []
    for number in range(ROUNDS):
        found.append(round_of_tables(tmp_path / f"round{number}", monkeypatch))
        used.append(memory())
        print(f"round {number + 1}: {used[-1] / 2**20:.1f} MiB, tables {found[-1][:12]}",
              flush=True)
    assert len(set(found)) == 1
    assert used[-1] <= MORE * used[1], used
