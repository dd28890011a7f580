"""The artefact in the released LLC curve of the language models, from traces of one's own.

The authors' running estimator takes its init loss as the mean over all chains of the first draw.
Chains run one after another, and while chain c runs, the rows of later chains are still zero: so
chain c of C uses about (c + 1)/C of the true init loss. (Inferred from the released notebooks and
files; the released spread between chains agrees with it to half a percent.)
"""

import numpy as np

from devlib.draws import Draws


def running_init_llc(draws: Draws) -> tuple[float, float]:
    """Mean and standard deviation over chains of the estimate as that estimator gives it: all
    draws, burn-in included, against the running init loss. Chains count in their order."""
    first = draws.losses[:, 0]
    init = np.cumsum(first) / len(first)
    estimates = draws.sampler.nbeta * (draws.losses.mean(1) - init)
    return float(estimates.mean()), float(estimates.std(ddof=1))


def predicted_shift(nbeta, chains, loss) -> tuple[float, float]:
    """What the artefact adds to the mean, and the standard deviation over chains that it alone
    gives, where every first draw has this loss: with nbeta = 21.7 and 20 chains, 10.3 and 6.4
    times the loss."""
    missing = 1 - np.arange(1, chains + 1) / chains
    return float(nbeta * loss * missing.mean()), float(
        nbeta * loss * missing.std(ddof=1))
