"""Simulation-based calibration (Talts et al., 2018; Modrak et al., 2023) of the sampler.

A truth is drawn from the prior and data from the truth; a calibrated sampler's posterior draws
then rank the truth anywhere with equal probability. The model is the mean of a Gaussian, where
the localised Gibbs posterior is the Bayesian one: prior N(w0, 1 / gamma), n samples of precision
h_j in coordinate j, nbeta = n. Ranked are the coordinates and, as the LLC is made of it, the loss.
"""

import numpy as np
import pandas as pd
import scipy.stats

from companion.known.potentials import MeanModel
from devlib.files import write_atomic
from devlib.rng import stream_seed
from devlib.sampling.chains import Chains
from devlib.sampling.sgld import SGLD

PRECISIONS = (1.0, 1.5, 2.0)  # h, for each coordinate
SAMPLES = 20  # n
GAMMA = 2.0
STEP = 0.1  # eps times the greatest kappa; it adds a quarter of itself to the variance there


def sbc_ranks(repetitions=200, draws=19, steps=300, seed=0, gamma=GAMMA) -> pd.DataFrame:
    """Ranks of the truth among `draws` independent posterior draws, 0 .. draws, one row a
    repetition: columns w1 .. wd and loss.

    Each draw is the end of a chain of its own of `steps` steps, so that no autocorrelation has to
    be thinned away; the slowest coordinate forgets its start by a factor e in 40 steps. The
    sampler is given `gamma`; a value other than GAMMA is a wrong prior, which the ranks should
    show.
    """
    rows = [_ranks(draws, steps, stream_seed(seed, "sbc", i), gamma) for i in range(repetitions)]
    return pd.DataFrame(rows)


def _ranks(draws, steps, seed, gamma):
    rng = np.random.default_rng(seed)
    h, w0 = np.array(PRECISIONS), np.zeros(len(PRECISIONS))
    truth = rng.normal(w0, GAMMA**-0.5)
    model = MeanModel.make(rng.normal(truth, h**-0.5, (SAMPLES, len(h))), h, w0)
    eps = STEP / (SAMPLES * h.max() + gamma)
    run = Chains(model.loss, model.params, model.data, SGLD(eps, SAMPLES, gamma), chains=draws,
                 seed=seed, vectorised=True)
    run.extend(steps)
    ends = run.w.numpy()  # (draws, d)
    loss = _loss(model, ends), _loss(model, truth[None])
    ranks = {f"w{j + 1}": int((ends[:, j] < truth[j]).sum()) for j in range(len(h))}
    return {**ranks, "loss": int((loss[0] < loss[1]).sum())}


def _loss(model, w):
    """L_n(w) up to what does not depend on w, (draws,)."""
    return (model.curvatures * (w - model.xs.mean(0)) ** 2).sum(1) / 2


def rank_histogram(ranks: pd.DataFrame, draws=19, bins=10) -> pd.DataFrame:
    """How often each quantity's rank fell into each of `bins` equal bins: one row a bin, with the
    `expected` count."""
    edges = np.linspace(0, draws + 1, bins + 1) - 0.5
    table = {name: np.histogram(ranks[name], edges)[0] for name in ranks}
    return pd.DataFrame({"bin": range(bins), **table, "expected": len(ranks) / bins})


def uniformity(histogram: pd.DataFrame) -> dict[str, float]:
    """The p-value of a chi-square test of flatness for each quantity."""
    return {name: float(scipy.stats.chisquare(histogram[name]).pvalue)
            for name in histogram if name not in ("bin", "expected")}


def write_histogram(path, histogram: pd.DataFrame):
    """As CSV, for the book."""
    write_atomic(path, histogram.to_csv(index=False).encode())
