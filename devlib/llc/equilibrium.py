"""Whether chains from two starts end in the same place.

    found = equilibrium(loss, params, data, sampler, chains=4, draws=2000, batch_size=128)
    print(found)                    # one estimate, or two regimes
"""

from dataclasses import dataclass, replace

import numpy as np

from devlib.checks import check_count, check_number
from devlib.errors import UserError
from devlib.llc.estimate import LLC, check_baseline, estimate_llc
from devlib.rng import stream_seed
from devlib.sampling.chains import check_start
from devlib.sampling.draws import MAX_RHAT, Draws
from devlib.sampling.sample import check_on_divergence, sample_chains
from devlib.sampling.sgld import SGLD, warn_if_short


@dataclass(frozen=True)
class Equilibrium:
    """What chains from w0 and chains from the prior say, and whether it is the same.

    `rhat` and `distance_rhat` are the rank-normalised R-hat of the loss and of |w - w0|^2 over
    both sets of chains together; `estimate` pools the sets where they meet, and is None else.
    """

    meet: bool
    estimate: LLC | None
    from_w0: LLC
    from_prior: LLC
    rhat: float
    distance_rhat: float
    max_rhat: float
    draws: Draws  # both sets, those from w0 first, after one burn-in

    def __str__(self):
        apart = (f"R-hat over both {self.rhat:.3f} for the loss and {self.distance_rhat:.3f} for "
                 f"|w - w0|^2, limit {self.max_rhat:g}")
        if self.meet:
            return f"{self.estimate}: both starts meet ({apart})"
        error = np.hypot(self.from_w0.error, self.from_prior.error)
        agree = abs(self.from_w0.mean - self.from_prior.mean) <= 2 * error
        return (f"two regimes: from w0 {self.from_w0}; from the prior {self.from_prior} ({apart}"
                + "; the two numbers agree within their errors" * bool(agree) + ")")


def equilibrium(loss, params, data, sampler: SGLD, *, chains=4, draws, max_rhat=MAX_RHAT,
                burn_in=None, baseline="same-batch", seed=0, on_divergence="raise",
                warn=True, **options) -> Equilibrium:
    """Runs `chains` chains from w0 and as many from w0 + N(0, 1 / gamma), with batches and noise
    of their own, and asks whether they meet.

    They do where the R-hat over both sets is at most `max_rhat`, for the loss and for |w - w0|^2:
    chains that were started further apart than the posterior is wide and cannot be told apart
    have forgotten their start (Gelman and Rubin, 1992). Else the result says "two regimes" and
    keeps an estimate of each, which are not to be averaged: there are two basins, or the chains
    are too short for the slower set. Burn-in, unless given, is the longest that the loss or the
    distance of either set asks for (find_burn_in).

    Where it fails:
    - gamma = 0 has no prior to start from: refused.
    - Where the loss grows faster than a square, the prior's start is steeper than anything near
      w0, and diverges at a step that is sound there: of w^4 at nbeta = 1,000 the largest sound
      step is 6e-3 from w0, and from the prior 1e-4 at gamma = 1 and 6e-3 at 100. Quadratic ones
      have one step for both. ChainDiverged says so; take a smaller eps or a larger gamma.
    - A direction that the loss does not see relaxes by the spring alone. From w0 it meets the
      prior's start in |w - w0|^2 only after several times 2 / (eps gamma) draws, though its LLC
      may be right long before: "two regimes" then errs on the safe side, with both estimates
      alike. Chains from the prior are at rest in it from the first draw and do not mix either: of
      the regression run at step 217,171, 300 draws have an R-hat of 1.03 in the loss and of 2.4
      in |w - w0|^2. One start needs that gate: slow directions hide in its loss. Of two the loss
      alone shows them, as it begins below from w0 and above from the prior, so that where only
      the distance keeps them apart both estimates bound the answer.
    - |w - w0|^2 of millions of weights is too sharp for its R-hat: of a language model of 3.3
      million by the paper's settings both sets have one loss from draw 40 on (LLC 98.98 +- 0.41
      and 98.68 +- 0.39) and one distance to a thousandth, whose R-hat over 240 draws is 1.10.
    - An error knows nothing of directions that hardly moved. At step 8,211, where the spring
      relaxes in 1,000 draws, the second half of 500 draws from the prior lies 4.7 above where
      chains of 5,000 settle (148.1 +- 0.4), at a quoted 1.2; that of 2,000 draws 1.2.
    - A barrier makes two regimes of one posterior for as long as no chain crosses it: at step
      217,171 chains from w0 stay for thousands of draws; after 1,000 of three times the step both
      starts agree within 2 %, but that step diverges at 40,404.
    - A basin in which no chain begins is missed by both starts alike, and they meet without it:
      of C chains with the chance (1 - p)^C, where the prior gives its surroundings the share p.
      Of (w^2 - 1)^2 at w0 = 1 and gamma = 1 the other well has p = 0.16, and eight chains miss
      it one time in four. Take more chains where it matters; a basin that is narrow in many
      directions no number of them finds.

    Remaining arguments, errors and the warning of too few draws as for `sample_chains`.
    """
    check_start("prior", sampler)
    check_number("max_rhat", max_rhat, least=1)
    check_baseline(baseline)
    check_on_divergence(on_divergence)
    if "start" in options:
        raise UserError("equilibrium takes both starts; for one of them, sample_chains")
    check_count("draws", draws, least=16)  # halved by burn-in, eight are left for an R-hat
    check_count("seed", seed, least=0)
    if warn:
        warn_if_short(sampler, draws)
    settings = options | {"chains": chains, "draws": draws, "burn_in": burn_in, "warn": False,
                          "on_divergence": on_divergence}
    other_seed = stream_seed(seed, "prior")  # chains that share their noise would run together
    sets = [sample_chains(loss, params, data, sampler, seed=number, start=start, **settings)
            for number, start in ((seed, "w0"), (other_seed, "prior"))]
    return compare(*sets, max_rhat=max_rhat, burn_in=burn_in, baseline=baseline)


def compare(one: Draws, other: Draws, *, max_rhat=MAX_RHAT, burn_in=None,
            baseline="same-batch") -> Equilibrium:
    """The same of chains that have been run, from w0 and from the prior, on seeds of their own."""
    sets = [one, other]
    if burn_in is None and all(part.healthy for part in sets):
        burn_in = max(max(part.burn_in, part.distance_burn_in()) for part in sets)
        sets = [replace(part, burn_in=burn_in) for part in sets]
    both = replace(_together(*sets), max_rhat=max_rhat)
    from_w0, from_prior, pooled = (estimate_llc(part, baseline) for part in (*sets, both))
    meet = not pooled.two_regimes
    return Equilibrium(meet, pooled if meet else None, from_w0, from_prior, pooled.rhat,
                       pooled.distance_rhat, max_rhat, both)


def _together(one: Draws, other: Draws) -> Draws:
    """Two sets of chains of one length as one, the second numbered on from the first, with what
    both have."""
    both = {}
    for name in ("losses", "baseline", "distances", "doubled"):
        parts = getattr(one, name), getattr(other, name)
        both[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    if one.layer_distances is not None:
        both["layer_distances"] = {name: np.concatenate([part, other.layer_distances[name]])
                                   for name, part in one.layer_distances.items()}
    diverged = one.diverged | {chain + len(one.losses): draw
                               for chain, draw in other.diverged.items()}
    return replace(one, **both, diverged=diverged, start="both")
