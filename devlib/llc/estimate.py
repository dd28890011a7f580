"""The local learning coefficient from SGLD draws (eq. 3), with its error.

    llc = nbeta (E[L_m(w_t)] - L(w0))
"""

import math
from dataclasses import dataclass

import numpy as np

from devlib.checks import check_count, check_number
from devlib.errors import UserError
from devlib.sampling.draws import Draws, diagnostic

BASELINES = ("same-batch", "whole-set")


@dataclass(frozen=True)
class LLC:
    """An estimate with its error, in units of effective parameters / 2 (no unit).

    mcse is the Monte Carlo standard error of the mean, ess the effective sample size behind it
    (mcse = sd / sqrt(ess)), rhat the rank-normalised split R-hat over chains; a single chain is
    halved for it. All three are ArviZ's, and NaN below eight draws a chain. Draws that are all
    equal have neither ESS nor R-hat (NaN), and an error, 0, only where the chains moved and the
    loss stayed that of w0: then the LLC is 0.

    distance_rhat is the R-hat of |w - w0|^2 over the same draws, which sees what the loss does
    not: directions too slow to have moved yet. distance_burn_in is the burn-in that it asks for.

    Locality: chain_loss is the mean loss of the chain, L(w0) + llc / nbeta, to be held beside
    init_loss = L(w0), and spring_ratio the spring's sd 1 / sqrt(gamma) over the root mean square
    of the weights at w0: where it is not small, nothing is local about the estimate. Where it is
    too small, the estimate is the spring's: spring_slope is d llc / d ln gamma, by the draws' own
    -nbeta gamma / 2 cov(L_m, |w - w0|^2), with its error. A quadratic direction of curvature h has
    llc = x / 2 and slope -x (1 - x) / 2, x = nbeta h / (nbeta h + gamma).

    Of draws made with `health`: step_bias is how far the step eps moves the mean, the estimate at
    twice the step less this one (first order in eps; where gradients are of minibatches, it has
    their share too), with its own Monte Carlo error; infinite where twice the step diverges, so
    that eps is near its bound. slope_share is the part of what the noise costs that descent takes
    away, g / (g + llc), with g what the chain gains without its noise (A.7; 0 where it gains
    nothing): where it is not small, w0 is no minimum and the number is a property of w0, gamma
    and the chain's length together (a saddle without slope does not show in it: devlib.own.saddle).
    What draws do not hold is NaN here, or None.

    two_regimes: the draws are those of two starts (devlib.llc.equilibrium) that do not meet, so
    that their mean is nobody's.
    """

    mean: float
    mcse: float
    ess: float
    rhat: float
    init_loss: float
    chain_means: tuple[float, ...]
    escaping: tuple[int, ...]  # chains whose estimate is negative and still falling
    diverged: tuple[int, ...]  # chains left out
    distance_rhat: float = math.nan
    distance_burn_in: int | None = None
    chain_loss: float = math.nan
    spring_ratio: float = math.nan
    step_bias: float = math.nan
    step_bias_mcse: float = math.nan
    slope_share: float = math.nan
    spring_slope: float = math.nan
    spring_slope_mcse: float = math.nan
    two_regimes: bool = False

    @property
    def set_by_spring(self) -> bool:
        """Whether gamma, and not the loss, surely gives a quarter of the estimate or more."""
        return -self.spring_slope - 2 * self.spring_slope_mcse > abs(self.mean) / 4

    @property
    def error(self) -> float:
        """The standard error with the step bias, where that was measured: the root of mcse^2 +
        step_bias^2 + step_bias_mcse^2. Else the mcse."""
        if math.isnan(self.step_bias):
            return self.mcse
        return math.hypot(self.mcse, self.step_bias, self.step_bias_mcse)

    def retained(self, reference_loss) -> float:
        """The share of what the model knows that the chain kept,

            1 - (E L - L(w0)) / (L_ref - L(w0)),

        for the loss L_ref of a predictor that knows nothing, such as the best constant: 1 for a
        chain as good as w0, 0 for one that has unlearned the task, and less where it is worse
        than knowing nothing. Raises UserError unless the reference is above L(w0).
        """
        check_number("reference_loss", reference_loss)
        if not reference_loss > self.init_loss:
            raise UserError(f"reference_loss must be above the loss of w0, {self.init_loss:.6g}: "
                            f"that of a predictor that knows nothing, not {reference_loss!r}")
        return 1 - (self.chain_loss - self.init_loss) / (reference_loss - self.init_loss)

    def __str__(self):
        note = f", escaping chains {list(self.escaping)}" if self.escaping else ""
        small = 0 < self.mcse < 0.01  # then as many digits as the error has meaning
        digits = 1 - math.floor(math.log10(self.mcse)) if small else 2
        parts = ("" if math.isnan(self.step_bias) else
                 f"MCSE {self.mcse:.{digits}f}, step bias {self.step_bias:+.{digits}f} +- "
                 f"{self.step_bias_mcse:.{digits}f}, ")
        if self.slope_share >= 0.005:
            note = f", slope {self.slope_share:.0%}{note}"
        if self.two_regimes:
            note = f", TWO REGIMES that do not meet, not one number{note}"
        return (f"LLC {self.mean:.{digits}f} +- {self.error:.{digits}f} ({parts}ESS "
                f"{self.ess:.0f}, R-hat {self.rhat:.3f}{note})")


def default_nbeta(batch_size) -> float:
    """m / ln m: the inverse temperature of A.5.1 for batches of m samples."""
    check_count("batch_size", batch_size, least=2)
    return batch_size / math.log(batch_size)


def scaled_losses(draws: Draws, baseline="same-batch") -> np.ndarray:
    """nbeta (L_m(w_t) - L(w0)) of every draw, (C, T), burn-in included.

    "whole-set" subtracts the loss of w0 on the whole set, as the paper does. "same-batch"
    subtracts the loss of w0 on the very batch of that draw: the same expectation, since batch t
    does not depend on w_t, without the noise that both share.
    """
    check_baseline(baseline)
    if baseline == "whole-set" and draws.init_loss_se:
        raise UserError("these draws made no pass over the whole set: take baseline='same-batch'")
    subtract = draws.baseline if baseline == "same-batch" else draws.init_loss
    with np.errstate(over="ignore"):  # on its way to diverging
        return draws.sampler.nbeta * (draws.losses - subtract)


def check_baseline(baseline):
    """Raises UserError for a baseline that there is not."""
    if baseline not in BASELINES:
        raise UserError(f"baseline must be one of {', '.join(BASELINES)}, not {baseline!r}")


def estimate_llc(draws: Draws, baseline="same-batch") -> LLC:
    """The LLC estimate of eq. 3 from the draws after burn-in of the chains that stayed finite.

    A negative estimate is reported as it is. Raises UserError if every chain diverged.
    """
    if not isinstance(draws, Draws):
        raise UserError(f"estimate_llc takes what sample_chains gives, not {type(draws).__name__}")
    kept = scaled_losses(draws, baseline)[draws.healthy, draws.burn_in:]
    if not len(kept):
        raise UserError("every chain diverged: take a smaller eps")
    mean, (mcse, ess, rhat) = float(kept.mean()), _error(kept)
    if mcse == 0 and not (mean == 0 and _moved(draws)):
        mcse = math.nan  # a frozen chain, or one at rest on a ceiling: no spread says nothing
    distance = _distance(draws)
    # a NaN does not meet, but of a loss that is 0 throughout
    meet = draws.start != "both" or ((rhat <= draws.max_rhat or mcse == 0)
                                     and distance[0] <= draws.max_rhat)
    return LLC(mean, mcse, ess, rhat, draws.init_loss, tuple(map(float, kept.mean(1))),
               _escaping(draws, kept), tuple(draws.diverged), *distance,
               draws.init_loss + mean / draws.sampler.nbeta, _spring_ratio(draws),
               *_step_bias(draws), _slope_share(draws, mean), *_spring_slope(draws, kept),
               two_regimes=not meet)


def _step_bias(draws) -> tuple[float, float]:
    """The mean of nbeta (L_m at twice the step - L_m) on the same batches, and its mcse."""
    if draws.doubled is None:
        return math.nan, math.nan
    both = slice(draws.burn_in + draws.burn_in % 2, None, 2)  # draws that both chains have
    with np.errstate(over="ignore", invalid="ignore"):  # on its way to diverging
        apart = draws.sampler.nbeta * (draws.doubled - draws.losses)[draws.healthy][:, both]
        if not np.isfinite(apart).all():
            return math.inf, math.nan
        return (float(apart.mean()), _error(apart)[0]) if apart.size else (math.nan, math.nan)


def _slope_share(draws, mean) -> float:
    """g / (g + llc) of the gain g of the chain without noise; NaN where that chain diverged."""
    if draws.descent is None:
        return math.nan
    gain = -draws.sampler.nbeta * float(draws.descent[draws.burn_in:].mean())
    return gain / (gain + max(mean, 0.0)) if not gain <= 0 else 0.0


def _spring_slope(draws, kept) -> tuple[float, float]:
    """d llc / d ln gamma in the law of the kept nbeta (L_m - L(w0)), (C, T), and its mcse."""
    if draws.distances is None:
        return math.nan, math.nan
    far = draws.distances[draws.healthy, draws.burn_in:]
    product = -draws.sampler.gamma / 2 * (kept - kept.mean()) * (far - far.mean())
    return float(product.mean()), _error(product)[0]


def _moved(draws) -> bool:
    """Whether the chains are known to have left where they began."""
    return draws.distances is not None and bool(np.ptp(draws.distances[draws.healthy]) > 0)


def _distance(draws) -> tuple[float, int | None]:
    """(R-hat after the draws' own burn-in, burn-in of its own) of |w - w0|^2."""
    if draws.distances is None:
        return math.nan, None
    return _rhat(draws.distances[draws.healthy, draws.burn_in:]), draws.distance_burn_in()


def _spring_ratio(draws) -> float:
    """1 / sqrt(gamma) over the weights' root mean square; infinite without a spring or at 0."""
    if draws.weight_rms is None:
        return math.nan
    stiffness = draws.sampler.gamma**0.5 * draws.weight_rms
    return 1 / stiffness if stiffness else math.inf


def _error(kept):
    """(mcse, ess, rhat) of draws (C, T)."""
    if np.ptp(kept) == 0:  # ArviZ would divide by zero
        return 0.0, math.nan, math.nan
    if kept.shape[1] < 8:
        return math.nan, math.nan, math.nan
    return diagnostic("mcse", kept), diagnostic("ess", kept, method="mean"), _rhat(kept)


def _rhat(kept):
    """Of draws (C, T); NaN where all are equal, or fewer than eight a chain."""
    if kept.shape[1] < 8 or np.ptp(kept) == 0:
        return math.nan
    halves = kept if len(kept) > 1 else kept[:, :kept.shape[1] // 2 * 2].reshape(2, -1)
    return diagnostic("rhat", halves)


def llc_trace(draws: Draws, baseline="same-batch") -> np.ndarray:
    """The online estimate of A.5.4 (eqs. 9-12): for each chain the estimate from draws 0..t,
    (C, T). It is a running mean, so burn-in shows as the slope it begins with."""
    scaled = scaled_losses(draws, baseline)
    return scaled.cumsum(1) / np.arange(1, scaled.shape[1] + 1)


def _escaping(draws, kept):
    """Chains that slide downhill: their last quarter is negative, the lowest of the four, and
    below the first by more than four standard errors, autocorrelation counted."""
    length = kept.shape[1] // 4
    if not length:
        return ()
    quarters = kept[:, :4 * length].reshape(len(kept), 4, length)
    return tuple(chain for chain, parts in zip(draws.healthy, quarters, strict=True)
                 if parts[3].mean() < 0 and parts.mean(1).argmin() == 3
                 and parts[0].mean() - parts[3].mean()
                 > 4 * math.hypot(_error(parts[:1])[0], _error(parts[3:])[0]))
