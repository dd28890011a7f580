"""Runs on finite sets of tasks."""

import pytest
import torch

from companion import presets, runs
from companion.compute import parallel
from companion.pages.task_sets import task_sets
from companion.presets import Preset, TaskSetSettings
from devlib.checkpoints import CheckpointStore
from devlib.errors import CheckpointError
from devlib.regression.metrics import prior_distances
from devlib.regression.model import build_model
from devlib.regression.task import sample_contexts, task_set, training_batch
from devlib.regression.train import Trainer, train
from devlib.rng import generator
from devlib.settings import RegressionModel, RegressionSettings, RegressionTask, RegressionTraining

TINY = RegressionSettings(
    task=RegressionTask(task_dim=2, examples=2), model=RegressionModel(embed_dim=8, mlp_dim=8),
    training=RegressionTraining(steps=50, stop=50, batch=8, log_checkpoints=3,
                                linear_checkpoints=2))
SETS = TaskSetSettings(counts=(1, 3), stop=20, samples=50)


def test_batches_hold_only_the_sets_tasks():
    """Without noise every target is w . x for one of the tasks, and all of them come."""
    task = RegressionTask(task_dim=2, examples=2, noise_variance=0.0)
    tasks = task_set(0, 3, task)
    xs, ys = training_batch(0, 5, 64, task, tasks)
    guesses = torch.einsum("bkd,md->bmk", xs, tasks)
    fits = (guesses - ys[:, None]).abs().amax(2) < 1e-5  # (B, M)
    assert (fits.sum(1) == 1).all() and fits.any(0).all()
    again = training_batch(0, 5, 64, task, tasks)
    assert torch.equal(again[0], xs) and torch.equal(again[1], ys)


def test_sets_differ_by_seed_and_count():
    assert task_set(0, 3, TINY.task).shape == (3, 2)
    assert not torch.equal(task_set(0, 3, TINY.task), task_set(1, 3, TINY.task))


def test_a_run_on_a_set_is_a_run_of_its_own(tmp_path):
    store = train(TINY, 0, tmp_path, task_count=3, compile=False)
    assert store.manifest["settings"]["task_count"] == 3
    for other in (None, 4):
        with pytest.raises(CheckpointError, match="a run with other settings"):
            train(TINY, 0, tmp_path, task_count=other)
    trainer = Trainer(TINY, 0, compile=False, tasks=task_set(0, 3, TINY.task))
    while trainer.step < 50:
        trainer.update()
    last = store.load(49)
    assert all(torch.equal(last[name], value) for name, value in trainer.params.items())


def test_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runs, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    monkeypatch.setitem(presets.PRESETS, "tiny",
                        Preset("tiny", "a preset of the tests", TINY, task_sets=SETS))
    table = task_sets("tiny", 0, recompute=True)["distances"]
    assert set(table.tasks) == {1, 3} and table.step.max() == 19
    store = CheckpointStore(tmp_path / "runs/tiny/task-sets-seed0/tasks-3")
    tasks = task_set(0, 3, TINY.task)
    xs, ys = sample_contexts(generator(0, "task set test"), 50, TINY.task, tasks=tasks)
    zero, prior = prior_distances(build_model(TINY, 0), store.load(19), xs, ys, tasks)
    row = table[(table.tasks == 3) & (table.step == 19)].iloc[0]
    assert [row.zero, row.zero_se, row.prior, row.prior_se] == pytest.approx([*zero, *prior],
                                                                            rel=1e-5)
