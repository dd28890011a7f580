"""What the calibration page shows of the regression run, as tables: computed once, kept as CSV.

Everything is a list of chains to run, each at one checkpoint with settings of its own (`Job`).
Each leaves a small JSON file as soon as it is done, so that an interrupted computation goes on
where it was.
"""

import functools
import math
import operator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.func import functional_call

from companion import presets, results
from companion.compute.parallel import each
from companion.curve import file_once, read_rows
from companion.measurements import version_key
from companion.regression import model_frame
from companion.runs import RunKey
from devlib.checkpoints import CheckpointStore
from devlib.devices import move, to_numpy
from devlib.files import make_directory, settings_hash
from devlib.hessian import Hessian, top_eigenpairs
from devlib.llc import estimate_llc, llc_trace, scaled_losses
from devlib.llc.calibrate import NotCalibrated, calibrate, status
from devlib.llc.health import mala_acceptance
from devlib.regression.task import fixed_set, squared_errors
from devlib.rng import generator, stream_seed
from devlib.sampling.chains import Chains
from devlib.sampling.model import per_sample_losses
from devlib.sampling.sgld import SGLD, sgld_step
from devlib.settings import RegressionSettings, as_dict
from devlib.steps import nearest, thin

LONG = 10_000  # steps in all from which compiling pays, in each of a few processes
SWEEP_CHAINS = 2
CURVATURE_SAMPLES = 256
TEST = 10  # times the draws of a trial: the most that `calibrate` takes to test its proposal
TEMPERATURES = (0.1, 0.3, 1.0, 3.0, 10.0)  # times nbeta
STEP_SIZES = (0.1, 0.3, 1.0, 2.0, 3.0)  # times eps, for acceptance


@dataclass(frozen=True)
class Job:
    """Chains from one checkpoint. `noise` False leaves the Langevin noise out, `likelihood` takes
    the loss of eq. 13 instead of eq. 2, `looks` is the number of steps whose acceptance is
    computed, and `trace` keeps every draw."""

    part: str
    step: int
    eps: float
    nbeta: float
    gamma: float
    batch: int
    chains: int
    draws: int
    burn_in: int
    seed: int
    name: str = ""
    likelihood: bool = False
    noise: bool = True
    looks: int = 0
    trace: bool = False
    compile: bool = False


class Descent(SGLD):
    """The update (8) without its noise: descent on the localised minibatch loss."""

    def step(self, w, state, gradient, anchor, noise):
        return sgld_step(w, gradient, anchor, torch.zeros_like(noise), self), state


def calibration(preset: str, seed: int, recompute=False) -> results.Results:
    """Tables of the calibration page: "runs" (one row a `Job`: its settings, the LLC with both
    baselines, status, distance), "traces", "curvature" (greatest Hessian eigenvalue at w0
    and where a chain ends), "trials" and "proposal" (what `calibrate` tried and proposed at the
    last checkpoint). With `recompute` (see `results.load_or_compute`) it trains and samples what is
    not there yet."""
    chosen = presets.get(preset)
    settings = {"calibration": as_dict(chosen.calibration),
                "regression": as_dict(chosen.regression)}
    key = RunKey.of("calibration", preset, seed)
    return results.load_or_compute(key, settings, recompute,
                                   lambda place, timed: _compute(chosen, key, place, timed),
                                   page="04_calibration")


def _compute(preset, key, place, timed):
    regression, seed, store = preset.regression, key.seed, results.checkpoints(key, timed)
    work = jobs(preset, store.steps, seed)
    start = Start(regression, preset.calibration.samples, seed, store.directory)
    sample = functools.partial(run_job, start, make_directory(place / "jobs"))
    last = next(job for job in work if job.part == "seeded" and job.step == store.steps[-1])
    ends = [replace(last, step=step, chains=1, compile=False)
            for step in sorted({_early(preset, store.steps), store.steps[-1]})]
    parts = [functools.partial(propose, start, preset, store.steps[-1]),  # the longest first
             *(functools.partial(curvature, start, job) for job in ends),
             *(functools.partial(sample, job) for job in work)]
    at_once = None if last.compile else 1  # short work: a second process costs more than it saves
    trials, *done = timed("sampling", lambda: each(operator.call, parts, jobs=at_once,
                                                   label="chains"))
    tops, done = done[:len(ends)], done[len(ends):]
    return {"runs": pd.DataFrame([row for row, _ in done]),
            "traces": pd.DataFrame([line for _, lines in done for line in lines]),
            "curvature": pd.DataFrame(tops), **trials}


def _early(preset, steps):
    """The checkpoint nearest to the early one of the settings."""
    return nearest(steps, preset.calibration.early)


def jobs(preset, steps, seed) -> list[Job]:
    """Everything to sample. The longest parts come first, so that the cores end together."""
    c, llc = preset.calibration, preset.regression.llc
    early, last = _early(preset, steps), steps[-1]
    ends = sorted({early, last})
    usual = Job("", last, llc.eps, llc.nbeta, llc.gamma, c.batch, c.chains, c.draws, c.burn_in,
                seed)
    curve = thin([step for step in steps if step >= last / 60], c.checkpoints)
    work = [replace(usual, part="seeded", step=step, trace=True) for step in curve]
    work += [replace(usual, part="unseeded", step=step,
                     seed=stream_seed(seed, "unseeded", step) % 2**31) for step in curve]
    work += [replace(usual, part="likelihood", step=step, likelihood=True, trace=True)
             for step in curve[1::2]]
    work += [replace(usual, part="descent", step=step, noise=False, chains=1) for step in curve]
    few = replace(usual, chains=min(SWEEP_CHAINS, c.chains))
    for step in ends:
        for factor in TEMPERATURES:  # eps nbeta is not to grow
            work.append(replace(few, part="temperature", step=step, nbeta=factor * llc.nbeta,
                                eps=llc.eps / max(1.0, factor)))
        work += [replace(few, part="batch", step=step, batch=batch) for batch in c.batches]
        for factor in STEP_SIZES:
            work.append(replace(few, part="acceptance", step=step, eps=factor * llc.eps,
                                draws=c.draws // 2, burn_in=0, looks=c.looks))
    half = llc.eps * llc.nbeta / 2
    for name, step, eps, drift, gamma in (
            ("sound", last, llc.eps, half, llc.gamma),
            ("divergent", last, llc.eps, 10 * half, llc.gamma),
            ("not converged", last, llc.eps / 30, half / 30, llc.gamma),
            ("escaping", early, llc.eps / 300, 2 * half, 0.0)):
        work.append(replace(few, part="traces", name=name, step=step, eps=eps, gamma=gamma,
                            nbeta=2 * drift / eps, burn_in=0, trace=True))
    for step in ends:
        for eps in c.eps:
            work += [replace(few, part="sweep", step=step, eps=eps, nbeta=2 * drift / eps,
                             gamma=2 * pull / eps, draws=c.sweep_draws, burn_in=c.sweep_draws // 2)
                     for drift in c.drifts for pull in c.pulls]
    compile = sum(job.chains * job.draws for job in work) >= LONG
    return [replace(job, compile=compile and job.batch == c.batch) for job in work]


@dataclass(frozen=True)
class Start:
    """What chains start from, at any checkpoint of a run: its settings, the size of the sample of
    contexts, the seed, and where the checkpoints lie."""

    settings: RegressionSettings
    samples: int
    seed: int
    run: Path

    def at(self, step, likelihood=False):
        """Loss, parameters, data, and the loss of each sample there."""
        return (_loss(self.settings), *_checkpoint(self.run, step),
                _data(self.settings, self.samples, self.seed, likelihood),
                _init_losses(self.settings, self.samples, self.seed, self.run, step, likelihood))


def run_job(start: Start, place, job: Job):
    """[the row of the table "runs", the rows of "traces"] of a job, filed below `place`."""
    # "sealed", since files of an earlier version hold no digest
    name = settings_hash({"run": CheckpointStore(start.run).manifest["hash"],
                          "samples": start.samples, "sealed": True, **asdict(job),
                          **version_key("calibration")})
    path = place / f"{name}.json"
    file_once(path, lambda: _sample(job, *start.at(job.step, job.likelihood)))
    found = read_rows(path)
    return [found["row"], found["lines"]]


def curvature(start: Start, job: Job) -> dict:
    """The greatest Hessian eigenvalue at w0 and where a chain ends."""
    loss, params, data, init_losses = start.at(job.step)
    few = tuple(part[:CURVATURE_SAMPLES] for part in data)
    run = _chains(job, loss, params, data, init_losses)
    run.extend(job.draws)
    end = run.layout.unflatten(run.w[0])
    return {"step": job.step, "top": top_curvature(loss, params, few, start.seed),
            "top_chain": top_curvature(loss, end, few, start.seed)}


def propose(start: Start, preset, step) -> dict:
    """The tables "trials" and "proposal"."""
    c = preset.calibration
    loss, params, data, _ = start.at(step)
    eps = [factor * preset.regression.llc.eps for factor in (10, 3, 1, 1 / 3)]
    try:
        found = calibrate(loss, params, data, batch_size=c.batch, eps=eps, gammas=(1, 10, 100),
                          chains=SWEEP_CHAINS, draws=c.draws, cap_draws=TEST * c.draws,
                          seed=start.seed)
    except NotCalibrated as error:
        return {"trials": error.table,
                "proposal": pd.DataFrame([{"step": step, "words": str(error)}])}
    row = {"step": step, **asdict(found.sampler), "words": str(found)}
    return {"trials": found.table, "proposal": pd.DataFrame([row])}


def _chains(job, loss, params, data, init_losses):
    kind = SGLD if job.noise else Descent
    return Chains(loss, params, data, kind(job.eps, job.nbeta, job.gamma), chains=job.chains,
                  seed=job.seed, batch_size=job.batch, compile=job.compile,
                  init_losses=init_losses)


def _sample(job, loss, params, data, init_losses):
    """The row of the table "runs" and the rows of "traces" of a job."""
    run = _chains(job, loss, params, data, init_losses)
    run.extend(job.draws)
    draws = run.draws(job.burn_in)
    row = {**asdict(job), "init_loss": draws.init_loss, "status": status(draws),
           "diverged_at": min(draws.diverged.values(), default=None)}
    if draws.healthy:
        same, whole = estimate_llc(draws), estimate_llc(draws, "whole-set")
        distance = to_numpy((run.w - run.anchor).norm(dim=1))[draws.healthy]
        row |= {"llc": same.mean, "mcse": same.mcse, "ess": same.ess, "rhat": same.rhat,
                "llc_whole": whole.mean, "mcse_whole": whole.mcse, "ess_whole": whole.ess,
                "sd": float(scaled_losses(draws)[draws.healthy, job.burn_in:].std()),
                "distance": float(distance.mean()),
                "weight_norm": float(run.origin.norm())}
        row |= {f"chain_{chain}": mean for chain, mean in enumerate(same.chain_means)}
    if job.looks:
        accepted = mala_acceptance(run, draws=job.looks) if draws.healthy else None
        row |= {"acceptance": accepted.mean if accepted else 0.0,
                "acceptance_mcse": accepted.mcse if accepted else 0.0}
    return {"row": _finite(row), "lines": _lines(job, draws) if job.trace else []}


def _lines(job, draws):
    """Draws and running estimates of each chain, one row each, until the chain diverges."""
    values, online = scaled_losses(draws), llc_trace(draws)
    every = max(1, job.draws // 200)
    return [{"part": job.part, "name": job.name, "step": job.step, "chain": chain, "draw": draw,
             "value": values[chain, draw], "online": online[chain, draw]}
            for chain in range(job.chains) for draw in range(0, job.draws, every)
            if math.isfinite(values[chain, draw])]


def _finite(row):
    """NaN and infinity become None, which JSON has."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()}


def top_curvature(loss, params, batch, seed) -> float:
    """The greatest eigenvalue of the Hessian of the mean loss on a batch."""
    hessian = Hessian(loss, params, batch, keep_graph=True)
    return float(top_eigenpairs(hessian, 1, generator(seed, "curvature")).values[0])


# One of each a process, so that a process makes its data and compiles its step once.

@functools.lru_cache(maxsize=2)
def _loss(settings):
    """loss(params, (xs, ys, weights)) -> (B,): squared errors weighted over the positions of a
    context. Weights 1 / K give eq. 2; all weight at one random k gives eq. 14."""
    model = model_frame(settings)

    def loss(params, batch):
        xs, ys, weights = batch
        return (squared_errors(functional_call(model, params, (xs, ys)), ys) * weights).sum(-1)
    return loss


@functools.lru_cache(maxsize=4)
def _data(settings, samples, seed, likelihood):
    xs, ys = move(fixed_set(seed, "llc", samples, settings.task))
    if not likelihood:
        return xs, ys, torch.full_like(ys, 1 / ys.shape[1])
    ks = torch.randint(ys.shape[1], (samples, 1), generator=generator(seed, "context length"))
    return xs, ys, torch.zeros_like(ys).scatter(1, move(ks, ys.device), 1.0)


@functools.lru_cache(maxsize=4)
def _checkpoint(run, step):
    return (move(CheckpointStore(run).load(step)),)


@functools.lru_cache(maxsize=64)
def _init_losses(settings, samples, seed, run, step, likelihood):
    (params,) = _checkpoint(run, step)
    return per_sample_losses(_loss(settings), params, _data(settings, samples, seed, likelihood))


def roughness(steps, values) -> float:
    """How far a curve's points lie from the line through their two neighbours, over log(step + 1):
    the root mean square, in the curve's unit. 0 for a straight line."""
    x, y = np.log1p(np.asarray(steps, float)), np.asarray(values, float)
    between = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return float(np.sqrt(np.mean((y[1:-1] - between) ** 2)))


def increment_error(chain_means) -> float:
    """Monte Carlo sd of the difference of neighbouring points of a curve, per chain: from how
    the differences of the chains' means (S, C) vary over chains. Trend plays no part in it."""
    steps = np.diff(np.asarray(chain_means, float), axis=0)
    return float(np.sqrt(steps.var(axis=1, ddof=1).mean()))
