"""The small computations of the fidelity page: what a choice of the paper, or of its code, changes
in the LLC of one checkpoint. Every comparison is on the same batches and noise."""

from dataclasses import dataclass

import numpy as np
import torch

from companion.regression import model_loss
from devlib.hessian import Hessian, random_signs
from devlib.llc import estimate_llc, scaled_losses
from devlib.regression.model import MICROBATCH
from devlib.regression.task import fixed_set
from devlib.rng import generator
from devlib.sampling.chains import Chains
from devlib.sampling.sample import COMPILE_FROM
from devlib.sampling.sgld import SGLD, sgld_step
from devlib.sampling.streams import Random
from devlib.settings import HessianSettings, RegressionSettings

PROBES = 16  # random vectors of the trace's sum and mean
SHORT = 5  # the equality of two conventions is shown on a part of the draws: one in so many


@dataclass(frozen=True)
class HalfGamma(SGLD):
    """The update of the authors' code, w - (eps / 2) (nbeta g + (gamma / 2) (w - w0)) + noise:
    its gamma is twice that of (8)."""

    def step(self, w, state, gradient, anchor, noise):
        """One update, as `SGLD.step`."""
        ours = SGLD(self.eps, self.nbeta, self.gamma / 2)
        return sgld_step(w, gradient, anchor, noise, ours), state


def paired(values, others) -> tuple[float, float]:
    """Mean difference of two arrays of draws (C, T) or (C, T'), chain by chain, and its standard
    error over chains; NaN for a single chain."""
    apart = values.mean(1) - others.mean(1)
    error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else np.nan
    return float(apart.mean()), float(error)


def look_after(run: Chains, draws) -> np.ndarray:
    """Runs chains on and reads the loss of each draw's minibatch *after* its step too, (C, draws):
    what an estimator that reads too late would average."""
    randoms = [Random(run, [chain]) for chain in range(run.chains)]
    after = np.full((run.chains, draws), np.nan)
    for draw in range(draws):
        run.extend(1)
        for chain, random in enumerate(randoms):
            indices, _ = random.at(run.taken - 1)
            batch = run.batch(None if indices is None else indices[0])
            with torch.no_grad():
                after[chain, draw] = run.loss(run.layout.unflatten(run.w[chain]), batch).mean()
    return after


def measure(settings: RegressionSettings, hessian: HessianSettings, seed, params) -> dict:
    """{table: rows} of one checkpoint, for `curve.tables`."""
    llc = settings.llc
    run = _chains(settings, seed, params, SGLD(llc.eps, llc.nbeta, llc.gamma))
    after = look_after(run, llc.draws)
    draws = run.draws(llc.burn_in)
    return {"burn_in": burn_in_row(draws), "order": order_row(draws, after),
            "traces": trace_rows(draws), "gamma": gamma_rows(settings, seed, params, draws),
            "probes": probe_rows(settings, hessian, seed, params)}


def _chains(settings, seed, params, sampler):
    llc = settings.llc
    data = fixed_set(seed, "llc", llc.samples, settings.task)
    return Chains(model_loss(settings), params, data, sampler, chains=llc.chains, seed=seed,
                  batch_size=llc.batch, vectorised=False, microbatch=MICROBATCH,
                  compile=llc.chains * llc.draws >= COMPILE_FROM)


def gamma_rows(settings, seed, params, ours) -> list[dict]:
    """One row a reading of gamma: its LLC, and how far its losses are from those of (8)."""
    llc, rows = settings.llc, []
    trials = (("(8), gamma", SGLD(llc.eps, llc.nbeta, llc.gamma), None),
              ("code, 2 gamma", HalfGamma(llc.eps, llc.nbeta, 2 * llc.gamma),
               max(1, llc.draws // SHORT)),
              ("(8), 2 gamma", SGLD(llc.eps, llc.nbeta, 2 * llc.gamma), llc.draws))
    for name, sampler, length in trials:
        found = ours
        if length is not None:
            run = _chains(settings, seed, params, sampler)
            run.extend(length)
            found = run.draws(0)
        length, start = found.losses.shape[1], ours.burn_in
        values, others = scaled_losses(found), scaled_losses(ours)[:, :length]
        if length <= start:  # the short run: equality is all it is for
            start = 0
        change, error = paired(values[:, start:], others[:, start:])
        rows.append({
            "reading": name, "gamma": sampler.gamma, "draws": length,
            "llc": float(values[:, start:].mean()), "change": change, "change_se": error,
            "largest": float(np.abs(found.losses - ours.losses[:, :length]).max())})
    return rows


def probe_rows(settings, hessian, seed, params) -> list[dict]:
    """z.H z of each probe (B.5): their mean estimates the trace, their sum does not."""
    data = fixed_set(seed, "hessian", hessian.samples, settings.task)
    operator = Hessian(model_loss(settings), params, data, microbatch=MICROBATCH, keep_graph=True)
    gen = generator(seed, "fidelity", "probes")
    signs = (random_signs(operator.shape[0], gen) for _ in range(PROBES))
    return [{"probe": number, "value": float(z @ (operator @ z))}
            for number, z in enumerate(signs, 1)]


def burn_in_row(draws) -> dict:
    """The mean of the draws after burn-in, that of all, and what the first draws lack in all:
    `lack` = sum over draws of (settled mean - LLC at that draw), so that T draws averaged without
    a burn-in come out low by lack / T."""
    scaled = scaled_losses(draws)[draws.healthy]
    kept = estimate_llc(draws)
    change, error = paired(scaled, scaled[:, draws.burn_in:])
    length = scaled.shape[1]
    return {"chains": len(scaled), "draws": length, "burn_in": draws.burn_in,
            "llc": kept.mean, "mcse": kept.mcse, "llc_all": float(scaled.mean()),
            "change": change, "change_se": error, "lack": -change * length,
            "lack_se": error * length}


def order_row(draws, after) -> dict:
    """The LLC from losses read before each step, as everywhere in this book, and from losses read
    after it on the same minibatch."""
    nbeta, start = draws.sampler.nbeta, draws.burn_in
    before = scaled_losses(draws)[draws.healthy, start:]
    late = nbeta * (after - draws.baseline)[draws.healthy, start:]
    change, error = paired(late, before)
    return {"batch": draws.batch_size, "llc_before": float(before.mean()),
            "llc_after": float(late.mean()), "change": change, "change_se": error}


def trace_rows(draws) -> list[dict]:
    """The LLC of each draw, averaged over chains, and the running mean of all draws so far."""
    mean = scaled_losses(draws)[draws.healthy].mean(0)
    running = mean.cumsum() / np.arange(1, len(mean) + 1)
    return [{"draw": draw, "llc": float(value), "running": float(so_far)}
            for draw, (value, so_far) in enumerate(zip(mean, running, strict=True), 1)]
