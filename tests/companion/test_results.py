"""Tables: computed once, resumed where they stopped, refused when they are not what was made."""

import functools
import math
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from companion import checkpoint_rows, presets, results, runs
from companion import regression as tables_regression
from companion.compute import parallel
from companion.curve import rows
from companion.places import runs_directory
from companion.presets import Preset
from companion.regression import evaluation_table, llc_table
from companion.results import MANIFEST, Results, load, regression, save
from devlib.checkpoints import CheckpointStore
from devlib.errors import CheckpointError, UserError
from devlib.files import provenance
from devlib.llc import estimate_llc
from devlib.regression import train as regression_train
from devlib.regression.metrics import behaviour, evaluate, structure
from devlib.regression.model import build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.regression.train import Trainer, train
from devlib.sampling import SGLD, sample_chains
from devlib.settings import (
    LLCSettings,
    RegressionEvaluation,
    RegressionMetrics,
    RegressionModel,
    RegressionSettings,
    RegressionTask,
    RegressionTraining,
    StageSettings,
    replace,
)
from devlib.steps import thin
from tests.plain_twin import PlainTransformer

TINY = RegressionSettings(
    task=RegressionTask(task_dim=2, examples=2),
    model=RegressionModel(heads=2, embed_dim=8, mlp_dim=8),
    training=RegressionTraining(steps=40, stop=40, batch=8, log_checkpoints=8,
                                linear_checkpoints=4),
    llc=LLCSettings(batch=8, samples=64, chains=2, draws=12, burn_in=4),
    evaluation=RegressionEvaluation(samples=600, curve_checkpoints=5),
    stages=StageSettings(restarts=0))
NAME = "regression-doubled-seed0"


class Calls:
    """Counts calls of the three costly parts, and can break one of them off."""

    def __init__(self, monkeypatch):
        self.count = dict.fromkeys(("updates", "evaluations", "chains"), 0)
        self.limit = dict.fromkeys(self.count, math.inf)
        for name, place, attribute in (("updates", Trainer, "update"),
                                       ("evaluations", tables_regression, "evaluate"),
                                       ("chains", checkpoint_rows, "sample_chains")):
            monkeypatch.setattr(place, attribute, self.counted(name, getattr(place, attribute)))

    def counted(self, name, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            if self.count[name] >= self.limit[name]:
                raise KeyboardInterrupt
            self.count[name] += 1
            return function(*args, **kwargs)
        return call

    def since(self):
        """Counts since the last time."""
        found, self.count = self.count, dict.fromkeys(self.count, 0)
        return tuple(found.values())


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The folder of a run of the preset "tiny"; runs and committed tables lie in tmp_path."""
    return inject(monkeypatch, tmp_path)


def inject(monkeypatch, folder):
    monkeypatch.setenv("DEVLIB_RUNS", str(folder / "runs"))
    monkeypatch.setattr(runs, "COMMITTED", folder / "committed")
    monkeypatch.setattr(runs, "CHECKPOINTS", folder / "checkpoints")
    monkeypatch.setattr(parallel, "cores", lambda: 1)  # everything in this process
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "a preset of the tests", TINY))
    return folder / "runs" / "tiny" / NAME


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run of "tiny" that nothing interrupted, and its results."""
    with pytest.MonkeyPatch.context() as patch:
        folder = inject(patch, tmp_path_factory.mktemp("unbroken"))
        return folder, regression("tiny", 0, recompute=True)


@pytest.fixture
def calls(tiny, monkeypatch):
    return Calls(monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of TINY."""
    return train(TINY, 0, tmp_path_factory.mktemp("run"))


# -------------------------------------------------------------- what the tables say


def test_evaluation_by_the_plain_transformer(trained):
    """Loss, prediction size and norm of one checkpoint, context by context in float64."""
    params = trained.load(39)
    row = evaluate(build_model(TINY, 0), params, TINY, 0)
    twin = PlainTransformer(TINY.model, TINY.task)
    twin.load_state_dict(params)
    twin.double()
    xs, ys = (part.double() for part in fixed_set(0, "test", 600, TINY.task))
    predictions = torch.cat([twin(xs[i:i + 1], ys[i:i + 1]).detach() for i in range(600)])
    errors = (predictions - ys) ** 2
    expected = {
        "loss": errors.mean(), "loss_se": errors.mean(1).std() / 600**0.5,
        "loss_1": errors[:, 0].mean(), "loss_2": errors[:, 1].mean(),
        "msp": predictions.square().mean(),
        "msp_se": predictions.square().mean(1).std() / 600**0.5,
        "msp_1": predictions[:, 0].square().mean(), "msp_2": predictions[:, 1].square().mean(),
        "weight_norm": sum(p.double().square().sum() for p in params.values()).sqrt()}
    assert row == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_tables_are_the_measurements(trained, tiny):
    evaluation = evaluation_table(trained, TINY, 0, tiny / "evaluation")
    assert list(evaluation.step) == trained.steps
    facts = trained.manifest["checkpoints"]
    for row in evaluation.to_dict("records"):
        assert row["train_loss"] == facts[str(row["step"])]["train_loss"]
        measured = evaluate(build_model(TINY, 0), trained.load(row["step"]), TINY, 0)
        assert measured == {name: row[name] for name in measured}
    steps = thin(trained.steps, 3)
    llc = llc_table(trained, steps, TINY, 0, tiny / "llc")
    assert list(llc.step) == steps
    paper = presets.PAPER.regression.llc
    for row in llc.to_dict("records"):
        draws = sample_chains(
            per_sample_loss(build_model(TINY, 7)), trained.load(row["step"]),
            fixed_set(0, "llc", 64, TINY.task), SGLD(paper.eps, paper.nbeta, paper.gamma),
            chains=2, draws=12, burn_in=4, batch_size=8, seed=0, compile=False)
        estimate = estimate_llc(draws)
        for name, value in (("llc", estimate.mean), ("mcse", estimate.mcse),
                            ("ess", estimate.ess), ("init_loss", estimate.init_loss),
                            ("chain_sd", np.std(estimate.chain_means, ddof=1))):
            assert row[name] == pytest.approx(value, rel=1e-6), name
        assert row["diverged"] == row["escaping"] == 0


def test_two_processes_give_what_one_gives(trained, tiny):
    one = rows(Norm(), trained, trained.steps, tiny / "one", {}, "", jobs=1)
    two = rows(Norm(), trained, trained.steps, tiny / "two", {}, "", jobs=2)
    pd.testing.assert_frame_equal(one, two)


class Norm:
    def __call__(self, params):
        return {"norm": float(sum(p.square().sum() for p in params.values())),
                "threads": torch.get_num_threads()}


def test_results_hold_words_tables_and_provenance(unbroken, tiny):
    folder, found = unbroken
    assert isinstance(found, Results) and set(found.tables) == {"evaluation", "llc"}
    store = CheckpointStore(folder / "checkpoints")
    assert list(found["evaluation"].step) == store.steps
    assert list(found["llc"].step) == thin(store.steps, 5)
    assert found.description == "tiny preset, seed 0: a preset of the tests"
    manifest = found.manifest
    assert manifest["settings"]["training"]["steps"] == 40
    assert manifest["made with"] == provenance()
    assert set(manifest["seconds"]) == {"training", "evaluation", "llc"}
    assert found["llc"].llc.notna().all()


def test_two_runs_from_nothing_give_the_same_tables(unbroken, tiny):
    regression("tiny", 0, recompute=True)
    for table in ("evaluation.csv", "llc.csv"):
        assert (tiny / table).read_bytes() == (unbroken[0] / table).read_bytes()


# ------------------------------------------------------------------- never twice


def test_the_second_call_computes_nothing(calls, tiny):
    first = regression("tiny", 0, recompute=True)
    checkpoints = len(CheckpointStore(tiny / "checkpoints").steps)
    assert calls.since() == (40, checkpoints, 5)
    for recompute in (True, False):
        again = regression("tiny", 0, recompute=recompute)
        assert calls.since() == (0, 0, 0)
        for name in first.tables:
            pd.testing.assert_frame_equal(first[name], again[name])
    (tiny / MANIFEST).unlink()  # as a kill just before the end would leave it
    again = regression("tiny", 0, recompute=True)
    assert calls.since() == (0, 0, 0)
    for name in first.tables:
        pd.testing.assert_frame_equal(first[name], again[name])


def test_a_run_evaluated_alone_shares_its_pieces_with_its_curve(calls, tiny):
    alone = results.evaluation("tiny", 0, recompute=True)
    checkpoints = len(CheckpointStore(tiny / "checkpoints").steps)
    assert calls.since() == (40, checkpoints, 0) and list(alone.tables) == ["evaluation"]
    assert set(alone.manifest["seconds"]) == {"training", "evaluation"}
    assert results.finished_runs("tiny") == []
    assert list(results.evaluated_runs("tiny")) == [("doubled", 0)]
    both = regression("tiny", 0, recompute=True)
    assert calls.since() == (0, 0, 5)
    pd.testing.assert_frame_equal(both["evaluation"], alone["evaluation"])
    results.evaluation("tiny", 3, recompute=True)
    found = results.evaluated_runs("tiny")
    assert [(run, sorted(tables.tables)) for run, tables in found.items()] == [
        (("doubled", 0), ["evaluation", "llc"]), (("doubled", 3), ["evaluation"])]


@pytest.mark.parametrize("part, limit", [("updates", 20), ("evaluations", 3), ("chains", 0),
                                         ("chains", 4)])
def test_interrupted_it_completes_only_what_is_missing(calls, unbroken, tiny, monkeypatch, part,
                                                       limit):
    real = train
    monkeypatch.setattr(regression_train, "train", functools.partial(real, save_every=0))
    calls.limit[part] = limit
    with pytest.raises(KeyboardInterrupt):
        regression("tiny", 0, recompute=True)
    with pytest.raises(UserError, match="no results"):
        regression("tiny", 0)
    calls.limit[part] = math.inf
    done = calls.since()
    found = regression("tiny", 0, recompute=True)
    checkpoints = len(CheckpointStore(tiny / "checkpoints").steps)
    whole = (40, checkpoints, 5)
    assert calls.since() == tuple(np.subtract(whole, done))
    for name in found.tables:
        pd.testing.assert_frame_equal(found[name], unbroken[1][name])


def test_other_llc_settings_are_another_curve(calls, trained, tiny):
    steps, directory = trained.steps[:2], tiny / "llc"
    llc_table(trained, steps, TINY, 0, directory)
    assert calls.since()[2] == 2
    llc_table(trained, steps, TINY, 0, directory)
    assert calls.since()[2] == 0
    for settings, seed in (
            (replace(TINY, llc=replace(TINY.llc, eps=1e-4)), 0), (TINY, 1)):
        llc_table(trained, steps, settings, seed, directory)
        assert calls.since()[2] == 2
    llc_table(trained, trained.steps[:3], TINY, 0, directory)  # one checkpoint more
    assert calls.since()[2] == 1


def test_a_damaged_checkpoint_stops_the_curve_by_name(tmp_path, tiny):
    store = train(TINY, 0, tmp_path / "run")
    path = store.path(store.steps[2])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=str(path)):
        evaluation_table(store, TINY, 0, tiny / "evaluation")


def test_seconds_add_up_over_interrupted_goes(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 107.25])
    monkeypatch.setattr(results.time, "monotonic", lambda: next(clock))

    def broken_off():
        raise KeyboardInterrupt

    path = tmp_path / "seconds.json"
    with pytest.raises(KeyboardInterrupt):
        results._timed(path, "llc", broken_off)
    assert results._timed(path, "llc", lambda: "done") == "done"
    assert results.spent(path) == {"llc": 12.2}


# --------------------------------------------------------------- what is refused


@pytest.fixture
def saved(tmp_path):
    """A folder of tables, and its identity."""
    identity = {"preset": "smoke", "seed": 0, "settings": {"eps": 0.1, "chains": 3}}
    tables = {"one": pd.DataFrame({"step": [0, 10], "loss": [4.125, 1 / 3]}),
              "two": pd.DataFrame({"step": [1], "llc": [np.nan]})}
    save(tmp_path / "tables", tables, identity)
    return tmp_path / "tables", identity


def test_tables_are_read_back(saved):
    place, identity = saved
    for found in (load(place), load(place, identity)):
        assert found["one"].to_dict("list") == {"step": [0, 10], "loss": [4.125, 0.333333]}
        assert found["two"].llc.isna().all()
    assert (place / "one.csv").read_text() == "step,loss\n0,4.125\n10,0.333333\n"
    assert found.manifest["seed"] == 0


def test_every_changed_byte_of_a_table_is_refused(saved):
    place, identity = saved
    for name in ("one.csv", "two.csv"):
        path = place / name
        data = path.read_bytes()
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1
            path.write_bytes(changed)
            with pytest.raises(UserError, match="not the table that its manifest describes") as e:
                load(place, identity)
            assert str(path) in str(e.value)
        path.write_bytes(data)
    load(place, identity)


def test_a_missing_table(saved):
    place, identity = saved
    (place / "two.csv").unlink()
    with pytest.raises(UserError, match=r"two\.csv is missing"):
        load(place, identity)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"null", b"{}", b"\xff",
                                     b'{"tables": []}'])
def test_a_missing_or_damaged_manifest(saved, content):
    place, identity = saved
    path = place / MANIFEST
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for expected in (identity, None):
        with pytest.raises(UserError) as error:
            load(place, expected)
        assert str(place) in str(error.value)


@pytest.mark.parametrize("other", [{"seed": 1}, {"preset": "laptop"},
                                   {"settings": {"eps": 0.1, "chains": 4}}])
def test_other_settings(saved, other):
    place, identity = saved
    with pytest.raises(UserError, match=f"{place} was made with other settings"):
        load(place, identity | other)


def test_a_preset_that_changed_since(unbroken, tiny, monkeypatch):
    shutil.copytree(unbroken[0], tiny)
    changed = replace(TINY, llc=replace(TINY.llc, draws=13))
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", changed))
    for recompute in (True, False):
        with pytest.raises(UserError, match="was made with other settings"):
            regression("tiny", 0, recompute=recompute)


def test_nothing_there_and_recompute_off(calls, tiny):
    with pytest.raises(UserError) as error:
        regression("tiny", 3)
    assert "no results for preset 'tiny', seed 3" in str(error.value)
    assert ("recompute=True, or python -m companion run 02_stage_boundaries --preset tiny --seed 3"
            in str(error.value))
    assert calls.since() == (0, 0, 0) and not runs_directory().exists()


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None])
@pytest.mark.parametrize("recompute", [False, True])
def test_bad_seeds(calls, seed, recompute):
    with pytest.raises(UserError, match="seed must be"):
        regression("tiny", seed, recompute=recompute)
    assert calls.since() == (0, 0, 0) and not runs_directory().exists()


def test_bad_preset_and_residual(calls):
    with pytest.raises(UserError, match="no preset 'big'"):
        regression("big", 0, recompute=True)
    with pytest.raises(UserError, match="residual must be 'doubled' or 'standard'"):
        regression("tiny", 0, recompute=True, residual="tripled")
    assert not runs_directory().exists()


def test_a_directory_that_cannot_be_written(calls, tmp_path, monkeypatch):
    """Below a regular file not even root can write."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "file" / "runs"))
    with pytest.raises(UserError, match=r"cannot write to .*; name another directory"):
        regression("tiny", 0, recompute=True)
    assert calls.since() == (0, 0, 0)


# --------------------------------------------------------------- where tables lie


def test_committed_tables_come_first_and_recompute_ignores_them(unbroken, calls, tiny, tmp_path):
    shutil.copytree(unbroken[0], tiny)
    with pytest.raises(UserError, match="no finished tables of seed 1; compute them first"):
        results.adopt("tiny", 1)
    committed, packed = results.adopt("tiny", 0)
    assert committed == tmp_path / "committed" / "tiny" / NAME
    assert packed == tmp_path / "checkpoints" / "tiny" / f"{NAME}.safetensors"
    assert sorted(os.listdir(committed)) == ["evaluation.csv", "llc.csv", MANIFEST]
    path = committed / "llc.csv"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=str(path)):
        regression("tiny", 0)
    regression("tiny", 0, recompute=True)  # reads its own
    assert calls.since() == (0, 0, 0)


def test_a_reader_measures_the_committed_checkpoints(unbroken, calls, tiny, monkeypatch):
    """With reuse nothing is trained, and the tables are those of the run at these steps."""
    with pytest.raises(UserError, match="has no checkpoints of preset 'tiny', seed 0; leave reuse"):
        regression("tiny", 0, recompute=True, reuse=True)
    shutil.copytree(unbroken[0], tiny)
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", TINY, kept=4))
    results.adopt("tiny", 0)
    shutil.rmtree(tiny)
    kept = results.kept_checkpoints("tiny", 0)
    assert len(kept.steps) == 4
    found = regression("tiny", 0, recompute=True, reuse=True)
    assert calls.since()[0] == 0
    whole = unbroken[1]["evaluation"]
    expected = whole[whole.step.isin(kept.steps)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found["evaluation"], expected)
    with pytest.raises(CheckpointError, match="train it first"):
        results.kept_checkpoints("tiny", 0, recompute=True)


def test_development_tables_are_the_metrics(unbroken, tiny, trained, monkeypatch):
    metrics = RegressionMetrics(samples=64, ood_samples=64, attention_samples=16,
                                        gains=(3.0,), probes=16)
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", TINY, metrics=metrics))
    shutil.copytree(unbroken[0] / "checkpoints", tiny / "checkpoints")
    found = results.development("tiny", 0, recompute=True)
    steps = thin(trained.steps, TINY.evaluation.curve_checkpoints)
    for name in ("behaviour", "structure", "path"):
        assert list(found[name].step) == steps
    params = trained.load(steps[2])
    for name, row in (("behaviour", behaviour(build_model(TINY, 0), params, TINY, metrics, 0)),
                      ("structure", structure(params, metrics))):
        assert row == pytest.approx(found[name].iloc[2].drop("step").to_dict(), rel=1e-5)
    half_heads = TINY.model.layers * TINY.model.heads * 2
    assert len(found["heads"]) == len(steps) * half_heads
    assert found["explained"].explained.sum() <= 1 + 1e-6


def test_blocks_are_those_of_the_loss_and_of_the_behaviour(unbroken, tiny, trained, monkeypatch):
    """Of a run's checkpoints, and of those that the repository keeps of it."""
    metrics = RegressionMetrics(samples=128, ood_samples=64, gains=(3.0,))
    monkeypatch.setitem(presets.PRESETS, "tiny", Preset("tiny", "-", TINY, metrics=metrics, kept=3))
    shutil.copytree(unbroken[0], tiny)
    found = results.blocks("tiny", 0, recompute=True)["blocks"]
    steps = sorted(set(found.step))
    assert {*thin(trained.steps, 3)} <= {*steps}
    assert set(found.metric) == {"loss", "icl_early_slip", "icl_late_slip", "ood_input_3",
                                 "ood_task_3"}
    params = trained.load(steps[-1])
    row = behaviour(build_model(TINY, 0), params, TINY, metrics, 0)
    last = found[found.step == steps[-1]].set_index("metric").filter(like="block_")
    assert last.shape[1] == 64
    for name in ("icl_late_slip", "ood_task_3"):  # blocks of two contexts and of one
        assert last.loc[name].mean() == pytest.approx(row[name], rel=1e-4)
        assert last.loc[name].std() / 8 == pytest.approx(row[f"{name}_se"], rel=0.5)
    results.adopt("tiny", 0)
    shutil.rmtree(tiny.parent)
    kept = results.blocks("tiny", 0, recompute=True, reuse=True)["blocks"]
    expected = found[found.step.isin(kept.step)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept[kept.step.isin(steps)].reset_index(drop=True), expected)


def test_residuals_do_not_share_a_folder(tiny):
    one = runs.RunKey.of("regression", "tiny", 0).checkpoints()
    two = runs.RunKey.of("regression", "tiny", 0, residual="standard").checkpoints()
    assert one == tiny / "checkpoints" and one.parent != two.parent


def test_each_keeps_order_and_gives_one_thread():
    before = torch.get_num_threads()
    found = parallel.each(lambda i: (i, torch.get_num_threads()), [3, 1, 2], jobs=1)
    assert found == [(3, 1), (1, 1), (2, 1)] and torch.get_num_threads() == before
    assert parallel.each(abs, [], jobs=4) == []
    assert parallel.cores() >= 1
