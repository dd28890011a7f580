"""Work over processes and a dask cluster: the same tables wherever it ran, and clear refusals."""

import builtins
import functools
import gc
import os
import socket
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from companion import presets, regression
from companion.cli import main
from companion.compute import cluster as clusters
from companion.compute import parallel
from companion.curve import rows
from devlib.checkpoints import CheckpointStore
from devlib.errors import UserError
from devlib.regression.train import train

distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")

from dask_cluster import Cluster, KillsItsWorker, refuses, surroundings  # noqa: E402

SMOKE = presets.SMOKE.regression
SETTINGS = replace(SMOKE, training=replace(SMOKE.training, stop=120),
                   llc=replace(SMOKE.llc, draws=20, burn_in=5, chains=2))


PAGE = '''\
# %% tags=["parameters"]
preset: str = "smoke"  # the scale of the page
seed: int = 0  # of the page
recompute: bool = False  # compute anew

# %%
import os
from pathlib import Path

from companion.compute.parallel import cores

(Path(os.environ["DEVLIB_RUNS"]) / f"kernel-{seed}").write_text(
    f"{seed} {cores()} {os.getppid()}")
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A runs directory with a short run's checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    train(SETTINGS, 3, folder / "checkpoints", compile=False)
    return folder


@pytest.fixture(autouse=True)
def own_runs(runs, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(runs))
    monkeypatch.delenv("DEVLIB_CLUSTER", raising=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers, in processes of their own."""
    made = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        made.add_workers(2)
        yield made
    finally:
        made.stop()


def curve(runs, name, jobs=None, wrap=lambda measure: measure) -> pd.DataFrame:
    """The LLC curve of the run, filed in a folder of that name."""
    store = CheckpointStore(runs / "checkpoints")
    measure = wrap(functools.partial(regression.measure_llc, SETTINGS, 3, False))
    return rows(measure, store, store.steps, runs / name, {}, name, jobs)


@pytest.fixture(scope="module")
def reference(runs):
    """The curve, computed in this process."""
    return curve(runs, "here", jobs=1)


def test_two_processes_give_the_same_table(runs, reference):
    assert len(reference) > 4 and reference.llc.notna().all()
    pd.testing.assert_frame_equal(curve(runs, "two", jobs=2), reference, check_exact=True)


def test_a_cluster_gives_the_same_table_and_files_each_checkpoint(
        runs, reference, cluster, monkeypatch):
    monkeypatch.setenv("DEVLIB_CLUSTER", cluster.address)
    found = curve(runs, "cluster")
    pd.testing.assert_frame_equal(found, reference, check_exact=True)
    assert len(list((runs / "cluster").glob("*.json"))) == len(reference)
    monkeypatch.setenv("DEVLIB_CLUSTER", "tcp://127.0.0.1:1")  # nothing is left to compute
    pd.testing.assert_frame_equal(curve(runs, "cluster"), reference, check_exact=True)


def test_a_piece_finds_one_thread_one_core_and_the_runs_of_who_asked(runs, cluster, monkeypatch):
    monkeypatch.setenv("DEVLIB_CLUSTER", cluster.address)
    found = parallel.each(surroundings, range(6))
    assert {facts[:-1] for facts in found} == {(1, 1, str(runs), None)}
    assert {facts[-1] for facts in found} == {p.pid for p in cluster.processes[1:]}
    assert not list(runs.glob(".cluster-*"))


def test_results_come_in_order_and_an_error_comes_back(cluster):
    assert parallel.each(abs, [-3, 1, -2], cluster=cluster.address) == [3, 1, 2]
    with pytest.raises(UserError, match=r"^no soup today$"):
        parallel.each(refuses, ["soup"], cluster=cluster.address)
    assert parallel.each(abs, [], cluster="tcp://127.0.0.1:1") == []  # nobody is asked


def test_a_sweep_sends_each_page_to_a_worker(cluster, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DEVLIB_CLUSTER", "")  # main sets it, and it goes with the test
    page = tmp_path / "01_page.py"
    page.write_text(PAGE)
    found = tmp_path / "runs"
    main(["sweep", str(page), "--preset", "smoke", "--seeds", "0-2", "--runs", str(found),
          "--cluster", cluster.address])
    assert capfd.readouterr().out == "3 cells: 3 done, 0 done before\n"
    told = [path.read_text().split() for path in found.glob("kernel-*")]
    assert sorted(seed for seed, _, _ in told) == ["0", "1", "2"]
    assert {one_core for _, one_core, _ in told} == {"1"}
    assert {int(parent) for _, _, parent in told} <= {p.pid for p in cluster.processes[1:]}


def test_a_worker_killed_in_mid_curve(runs, reference, cluster, monkeypatch):
    """Its checkpoint goes to the other worker; the curve is the same."""
    monkeypatch.setenv("DEVLIB_CLUSTER", cluster.address)
    before, marker = cluster.alive(), runs / "killed"
    found = curve(runs, "killed-curve", wrap=lambda measure: KillsItsWorker(measure, marker))
    assert marker.exists() and cluster.alive() == before - 1
    pd.testing.assert_frame_equal(found, reference, check_exact=True)


def test_a_piece_that_ends_its_workers_is_given_up(tmp_path):
    """Where dask is told to let no piece end a second worker; its own rule is four."""
    made = Cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    try:
        made.add_workers(1)
        with pytest.raises(UserError, match="a piece of work ended the worker .* time after time "
                                            r".1., .*goes on where it was"):
            parallel.each(os._exit, [1], cluster=made.address)
        assert made.alive() == 1  # the scheduler
    finally:
        made.stop()


# -------------------------------------------------------------------- what a user can get wrong


def nobody_listens() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("address", ["nobody", "host", "tcp://", "ftp://127.0.0.1:8786", ""])
def test_no_scheduler_is_one_line_before_any_work(address, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "TIMEOUT", 2)
    address = nobody_listens() if address == "nobody" else address
    with pytest.raises(UserError, match="no dask scheduler answers at"):
        clusters.check(address)
    # a client that closes itself later, when it is collected, can stop another's start for ever
    assert {thing.status for thing in gc.get_objects()
            if type(thing) is distributed.Client} <= {"closed", "newly-created"}


def test_the_command_says_so_and_ends_with_2(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(clusters, "TIMEOUT", 2)
    monkeypatch.chdir(tmp_path)
    for command in (["run", "02_stage_boundaries"], ["reproduce"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--preset", "smoke", "--cluster", nobody_listens()])
        said = capfd.readouterr()
        assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
        assert said.err.startswith("companion: no dask scheduler answers at 'tcp://127.0.0.1:")
    assert not list(tmp_path.iterdir()) and "DEVLIB_CLUSTER" not in os.environ


def test_a_scheduler_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "TIMEOUT", 2)
    made = Cluster(tmp_path)
    try:
        with pytest.raises(UserError, match=f"has no workers; start some with: dask worker "
                                            f"{made.address} --nworkers auto --nthreads 1"):
            parallel.each(abs, [1], cluster=made.address)
    finally:
        made.stop()


def test_without_dask(monkeypatch):
    def absent(name, *rest, original=builtins.__import__):
        if name.split(".")[0] in ("dask", "distributed"):
            raise ModuleNotFoundError(name=name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match="a cluster needs dask; pip install dask distributed"):
        parallel.each(abs, [1], cluster="tcp://127.0.0.1:8786")


def told(threads=1, theirs=None, sees=True):
    """A client of one worker that answers so."""
    def run(question, *_, **__):
        return {"tcp://w:1": sees if question is clusters._sees else
                clusters.versions() if theirs is None else theirs}

    return SimpleNamespace(
        wait_for_workers=lambda *_, **__: None, run=run,
        scheduler_info=lambda **_: {"workers": {"tcp://w:1": {"nthreads": threads}}})


@pytest.mark.parametrize(("answers", "message"), [
    ({"threads": 4}, "worker tcp://w:1 takes 4 pieces at a time, in threads.*--nthreads 1"),
    ({"theirs": clusters.versions() | {"torch": "2.0.0"}},
     r"worker tcp://w:1 has torch 2\.0\.0, not .* as here; install the same versions"),
    ({"theirs": clusters.versions() | {"devlib": "other"}}, "has devlib other, not"),
    ({"theirs": ModuleNotFoundError("No module named 'devlib'")},
     "worker tcp://w:1 cannot run devlib .No module named 'devlib'.; install it there"),
    ({"sees": False}, "worker tcp://w:1 cannot see, or not write, .*--runs or the variable")])
def test_a_worker_that_is_not_fit_is_named(answers, message):
    clusters.check_workers(told(), "tcp://s:1")
    with pytest.raises(UserError, match=message):
        clusters.check_workers(told(**answers), "tcp://s:1")
