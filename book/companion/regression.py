"""The tables of a regression run: one function a table, one row or more a checkpoint."""

import functools
from functools import partial

import numpy as np

from companion.checkpoint_rows import block_rows, density_rows, hessian_row, llc_row
from companion.curve import rows
from companion.measurements import version_key
from devlib.checkpoints import CheckpointStore
from devlib.devices import move, of, to_numpy
from devlib.essential import principal_path
from devlib.fast import cache_slice
from devlib.means import keeping_blocks
from devlib.regression.metrics import behaviour, evaluate, heads, predict, structure
from devlib.regression.model import (
    MICROBATCH,
    RegressionTransformer,
    build_model,
    per_sample_loss,
)
from devlib.regression.task import fixed_set
from devlib.sampling.sample import COMPILE_FROM
from devlib.settings import HessianSettings, RegressionMetrics, RegressionSettings, as_dict
from devlib.stages import PAPER_STAGE_ENDS
from devlib.steps import nearest_each, thin


def evaluation_table(store: CheckpointStore, settings: RegressionSettings, seed, directory):
    """`evaluate` at every checkpoint, one row a step, with the training loss beside it."""
    table = rows(partial(measure_evaluation, settings, seed), store, store.steps, directory,
                 {"task": as_dict(settings.task), "seed": seed, **version_key("evaluation"),
                  "samples": settings.evaluation.samples}, "evaluating checkpoints")
    facts = store.manifest["checkpoints"]
    return table.assign(train_loss=[facts[str(step)]["train_loss"] for step in table.step])


def llc_table(store: CheckpointStore, steps, settings: RegressionSettings, seed, directory):
    """The LLC curve: one `llc_row` a step. The same seed at every checkpoint gives each the same
    batches and noise (A.5.2)."""
    long = settings.llc.chains * settings.llc.draws * len(steps) >= COMPILE_FROM
    return rows(partial(measure_llc, settings, seed, long), store, steps, directory,
                {"task": as_dict(settings.task), "llc": as_dict(settings.llc), "seed": seed,
                 **version_key("LLC")},
                "LLC of checkpoints")


def metric_tables(store: CheckpointStore, steps, settings: RegressionSettings,
                  metrics: RegressionMetrics, seed, directory) -> dict:
    """"behaviour" and "structure", one row a step, and "heads", one row a half-head and step."""
    measures = {"behaviour": measure_behaviour, "structure": measure_structure,
                "heads": measure_heads}
    return {name: rows(partial(measure, settings, metrics, seed), store, steps, directory,
                       {"task": as_dict(settings.task), "metrics": as_dict(metrics), "seed": seed,
                        "table": name, **version_key("metrics")}, f"{name} of checkpoints")
            for name, measure in measures.items()}


def path_tables(store: CheckpointStore, steps, settings: RegressionSettings,
                metrics: RegressionMetrics, seed) -> dict:
    """"path": essential dynamics, the scores of each step on the principal components of the
    model's predictions for one probe set; "explained": the variance share of each component."""
    xs, ys = move(fixed_set(seed, "probes", metrics.probes, settings.task))
    model, steps = model_frame(settings), [step for step in store.loadable if step in set(steps)]
    outputs = np.stack([to_numpy(predict(model, move(store.load(step)), xs, ys))
                        for step in steps])
    return principal_path(steps, outputs).tables()


def hessian_tables(store: CheckpointStore, settings: RegressionSettings, hessian: HessianSettings,
                   seed, directory) -> dict:
    """"statistics": trace and largest eigenvalues, one row a checkpoint; "density": the spectral
    density as point masses, at the checkpoints nearest to the paper's stage ends (B.5)."""
    facts = {"task": as_dict(settings.task), "hessian": as_dict(hessian), "seed": seed,
             **version_key("Hessian")}
    statistics = rows(partial(measure_hessian, hessian_row, settings, hessian, seed), store,
                      thin(store.loadable, hessian.checkpoints), directory,
                      facts | {"table": "statistics"}, "Hessians of checkpoints")
    ends = nearest_each(store.loadable, (0, *PAPER_STAGE_ENDS["LR"].values()))
    density = rows(partial(measure_hessian, density_rows, settings, hessian, seed), store, ends,
                   directory, facts | {"table": "density"}, "spectral densities")
    return {"statistics": statistics, "density": density}


def block_table(store: CheckpointStore, count, settings: RegressionSettings,
                metrics: RegressionMetrics, seed, directory):
    """`block_rows` of the loss and of the behaviour, at the paper's stage ends and so many more
    checkpoints: a change is judged between such steps, and needs no others."""
    steps = {*thin(store.loadable, count),
             *nearest_each(store.loadable, (0, *PAPER_STAGE_ENDS["LR"].values()))}
    return rows(partial(measure_blocks, settings, metrics, seed), store, sorted(steps), directory,
                {"task": as_dict(settings.task), "metrics": as_dict(metrics), "seed": seed,
                 "samples": settings.evaluation.samples, **version_key("blocks")},
                "blocks of checkpoints")


# One of each a process, so that all who measure a model compile its step once.

@functools.lru_cache(maxsize=4)
def model_frame(settings: RegressionSettings) -> RegressionTransformer:
    """The model as a frame for parameters: its own weights are not used."""
    return build_model(settings, seed=0)


@functools.lru_cache(maxsize=4)
def model_loss(settings: RegressionSettings):
    """The `per_sample_loss` of that frame, the same function each time."""
    return per_sample_loss(model_frame(settings))


# What is measured at one checkpoint: the last argument is its parameters.

def measure_evaluation(settings, seed, params):
    return evaluate(model_frame(settings), params, settings, seed)


def measure_llc(settings, seed, compile, params):
    return llc_row(model_loss(settings), params, _llc_data(settings, seed), settings.llc, seed,
                   compile=compile, microbatch=cache_slice(MICROBATCH, of(params)))


def measure_behaviour(settings, metrics, seed, params):
    return behaviour(model_frame(settings), params, settings, metrics, seed)


def measure_blocks(settings, metrics, seed, params):
    names = ["loss", "icl_early_slip", "icl_late_slip", *(
        f"ood_{family}_{gain:g}" for family in ("input", "task") for gain in metrics.gains)]
    with keeping_blocks() as kept:
        measure_evaluation(settings, seed, params)
        measure_behaviour(settings, metrics, seed, params)
    return block_rows(names, kept)


def measure_structure(settings, metrics, seed, params):
    return structure(params, metrics)


def measure_heads(settings, metrics, seed, params):
    return heads(model_frame(settings), params, settings, metrics, seed)


def measure_hessian(measure, settings, hessian, seed, params):
    data = move(fixed_set(seed, "hessian", hessian.samples, settings.task))
    return measure(model_loss(settings), params, data, hessian, seed,
                   microbatch=cache_slice(MICROBATCH, of(params)), keep_graph=True)


@functools.lru_cache(maxsize=2)  # once a process, not at each checkpoint
def _llc_data(settings, seed):
    return move(fixed_set(seed, "llc", settings.llc.samples, settings.task))
