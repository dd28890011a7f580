"""The local learning coefficient from SGLD draws (eq. 3), with its error.

    llc = nbeta (E[L_m(w_t)] - L(w0))
"""

import math
from dataclasses import dataclass

import numpy as np

from devlib.errors import UserError
from devlib.sampling import Draws

BASELINES = ("same-batch", "whole-set")


@dataclass(frozen=True)
class LLC:
    """An estimate with its error, in units of effective parameters / 2 (no unit).

    mcse is the Monte Carlo standard error of the mean, ess the effective sample size behind it,
    rhat the rank-normalised split R-hat over chains (NaN where ArviZ needs more draws).
    """

    mean: float
    mcse: float
    ess: float
    rhat: float
    init_loss: float
    chain_means: tuple[float, ...]
    escaping: tuple[int, ...]  # chains whose estimate is negative and still falling
    diverged: tuple[int, ...]  # chains left out

    def __str__(self):
        note = f", escaping chains {list(self.escaping)}" if self.escaping else ""
        return (f"LLC {self.mean:.2f} +- {self.mcse:.2f} (ESS {self.ess:.0f}, "
                f"R-hat {self.rhat:.3f}{note})")


def default_nbeta(batch_size) -> float:
    """m / ln m: the inverse temperature of A.5.1 for batches of m samples."""
    if batch_size < 2:
        raise UserError(f"default_nbeta needs a batch of 2 or more, not {batch_size}")
    return batch_size / math.log(batch_size)


def scaled_losses(draws: Draws, baseline="same-batch") -> np.ndarray:
    """nbeta (L_m(w_t) - L(w0)) of every draw, (C, T), burn-in included.

    "whole-set" subtracts the loss of w0 on the whole set, as the paper does. "same-batch"
    subtracts the loss of w0 on the very batch of that draw: the same expectation, since batch t
    does not depend on w_t, without the noise that both share.
    """
    if baseline not in BASELINES:
        raise UserError(f"baseline must be one of {', '.join(BASELINES)}, not {baseline!r}")
    subtract = draws.baseline if baseline == "same-batch" else draws.init_loss
    return draws.sampler.nbeta * (draws.losses - subtract)


def estimate_llc(draws: Draws, baseline="same-batch") -> LLC:
    """The LLC estimate of eq. 3 from the draws after burn-in of the chains that stayed finite.

    A negative estimate is reported as it is. Raises UserError if every chain diverged.
    """
    import arviz  # two seconds, so only where it is needed

    kept = scaled_losses(draws, baseline)[draws.healthy, draws.burn_in:]
    if not len(kept):
        raise UserError("every chain diverged: take a smaller eps")
    if np.ptp(kept) == 0:  # nothing moved; ArviZ would divide by zero
        mcse, ess, rhat = 0.0, float(kept.size), 1.0
    else:
        mcse, ess = float(arviz.mcse(kept)), float(arviz.ess(kept))
        rhat = float(arviz.rhat(kept)) if len(kept) > 1 else math.nan
    return LLC(float(kept.mean()), mcse, ess, rhat, draws.init_loss,
               tuple(map(float, kept.mean(1))), _escaping(draws, kept), tuple(draws.diverged))


def llc_trace(draws: Draws, baseline="same-batch") -> np.ndarray:
    """The online estimate of A.5.4 (eqs. 9-12): for each chain the estimate from draws 0..t,
    (C, T). It is a running mean, so burn-in shows as the slope it begins with."""
    scaled = scaled_losses(draws, baseline)
    return scaled.cumsum(1) / np.arange(1, scaled.shape[1] + 1)


def _escaping(draws, kept):
    """Chains that slide downhill: a negative mean over the last quarter, lower than over the
    quarter before it by more than both quarters' noise."""
    quarter = kept.shape[1] // 4
    if quarter < 2:
        return ()
    late, before = kept[:, -quarter:], kept[:, -2 * quarter:-quarter]
    noise = np.sqrt((late.var(1) + before.var(1)) / quarter)
    falling = (late.mean(1) < 0) & (before.mean(1) - late.mean(1) > 2 * noise)
    return tuple(np.asarray(draws.healthy)[falling].tolist())
