"""Training on finite sets of tasks: does the model first learn zero, or the task prior? (D.1.1)"""

from dataclasses import replace
from functools import partial

import pandas as pd

from companion import presets, results
from companion.compute.parallel import each
from companion.runs import RunKey
from devlib.devices import move
from devlib.regression.metrics import prior_distances
from devlib.regression.model import build_model
from devlib.regression.task import sample_contexts, task_set
from devlib.regression.train import train
from devlib.rng import generator
from devlib.settings import as_dict


def task_sets(preset: str, seed: int, recompute=False) -> results.Results:
    """Table "distances": for each number of tasks and step, the mean-square distance of the
    predictions to zero and to the task prior, with standard errors (see
    `results.load_or_compute`)."""
    key = RunKey.of("task-sets", preset, seed)
    settings, sets = key.settings, presets.get(preset).task_sets
    settings = replace(settings, training=replace(settings.training, stop=sets.stop))

    def compute(place, timed):
        one = partial(train_and_measure, settings, sets.samples, seed, place)
        parts = timed("training on task sets", lambda: each(one, sets.counts, label="task sets"))
        return {"distances": pd.concat(parts)}

    return results.load_or_compute(key, {
        "regression": {part: as_dict(getattr(settings, part))
                       for part in ("task", "model", "training")}, "task_sets": as_dict(sets)},
        recompute, compute, page="06_regression_stages")


def train_and_measure(settings, samples, seed, place, count) -> pd.DataFrame:
    """Trains on one number of tasks, and measures each checkpoint."""
    store = train(settings, seed, place / f"tasks-{count}", task_count=count)
    tasks = task_set(seed, count, settings.task)
    xs, ys = move(sample_contexts(generator(seed, "task set test"), samples, settings.task,
                                  tasks=tasks))
    model, rows = build_model(settings, seed=0), []
    for step in store.steps:
        zero, prior = prior_distances(model, move(store.load(step)), xs, ys, tasks)
        rows.append({"tasks": count, "step": step, "zero": zero[0], "zero_se": zero[1],
                     "prior": prior[0], "prior_se": prior[1]})
    return pd.DataFrame(rows)
