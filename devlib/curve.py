"""A measurement at every checkpoint of a run: in parallel, and never twice.

Each finished checkpoint leaves a small JSON file whose name carries a hash of the settings, so
that an interrupted curve goes on where it was and a changed setting starts a new one.
"""

import functools
import json
from pathlib import Path

import pandas as pd

from devlib.checkpoints import CheckpointStore
from devlib.evaluation import evaluate
from devlib.files import make_directory, settings_hash, write_json
from devlib.llc import estimate_llc
from devlib.models.regression import MICROBATCH
from devlib.parallel import each
from devlib.presets import RegressionSettings, as_dict
from devlib.sampling import COMPILE_FROM, SGLD, sample_chains
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
    """The LLC curve: one row a step with llc, mcse, ess, rhat, init_loss, the spread of the
    chains' means, and which chains escaped or diverged. The same seed at every checkpoint gives
    each the same batches and noise (A.5.2)."""
    long = settings.llc.chains * settings.llc.draws * len(steps) >= COMPILE_FROM
    return rows(_LLC(settings, seed, long), store, steps, directory,
                {"task": as_dict(settings.task), "llc": as_dict(settings.llc), "seed": seed},
                "LLC of checkpoints")


def rows(measure, store, steps, directory, settings, label, jobs=None) -> pd.DataFrame:
    """`measure(params)` -> dict at each step, as a table; finished steps are read back."""
    directory = make_directory(directory)
    identity = settings_hash({"run": store.manifest["hash"], **settings})
    task = _AtCheckpoint(measure, store.directory, directory, identity)
    each(task, [step for step in steps if not task.path(step).exists()], jobs=jobs, label=label)
    return pd.DataFrame([json.loads(task.path(step).read_text()) for step in steps])


class _AtCheckpoint:
    """Measures one checkpoint and files the row; small, because it travels to other processes."""

    def __init__(self, measure, run, directory, identity):
        self.measure, self.run, self.directory, self.identity = measure, run, directory, identity

    def path(self, step) -> Path:
        return self.directory / f"{self.identity}_step_{step:07d}.json"

    def __call__(self, step):
        params = CheckpointStore(self.run).load(step)
        write_json(self.path(step), {"step": step, **self.measure(params)})


class _Evaluation:
    def __init__(self, settings, seed):
        self.settings, self.seed = settings, seed

    def __call__(self, params):
        return evaluate(_model(self.settings), params, self.settings, self.seed)


class _LLC:
    def __init__(self, settings, seed, compile):
        self.settings, self.seed, self.compile = settings, seed, compile

    def __call__(self, params):
        llc = self.settings.llc
        draws = sample_chains(
            _loss(self.settings), params, _llc_data(self.settings, self.seed),
            SGLD(llc.eps, llc.nbeta, llc.gamma), chains=llc.chains, draws=llc.draws,
            burn_in=llc.burn_in, batch_size=llc.batch, seed=self.seed, compile=self.compile,
            microbatch=MICROBATCH, on_divergence="keep")
        estimate = estimate_llc(draws)
        return {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
                "rhat": estimate.rhat, "init_loss": estimate.init_loss,
                "chain_sd": float(pd.Series(estimate.chain_means).std()),
                "escaping": len(estimate.escaping), "diverged": len(estimate.diverged)}


# One of each a process, so that a curve makes its data and compiles its step once.

@functools.lru_cache(maxsize=4)
def _model(settings):
    return build_model(settings, seed=0)  # a frame for parameters: its own weights are not used


@functools.lru_cache(maxsize=4)
def _loss(settings):
    return per_sample_loss(_model(settings))


@functools.lru_cache(maxsize=2)
def _llc_data(settings, seed):
    return fixed_set(seed, "llc", settings.llc.samples, settings.task)
