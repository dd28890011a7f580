"""The tables of a regression run: one function a table, one row or more a checkpoint."""

import functools

import numpy as np

from devlib.checkpoints import CheckpointStore, nearest, thin
from devlib.curve import llc_row, rows
from devlib.devices import move, of, to_numpy
from devlib.essential import principal_path
from devlib.evaluation import evaluate, predict
from devlib.fast import cache_slice
from devlib.hessian import density_rows, hessian_row
from devlib.metrics_regression import behaviour, heads, structure
from devlib.models.regression import MICROBATCH
from devlib.presets import HessianSettings, RegressionMetrics, RegressionSettings, as_dict
from devlib.sampling import COMPILE_FROM
from devlib.stages import PAPER_STAGE_ENDS
from devlib.tasks import fixed_set
from devlib.training import build_model, per_sample_loss


def evaluation_table(store: CheckpointStore, settings: RegressionSettings, seed, directory):
    """`evaluate` at every checkpoint, one row a step, with the training loss beside it."""
    table = rows(_Evaluation(settings, seed), store, store.steps, directory,
                 {"task": as_dict(settings.task), "seed": seed,
                  "samples": settings.evaluation.samples}, "evaluating checkpoints")
    facts = store.manifest["checkpoints"]
    return table.assign(train_loss=[facts[str(step)]["train_loss"] for step in table.step])


def llc_table(store: CheckpointStore, steps, settings: RegressionSettings, seed, directory):
    """The LLC curve: one `llc_row` a step. The same seed at every checkpoint gives each the same
    batches and noise (A.5.2)."""
    long = settings.llc.chains * settings.llc.draws * len(steps) >= COMPILE_FROM
    return rows(_LLC(settings, seed, long), store, steps, directory,
                {"task": as_dict(settings.task), "llc": as_dict(settings.llc), "seed": seed},
                "LLC of checkpoints")


def metric_tables(store: CheckpointStore, steps, settings: RegressionSettings,
                  metrics: RegressionMetrics, seed, directory) -> dict:
    """"behaviour" and "structure", one row a step, and "heads", one row a half-head and step."""
    measures = {"behaviour": _Behaviour, "structure": _Structure, "heads": _Heads}
    return {name: rows(measure(settings, metrics, seed), store, steps, directory,
                       {"task": as_dict(settings.task), "metrics": as_dict(metrics), "seed": seed,
                        "table": name}, f"{name} of checkpoints")
            for name, measure in measures.items()}


def path_tables(store: CheckpointStore, steps, settings: RegressionSettings,
                metrics: RegressionMetrics, seed) -> dict:
    """"path": essential dynamics, the scores of each step on the principal components of the
    model's predictions for one probe set; "explained": the variance share of each component."""
    xs, ys = move(fixed_set(seed, "probes", metrics.probes, settings.task))
    model, steps = _model(settings), [step for step in store.loadable if step in set(steps)]
    outputs = np.stack([to_numpy(predict(model, move(store.load(step)), xs, ys))
                        for step in steps])
    return principal_path(steps, outputs).tables()


def hessian_tables(store: CheckpointStore, settings: RegressionSettings, hessian: HessianSettings,
                   seed, directory) -> dict:
    """"statistics": trace and largest eigenvalues, one row a checkpoint; "density": the spectral
    density as point masses, at the checkpoints nearest to the paper's stage ends (B.5)."""
    facts = {"task": as_dict(settings.task), "hessian": as_dict(hessian), "seed": seed}
    statistics = rows(_Hessian(hessian_row, settings, hessian, seed), store,
                      thin(store.loadable, hessian.checkpoints), directory,
                      facts | {"table": "statistics"}, "Hessians of checkpoints")
    ends = nearest(store.loadable, (0, *PAPER_STAGE_ENDS["LR"].values()))
    density = rows(_Hessian(density_rows, settings, hessian, seed), store, ends, directory,
                   facts | {"table": "density"}, "spectral densities")
    return {"statistics": statistics, "density": density}


class _Evaluation:
    def __init__(self, settings, seed):
        self.settings, self.seed = settings, seed

    def __call__(self, params):
        return evaluate(_model(self.settings), params, self.settings, self.seed)


class _LLC:
    def __init__(self, settings, seed, compile):
        self.settings, self.seed, self.compile = settings, seed, compile

    def __call__(self, params):
        return llc_row(_loss(self.settings), params, _llc_data(self.settings, self.seed),
                       self.settings.llc, self.seed, compile=self.compile,
                       microbatch=cache_slice(MICROBATCH, of(params)))


class _Metrics:
    def __init__(self, settings, metrics, seed):
        self.settings, self.metrics, self.seed = settings, metrics, seed


class _Behaviour(_Metrics):
    def __call__(self, params):
        return behaviour(_model(self.settings), params, self.settings, self.metrics, self.seed)


class _Structure(_Metrics):
    def __call__(self, params):
        return structure(params, self.metrics)


class _Heads(_Metrics):
    def __call__(self, params):
        return heads(_model(self.settings), params, self.settings, self.metrics, self.seed)


class _Hessian:
    def __init__(self, measure, settings, hessian, seed):
        self.measure, self.settings, self.hessian, self.seed = measure, settings, hessian, seed

    def __call__(self, params):
        data = move(fixed_set(self.seed, "hessian", self.hessian.samples, self.settings.task))
        return self.measure(_loss(self.settings), params, data, self.hessian, self.seed,
                            microbatch=cache_slice(MICROBATCH, of(params)), keep_graph=True)


# One of each a process, so that a curve makes its data and compiles its step once.

@functools.lru_cache(maxsize=4)
def _model(settings):
    return build_model(settings, seed=0)  # a frame for parameters: its own weights are not used


@functools.lru_cache(maxsize=4)
def _loss(settings):
    return per_sample_loss(_model(settings))


@functools.lru_cache(maxsize=2)
def _llc_data(settings, seed):
    return move(fixed_set(seed, "llc", settings.llc.samples, settings.task))
