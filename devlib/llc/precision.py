"""Sampling until the answer is as precise as asked."""

import math
from dataclasses import dataclass, replace

from devlib.checks import check_burn_in, check_count, check_number
from devlib.llc.estimate import LLC, check_baseline, estimate_llc
from devlib.sampling.beside import Watched
from devlib.sampling.chains import Chains
from devlib.sampling.draws import ChainDiverged, Draws
from devlib.sampling.sample import COMPILE_FROM, check_on_divergence
from devlib.sampling.sgld import warn_if_short
from devlib.settings import MIN_ESS, TEST_RHAT

SHORTEN = 4  # the most by which a step size is brought down at a time


@dataclass(frozen=True)
class OnDemand:
    """An estimate, the draws behind it, and whether it came to the precision asked for."""

    estimate: LLC
    draws: Draws
    reached: bool
    reason: str  # what happened, in words

    def __str__(self):
        return f"{self.estimate}: {self.reason}"


def estimate_to_precision(loss, params, data, sampler, *, precision=0.02, cap_draws=10_000,
                          block=200, min_ess=MIN_ESS, max_rhat=TEST_RHAT,
                          max_distance_rhat=TEST_RHAT, burn_in=None, baseline="same-batch",
                          chains=4, compile=None, on_divergence="raise", warn=True,
                          progress=False, health=True, **options) -> OnDemand:
    """Runs chains on, block by block, until error <= precision |mean| with ESS >= `min_ess` (below
    which the MCSE is itself a guess), R-hat <= `max_rhat` for the loss and <= `max_distance_rhat`
    for |w - w0|^2, or to `cap_draws` draws a chain.

    The error is `LLC.error`: the MCSE and the step bias, measured by chains of twice the step
    (half as much work again; devlib.sampling.beside). It ends early where the bias alone is beyond
    the precision, which no draws mend, and says which eps to take. health=False leaves the bias
    and the slope unknown, and the MCSE alone counts.

    The distance is asked because a few slow directions hide in a loss that many fast ones make,
    and not in how far the chains have come: 40 quadratic directions and 8 slow quartic ones look
    converged by their loss at 9 % below the truth. Burn-in is then the longer of what the loss
    and the distance ask for. max_distance_rhat=None asks the loss alone.

    After each block burn-in is found anew (`burn_in=None`) and the next block is as long as the
    error so far says is missing, `block` at least and at most as much again as there is: so few
    looks are taken, as each look is a chance to stop too soon. The chains are those that
    `sample_chains` gives for as many draws. A precision is relative: an LLC of zero with noise
    never comes to it and runs to the cap.

    Remaining arguments and errors as for `sample_chains`; with on_divergence="keep" the chains
    that are left go on.
    """
    _check_gates(precision, min_ess, max_rhat, max_distance_rhat)
    for name, value in (("block", block), ("chains", chains)):
        check_count(name, value)
    check_burn_in(burn_in, cap_draws=cap_draws)
    check_on_divergence(on_divergence)
    check_baseline(baseline)
    if compile is None:
        compile = chains * cap_draws >= COMPILE_FROM
    run = (Watched if health else Chains)(
        loss, params, data, sampler, chains=chains, compile=compile, **options)
    if warn:
        warn_if_short(sampler, cap_draws)
    more = block + (burn_in or 0)
    while True:
        run.extend(min(more, cap_draws - run.taken), progress)
        draws = run.draws(burn_in)
        if draws.diverged and (on_divergence == "raise" or not draws.healthy):
            raise ChainDiverged(draws)
        if burn_in is None and max_distance_rhat is not None:
            draws = replace(draws, burn_in=max(draws.burn_in, draws.distance_burn_in()))
        estimate = estimate_llc(draws, baseline)
        unmet = unmet_gates(estimate, precision, min_ess, max_rhat)
        apart = _apart(estimate, max_distance_rhat)
        advice = too_long_a_step(estimate, sampler, precision, min_ess)
        if not (unmet or apart) or advice or run.taken >= cap_draws:
            reason = _reason(estimate, draws, unmet + apart, advice)
            return OnDemand(estimate, draws, not (unmet or apart), reason)
        missing = _missing(estimate, precision, min_ess, run.taken) if unmet else run.taken // 2
        more = min(run.taken, max(block, missing))


def _check_gates(precision, min_ess, max_rhat, max_distance_rhat):
    check_number("precision", precision, above=0)
    check_number("min_ess", min_ess, least=0)
    check_number("max_rhat", max_rhat, least=1)
    if max_distance_rhat is not None:
        check_number("max_distance_rhat", max_distance_rhat, least=1)


def _relative(estimate):
    if estimate.error == 0:
        return 0.0
    return estimate.error / abs(estimate.mean) if estimate.mean else math.inf


def _shares(estimate):
    """The error in words: its MCSE, and the step bias where that was measured."""
    if _relative(estimate) > 1:  # a share of next to nothing hangs on rounding
        return "an error larger than the mean"
    if estimate.error == estimate.mcse:
        return f"MCSE {_relative(estimate):.2%} of the mean"
    size = abs(estimate.mean) or math.nan
    return (f"error {_relative(estimate):.2%} (MCSE {estimate.mcse / size:.2%}, step bias "
            f"{estimate.step_bias / size:+.2%} +- {estimate.step_bias_mcse / size:.2%}) "
            "of the mean")


def _reason(estimate, draws, unmet, advice):
    """Why it ended there, in words."""
    taken = draws.losses.shape[1]
    if not unmet:
        return (f"precision reached: {_shares(estimate)} after {taken} draws a chain, "
                f"{draws.burn_in} of them burn-in")
    if advice:
        return f"stopped after {taken} draws a chain: {advice}"
    return f"stopped at the cap of {taken} draws a chain: {'; '.join(unmet)}"


def too_long_a_step(estimate, sampler, precision, min_ess) -> str:
    """What to do about a step bias that is surely above the precision; nothing where it is not,
    or the estimate too young to say."""
    wanted = shorter_step(estimate, sampler, precision, min_ess)
    if wanted is None:
        return ""
    if estimate.step_bias == math.inf:
        return (f"chains of twice the step diverge: eps = {sampler.eps:g} is within a factor of "
                "two of its bound; take a smaller eps")
    enough = wanted > sampler.eps / SHORTEN
    return (f"{_shares(estimate)}, above {precision:.2%}, and draws do not mend a bias; take eps = "
            f"{wanted:.1g}" + (", which leaves half the precision to it" if enough else " or less"))


def shorter_step(estimate, sampler, precision, min_ess) -> float | None:
    """The eps that leaves half the precision to the step bias, where that is surely above the
    precision, but not below a quarter of the present one, as the bias is known to first order
    (half of it where twice the step diverges); None where the bias is not above."""
    if estimate.step_bias == math.inf:
        return sampler.eps / 2
    share = abs(estimate.step_bias) - 4 * estimate.step_bias_mcse  # NaN where unknown
    if not (share > precision * abs(estimate.mean) and estimate.ess >= min_ess):
        return None
    share = precision * abs(estimate.mean) / (2 * abs(estimate.step_bias))
    return sampler.eps * max(share, 1 / SHORTEN)


def unmet_gates(estimate, precision, min_ess, max_rhat) -> list[str]:
    """The gates that an estimate fails, in words. A NaN fails."""
    if estimate.error == 0:  # the loss of w0 wherever the chains went: nothing to average
        return []
    unmet = []
    if not _relative(estimate) <= precision:
        unmet.append(f"{_shares(estimate)}, above {precision:.2%}")
    if not estimate.ess >= min_ess:
        unmet.append(f"ESS {estimate.ess:.0f}, below {min_ess}")
    if not estimate.rhat <= max_rhat:
        unmet.append(f"R-hat {estimate.rhat:.3f}, above {max_rhat}")
    return unmet


def _apart(estimate, max_distance_rhat) -> list[str]:
    """The same for |w - w0|^2. A NaN fails."""
    if max_distance_rhat is None or estimate.distance_rhat <= max_distance_rhat:
        return []
    return [f"R-hat of |w - w0|^2 {estimate.distance_rhat:.3f}, above {max_distance_rhat}"]


def _missing(estimate, precision, min_ess, taken) -> int:
    """How many more draws the error so far asks for."""
    times = max((_relative(estimate) / precision) ** 2, min_ess / max(estimate.ess, 1))
    return math.ceil(taken * min(times - 1, 1)) if math.isfinite(times) else taken
