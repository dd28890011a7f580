"""Sampling until the answer is as precise as asked."""

import math
from dataclasses import dataclass

from devlib.checks import check_count, check_number
from devlib.errors import UserError
from devlib.llc.estimate import LLC, check_baseline, estimate_llc
from devlib.sampling.chains import Chains
from devlib.sampling.draws import ChainDiverged, Draws
from devlib.sampling.sample import COMPILE_FROM, check_on_divergence


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
                          block=200, min_ess=200, max_rhat=1.05, burn_in=None,
                          baseline="same-batch", chains=4, seed=0, batch_size=None, mask=None,
                          vectorised=None, compile=None, init_losses=None,
                          microbatch=None, on_divergence="raise", progress=False) -> OnDemand:
    """Runs chains on, block by block, until MCSE <= precision |mean| with ESS >= `min_ess` (below
    which the MCSE is itself a guess) and R-hat <= `max_rhat`, or to `cap_draws` draws a chain.

    After each block burn-in is found anew (`burn_in=None`) and the next block is as long as the
    error so far says is missing, `block` at least and at most as much again as there is: so few
    looks are taken, as each look is a chance to stop too soon. The chains are those that
    `sample_chains` gives for as many draws. A precision is relative: an LLC of zero with noise
    never comes to it and runs to the cap.

    Remaining arguments and errors as for `sample_chains`; with on_divergence="keep" the chains
    that are left go on.
    """
    check_number("precision", precision, above=0)
    check_number("min_ess", min_ess, least=0)
    check_number("max_rhat", max_rhat, least=1)
    for name, value in (("cap_draws", cap_draws), ("block", block), ("chains", chains)):
        check_count(name, value)
    if burn_in is not None:
        check_count("burn_in", burn_in, least=0)
        if burn_in >= cap_draws:
            raise UserError(f"burn_in must be below cap_draws = {cap_draws}, not {burn_in}")
    check_on_divergence(on_divergence)
    check_baseline(baseline)
    if compile is None:
        compile = chains * cap_draws >= COMPILE_FROM
    run = Chains(loss, params, data, sampler, chains=chains, seed=seed, batch_size=batch_size,
                 mask=mask, vectorised=vectorised, compile=compile, init_losses=init_losses,
                 microbatch=microbatch)
    more = block + (burn_in or 0)
    while True:
        run.extend(min(more, cap_draws - run.taken), progress)
        draws = run.draws(burn_in)
        if draws.diverged and (on_divergence == "raise" or not draws.healthy):
            raise ChainDiverged(draws)
        estimate = estimate_llc(draws, baseline)
        unmet = _unmet(estimate, precision, min_ess, max_rhat)
        if not unmet:
            reason = (f"precision reached: MCSE {_relative(estimate):.2%} of the mean after "
                      f"{run.taken} draws a chain, {draws.burn_in} of them burn-in")
            return OnDemand(estimate, draws, True, reason)
        if run.taken >= cap_draws:
            reason = f"stopped at the cap of {cap_draws} draws a chain: {'; '.join(unmet)}"
            return OnDemand(estimate, draws, False, reason)
        more = min(run.taken, max(block, _missing(estimate, precision, min_ess, run.taken)))


def _relative(estimate):
    if estimate.mcse == 0:
        return 0.0
    return estimate.mcse / abs(estimate.mean) if estimate.mean else math.inf


def _unmet(estimate, precision, min_ess, max_rhat) -> list[str]:
    """The gates that an estimate fails, in words. A NaN fails."""
    unmet = []
    if not _relative(estimate) <= precision:
        unmet.append(f"MCSE {_relative(estimate):.2%} of the mean, above {precision:.2%}")
    if not estimate.ess >= min_ess:
        unmet.append(f"ESS {estimate.ess:.0f}, below {min_ess}")
    if not estimate.rhat <= max_rhat:
        unmet.append(f"R-hat {estimate.rhat:.3f}, above {max_rhat}")
    return unmet


def _missing(estimate, precision, min_ess, taken) -> int:
    """How many more draws the error so far asks for."""
    times = max((_relative(estimate) / precision) ** 2, min_ess / max(estimate.ess, 1))
    return math.ceil(taken * min(times - 1, 1)) if math.isfinite(times) else taken
