"""`python -m companion sweep`: the grid is checked whole, no finished cell runs twice, and one that
fails stops no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from companion import presets, results
from companion.cli import main
from companion.compute import parallel
from companion.results import finished_runs, regression
from companion.site import page_runs, reruns, sweep
from devlib.errors import UserError
from devlib.settings import replace
from tests.companion.test_results import TINY, Calls, inject

CASES = Path(__file__).parents[2] / "notebook_cases"
SUM = str(CASES / "01_sum.ipynb")
GRID = [SUM, "--seeds", "0-1"]

PAGE = '''\
# %% tags=["parameters"]
preset: str = "smoke"  # the scale of the page
seed: int = 0  # of the page
recompute: bool = False  # compute anew
scale: float = 1.0  # factor

# %%
import atexit
import os
import signal
import threading
from pathlib import Path

# as the sockets of a kernel sometimes say while it ends
atexit.register(os.write, 2, b"Assertion failed: pfd.revents & POLLIN (src/signaler.cpp:238)\\n")

runs = Path(os.environ["DEVLIB_RUNS"])
with (runs / "started").open("a") as file:
    file.write(f"{seed} {scale}\\n")
if seed == 1 and not (runs / "killed").exists():
    (runs / "killed").touch()
    os.kill(os.getppid(), signal.SIGKILL)  # the sweep itself
    threading.Event().wait(60)  # the kernel ends when it sees that its parent is gone
if (seed, scale) == (2, 0.5):
    raise RuntimeError("no half")
'''


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "01_page.py"
    path.write_text(PAGE)
    return str(path)


# ------------------------------------------------------------------------------------- the grid


@pytest.mark.parametrize("text, found", [("0-4", [0, 1, 2, 3, 4]), ("0,2,5", [0, 2, 5]),
                                         ("7", [7]), ("3-3, 0-1", [3, 0, 1])])
def test_seeds(text, found):
    assert sweep.seeds(text) == found


BAD = {
    "seeds missing": ([SUM], "the following arguments are required: --seeds"),
    "seeds in words": ([SUM, "--seeds", "one"], "as in 0-4 or 0,2,5, not 'one'"),
    "seeds backwards": ([SUM, "--seeds", "4-0"], "not '4-0'"),
    "negative seed": ([SUM, "--seeds=-1"], "not '-1'"),
    "seed not whole": ([SUM, "--seeds", "0.5"], "not '0.5'"),
    "seed left out": ([SUM, "--seeds", "0,"], "not '0,'"),
    "other digits": ([SUM, "--seeds", "\u0663"], "not '\u0663'"),
    "seed twice": ([SUM, "--seeds", "0-2,1"], "seed 1 is given twice"),
    "too many seeds": ([SUM, "--seeds", "0-999999999999"], "at most 10,000 cells, not 1,000,000"),
    "too many cells": ([SUM, "--seeds", "0-99", "--set", "count=" + ",".join(
        map(str, range(101)))], "at most 10,000 cells, not 10,100"),
    "notebook": (["03_absent", "--seeds", "0"], "no notebook '03_absent'"),
    "preset": ([*GRID, "--preset", "big"], "no preset 'big'"),
    "no value": ([*GRID, "--set", "count"], "--set takes NAME=VALUE,VALUE"),
    "empty value": ([*GRID, "--set", "count=1,,2"], "--set takes NAME=VALUE,VALUE"),
    "parameter": ([*GRID, "--set", "sede=3"], "01_sum has no parameter 'sede'; it takes preset"),
    "parameter twice": ([*GRID, "--set", "count=1", "--set", "count=2"], "count is given twice"),
    "type": ([*GRID, "--set", "count=3,3.5"], "count takes a whole number, not '3.5'"),
    "nan": ([*GRID, "--set", "scale=nan"], "scale takes a finite number, not 'nan'"),
    "the same cell": ([*GRID, "--set", "scale=1e-1,0.1"], "smoke-seed0-scale=0.1 is given twice"),
    "seed as parameter": ([*GRID, "--set", "seed=1"], "give the seeds with --seeds"),
    "recompute": ([*GRID, "--set", "recompute=false"], "recompute cannot be set"),
    "jobs": ([*GRID, "--jobs", "0"], "--jobs takes 1 or more, not 0"),
    "jobs not a number": ([*GRID, "--jobs", "two"], "invalid int value: 'two'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_grid_is_one_line_and_starts_nothing(case, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    arguments, message = BAD[case]
    preset = [] if "--preset" in arguments else ["--preset", "smoke"]
    with pytest.raises(SystemExit) as end:
        main(["sweep", *arguments, *preset])
    printed = capfd.readouterr()
    assert (end.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert message in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["0", "-2"])
def test_a_parameter_is_held_to_its_bounds(value, tmp_path):
    with pytest.raises(UserError, match=f"eps takes a finite number above 0, not '{value}'"):
        sweep.cells("stage_boundaries", "smoke", [0], {"eps": ["1", value]}, tmp_path)


def test_the_first_cell_of_a_seed_goes_before_those_that_share_its_checkpoints(
        tmp_path, monkeypatch):
    cells = sweep.cells(SUM, "smoke", [0, 1], {"count": ["3", "4"]}, tmp_path)
    waves, done = [], set()

    def each(function, items, jobs, label):
        waves.append(([job.name for job in items], jobs))
        for job in items:
            function(job)

    def run_job(job, bar, LOKY_MAX_CPU_COUNT):
        done.add((job.name, LOKY_MAX_CPU_COUNT))

    monkeypatch.setattr(parallel, "each", each)
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    monkeypatch.setattr(page_runs, "run_job", run_job)
    monkeypatch.setattr(reruns, "finished", lambda job: any(job.name == name for name, _ in done))
    outcome = sweep.sweep(cells)
    first, others = ["smoke-seed0", "smoke-seed1"], ["smoke-seed0-count=4", "smoke-seed1-count=4"]
    assert waves == [(first, 2), (others, 2)]
    assert {cores for _, cores in done} == {"2"}  # two cells at once share four cores
    assert str(outcome) == "4 cells: 4 done, 0 done before"


# ---------------------------------------------------------------------------------- what happens


def test_a_killed_sweep_goes_on_and_a_failing_cell_stops_no_other(page, tmp_path, capfd):
    runs = tmp_path / "runs"
    command = ["sweep", page, "--preset", "smoke", "--seeds", "0-2", "--runs", str(runs)]
    killed = subprocess.run([sys.executable, "-m", "companion", *command, "--jobs", "1"],
                            cwd=tmp_path, capture_output=True)
    assert killed.returncode == -9
    assert (runs / "started").read_text().split("\n") == ["0 1.0", "1 1.0", ""]
    kept = (runs / "smoke-seed0" / "metrics.json").stat().st_mtime_ns
    with pytest.raises(SystemExit) as end:
        main([*command, "--set", "scale=1,0.5", "--jobs", "2"])
    printed = capfd.readouterr()
    name = "smoke-seed2-scale=0.5"
    log = runs / name / "notebooks" / "01_page.log"
    assert end.value.code == 2
    assert printed.err == f"companion: 6 cells: 4 done, 1 done before, 1 failed: {name} ({log})\n"
    assert "RuntimeError: no half" in log.read_text()
    assert sorted((runs / "started").read_text().split("\n")[2:-1]) == sorted(
        ["1 1.0", "2 1.0", "0 0.5", "1 0.5", "2 0.5"])
    assert (runs / "smoke-seed0" / "metrics.json").stat().st_mtime_ns == kept
    main([*command, "--jobs", "1"])
    assert capfd.readouterr().out == "3 cells: 0 done, 3 done before\n"


# --------------------------------------------------------------------------- another sampler


def test_another_sampler_has_tables_of_its_own_and_the_same_checkpoints(tmp_path, monkeypatch):
    place, calls = inject(monkeypatch, tmp_path), Calls(monkeypatch)
    base = regression("tiny", 0, recompute=True)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert calls.since()[0] == TINY.training.steps
    other = regression("tiny", 0, recompute=True, llc={"eps": 1e-5, "gamma": None})
    assert calls.since() == (0, 0, len(base["llc"]))  # the chains, and nothing else
    assert {path: path.read_bytes() for path in before} == before
    assert other["evaluation"].equals(base["evaluation"])
    assert "tiny preset with eps 1e-05, seed 0" in other.description
    own = place.with_name("regression-doubled-eps=1e-05-seed0")
    assert sorted(path.name for path in own.iterdir()
                  if path.suffix and not path.name.startswith(".")) == [
        "evaluation.csv", "llc.csv", "manifest.json", "seconds.json"]
    twin = replace(presets.PRESETS["tiny"], name="twin", regression=replace(
        TINY, llc=replace(TINY.llc, eps=1e-5)))
    monkeypatch.setitem(presets.PRESETS, "twin", twin)
    assert regression("twin", 0, recompute=True)["llc"].equals(other["llc"])
    assert finished_runs("tiny") == [("doubled", 0)]
    adopted = results.adopt("tiny", 0)
    assert not [path for path in adopted if "eps" in path.name]


@pytest.mark.parametrize("llc", [{"eps": 0.0}, {"nbeta": -1.0}, {"gamma": float("nan")}])
def test_a_sampler_out_of_range_is_refused(llc):
    with pytest.raises(UserError, match=f"{next(iter(llc))} must be a finite number"):
        results.regression_settings("smoke", llc=llc)


def test_cores_are_shared(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert parallel.cores() == 1
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    assert 1 <= parallel.cores() <= os.cpu_count()
