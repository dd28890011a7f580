"""The artefact in the released LLC curve of the language models, from traces of one's own.

The authors' running estimator takes its init loss as the mean over all chains of the first draw.
Chains run one after another, and while chain c runs, the rows of later chains are still zero: so
chain c of C uses about (c + 1)/C of the true init loss. It adds up the draws after the first, and
divides by all T of them. (Inferred from the released notebooks and files, whose chains spread as
this predicts to half a percent.)
"""

import numpy as np

from devlib.sampling.draws import Draws


def plain_llc(draws: Draws) -> float:
    """Mean over chains of the estimate from the draws that the running estimator averages, burn-in
    included, against the true init loss."""
    return float(_estimates(draws, draws.init_loss).mean())


def running_init_llc(draws: Draws) -> tuple[float, float]:
    """Mean and standard deviation over chains of the estimate as that estimator gives it, against
    the running init loss. Chains count in their order."""
    first = draws.losses[:, :1]
    estimates = _estimates(draws, np.cumsum(first, axis=0) / len(first))
    return float(estimates.mean()), float(estimates.std(ddof=1))


def predicted_shift(nbeta, chains, draws, loss) -> tuple[float, float]:
    """What the artefact adds to the mean, and the standard deviation over chains that it alone
    gives, where every first draw has this loss: with nbeta = 100 / ln 100, 20 chains and 200
    draws, 10.26 and 6.39 times the loss."""
    missing = (1 - np.arange(1, chains + 1) / chains) * (draws - 1) / draws
    return float(nbeta * loss * missing.mean()), float(
        nbeta * loss * missing.std(ddof=1))


def _estimates(draws, init):
    """One a chain, (C,)."""
    return draws.sampler.nbeta * (draws.losses - init)[:, 1:].sum(1) / draws.losses.shape[1]
