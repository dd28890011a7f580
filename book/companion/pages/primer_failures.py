"""Four ways in which a number that comes out of chains misleads, on losses whose answer is known,
and the check that sees each: two starts, |w - w0|^2, twice the step, and a chain without noise."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from companion.figures import BLACK, BLUE, GREEN, VERMILLION, figure
from companion.known.answers import gibbs_moments
from companion.known.potentials import MeanModel, Potential, quadratic
from devlib.llc import estimate_llc, scaled_losses
from devlib.llc.equilibrium import equilibrium
from devlib.sampling import SGLD, SmoothedSGLD, sample_chains

BLOCK = 25  # draws in a mean of a trace
STEPS = (1e-3, 2e-3, 5e-3, 1e-2)
AWAY = (0.0, 0.05, 0.1, 0.2, 0.4)  # of each of three coordinates from the minimum
MINIMUM = (1.0, 2.0, 4.0)  # curvatures
STARTS = ("from w0", "from the prior")


@dataclass(frozen=True)
class Hole(Potential):
    """depth (1 - exp(-|w|^2 / 2 width^2)): a narrow hole about w0 = 0 in a plain that holds nearly
    all of the prior, as a trained network's task does once its weights are larger than the
    spring's sd."""

    depth: float = 0.6
    width: float = 0.15
    dim: int = 5

    def energy(self, w):
        """The potential at points (..., dim)."""
        return self.depth * (1 - (-w.square().sum(-1) / (2 * self.width**2)).exp())

    def mean(self, sampler) -> float:
        """nbeta E[L], by quadrature along the radius."""
        r = 8 * (np.arange(400_000) + 0.5) / 400_000
        loss = sampler.nbeta * self.energy(torch.from_numpy(r)[:, None]).numpy()
        log_density = (self.dim - 1) * np.log(r) - loss - sampler.gamma * r**2 / 2
        density = np.exp(log_density - log_density.max())
        return float((loss * density).sum() / density.sum())


TRACED = {  # potential and sampler; the flattest direction of the first relaxes in 18,000 draws
    "not relaxed": (quadratic(tuple(np.geomspace(1e-4, 1, 20))), SGLD(1e-3, 100.0, 0.1)),
    "two regimes": (Hole(), SGLD(5e-4, 30.0, 1.0))}
CHAINS, DRAWS = 16, 300


def failures(seed) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(curves, verdicts): panel, kind, x, value and error of what the figure shows; and of each
    failure the exact answer, what chains from w0 say, and what the checks say."""
    curves, verdicts = [], []
    for panel, (toy, sampler) in TRACED.items():
        found = equilibrium(*_problem(toy), sampler, chains=CHAINS, draws=DRAWS, seed=seed,
                            vectorised=True, warn=False)
        traces = scaled_losses(found.draws).reshape(2, CHAINS, -1, BLOCK).mean((1, 3))
        curves += [{"panel": panel, "kind": start, "x": BLOCK * (block + 0.5), "value": value}
                   for start, trace in zip(STARTS, traces, strict=True)
                   for block, value in enumerate(trace)]
        verdicts.append(_verdict(panel, _exact(toy, sampler), found.from_w0, "the starts "
                                 + ("meet" if found.meet else "do not meet")))
    for step in STEPS:
        toy = quadratic(MINIMUM)
        for kind, name in ((SGLD, "SGLD"), (SmoothedSGLD, "smoothed noise")):
            found_by = kind(step, 20.0, 1.0)
            found = _watched(toy, found_by, seed)
            curves.append({"panel": "step", "kind": name, "x": step, "value": found.mean,
                           "error": found.mcse, "bias": found.step_bias})
            if step == STEPS[-1] and kind is SGLD:
                verdicts.append(_verdict("step", _exact(toy, found_by), found,
                                         f"step bias {found.step_bias:+.2f}"))
    xs = np.random.default_rng(seed).normal(size=(50, 3))
    xs -= xs.mean(0)  # whose minimum is at 0
    for away in AWAY:
        toy = MeanModel.make(xs, MINIMUM, np.full(3, away))
        found = _watched(toy, SGLD(2e-3, 20.0, 1.0), seed)
        curves.append({"panel": "slope", "kind": "SGLD", "x": away, "value": found.mean,
                       "error": found.mcse, "bias": found.slope_share})
    verdicts.append(_verdict("slope", _exact(quadratic(MINIMUM), SGLD(2e-3, 20.0, 1.0)), found,
                             f"slope {found.slope_share:.0%}"))
    return pd.DataFrame(curves), pd.DataFrame(verdicts)


def _exact(toy, sampler):
    """The continuous mean, direction by direction where they are separate."""
    if isinstance(toy, Hole):
        return toy.mean(sampler)
    parts = Counter(toy.parts)
    return sum(count * gibbs_moments(part, sampler.nbeta, sampler.gamma)[0]
               for part, count in parts.items())


def _problem(toy):
    return toy.loss, toy.params, toy.data


def _watched(toy, sampler, seed):
    return estimate_llc(sample_chains(*_problem(toy), sampler, chains=32, draws=500, burn_in=150,
                                      seed=seed, health=True, vectorised=True, warn=False))


def _verdict(failure, exact, found, said):
    return {"failure": failure, "exact": exact, "from w0": found.mean, "mcse": found.mcse,
            "R-hat": found.rhat, "the check says": said}


def panels(curves, verdicts) -> Figure:
    """One panel a failure: two traces from both starts, LLC over step, LLC over distance from the
    minimum; the exact answer as a line."""
    fig, axes = figure(2, 2, height=6.4)
    exact = verdicts.set_index("failure").exact
    for ax, (panel, part) in zip(axes.flat, curves.groupby("panel", sort=False), strict=True):
        ax.axhline(exact[panel], color=BLACK, lw=1, ls=":", label="exact")
        for (kind, line), colour, mark in zip(part.groupby("kind", sort=False),
                                              (BLUE, VERMILLION), "os", strict=False):
            ax.errorbar(line.x, line.value, yerr=line.error if panel in ("step", "slope") else None,
                        color=colour, marker=mark, ms=3, lw=1.2, label=kind)
        if panel == "step":
            line = part[part.kind == "SGLD"]
            ax.plot(line.x, line.value - line.bias, color=GREEN, ls="--", marker="^", ms=4,
                    label="SGLD less its step bias")
            ax.set_xscale("log")
        ax.set_title({"not relaxed": "A chain not relaxed", "two regimes": "Two regimes",
                      "step": "A step too large", "slope": "A slope"}[panel], fontsize=10)
        ax.set_xlabel({"step": r"step $\epsilon$",
                       "slope": "offset of each coordinate"}.get(panel, "draw"))
        ax.set_ylabel(r"$n\beta\,(L - L(w_0))$" if panel in TRACED else "LLC")
        ax.legend(fontsize=8)
    axes.flat[0].set_yscale("log")
    return fig
