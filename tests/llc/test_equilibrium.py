"""Two starts: where they meet the estimate is exact, and where they do not there are two."""

from dataclasses import dataclass

import numpy as np
import pytest
from llc_gates import assert_within

from companion.known.answers import chain_moments, quadratic_chain_mean
from companion.known.potentials import Potential, Powers, TwoMinima, quadratic
from devlib.errors import ShortChains, UserError
from devlib.llc.equilibrium import equilibrium
from devlib.sampling import SGLD, ChainDiverged, RMSpropSGLD, sample_chains


def run(potential, sampler, **settings):
    return equilibrium(potential.loss, potential.params, potential.data, sampler,
                       **{"chains": 8, "draws": 1000, "vectorised": True} | settings)


@dataclass(frozen=True)
class Wells(Potential):
    """1 - cos 2 pi w: a well of the same depth at every whole number."""

    dim: int = 1

    def energy(self, w):
        return (1 - (2 * np.pi * w).cos()).sum(-1)


# ----------------------------------------------------------------------------- where they meet


def test_two_starts_show_in_the_loss_what_hides_in_that_of_one():
    """Eight slow quartic directions beside 40 fast ones, a spring that relaxes in 10,000 draws:
    of either start alone the R-hat of the loss passes, of both it is far off, and the answer
    lies between the two means."""
    slow = Powers("slow", (0.5,) * 40 + (1e-4,) * 8, (2,) * 40 + (4,) * 8)
    sampler = SGLD(2e-3, 100, 0.1)
    found = run(slow, sampler, chains=32, draws=600, burn_in=300, warn=False)
    answer = sum(chain_moments(part, sampler)[0] for part in (slow.parts[0], slow.parts[-1])
                 for _ in range(40 if part.exponents == (2,) else 8))
    assert not found.meet and found.rhat > 1.05
    assert found.from_w0.rhat <= 1.05
    low, high = found.from_w0, found.from_prior
    assert low.mean + 4 * low.mcse < answer < high.mean - 4 * high.mcse


def test_they_meet_on_a_quadratic_and_the_estimate_is_exact():
    """T1, with gamma and eps."""
    sampler = SGLD(2e-2, 20, 1)
    found = run(quadratic((1.0, 2.0, 4.0)), sampler)
    assert found.meet and max(found.rhat, found.distance_rhat) <= 1.01
    reference = quadratic_chain_mean((1.0, 2.0, 4.0), sampler)
    for estimate in (found.estimate, found.from_w0, found.from_prior):
        assert_within(estimate, reference)
    assert "both starts meet" in str(found)
    assert len(found.estimate.chain_means) == 16


def test_they_meet_on_a_quartic():
    toy, sampler = Powers("quartic", (1, 1), (4, 4)), SGLD(1e-2, 10, 1)
    found = run(toy, sampler, draws=2000, chains=16)
    assert found.meet
    assert_within(found.estimate, chain_moments(toy, sampler)[0])


def test_the_two_sets_share_no_noise():
    """Chains with the same noise run together, whatever their starts, and would count twice: the
    error of the pooled mean is that of twice as many draws because they are."""
    found = run(quadratic((1.0,)), SGLD(2e-2, 20, 1))
    one, other = found.draws.losses[:8, 500:], found.draws.losses[8:, 500:]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]
    spread = (found.estimate.ess / found.draws.losses[:, found.draws.burn_in:].size * 500) ** -0.5
    assert abs(np.mean(correlation)) < 4 * spread / 8**0.5


def test_a_tight_spring_holds_both_starts_in_one_well():
    """gamma = 100: the next well is ten deviations away."""
    sampler = SGLD(1e-3, 10, 100)
    found = run(Wells(), sampler)
    assert found.meet
    assert_within(found.estimate, chain_moments(Wells(), sampler)[0])


# --------------------------------------------------------------------------- where they do not


def test_wells_of_one_depth_differ_in_the_distance_alone():
    """gamma = 1 puts two prior starts of three outside the well of w0; the barrier is 20 kT."""
    found = run(Wells(), SGLD(1e-3, 10, 1), warn=False)
    assert not found.meet and found.estimate is None
    assert found.from_w0.rhat <= 1.01 and found.from_w0.distance_rhat <= 1.01
    assert found.rhat < 1.1 < found.distance_rhat
    assert str(found).startswith("two regimes: from w0 LLC") and "from the prior" in str(found)
    assert found.from_w0.chain_means != found.from_prior.chain_means


def test_a_point_beside_a_line_of_minima():
    found = run(TwoMinima(), SGLD(1e-5, 1500, 4), chains=16, draws=400, warn=False)
    assert not found.meet
    assert found.rhat > 1.01 and found.distance_rhat > 1.01


def test_an_unused_direction_that_has_not_relaxed_does_not_meet():
    """It is no part of the loss, whose two estimates agree."""
    with pytest.warns(ShortChains, match=r"relaxes in 2 / \(eps gamma\) = 2,000 draws"):
        found = run(quadratic((1.0, 2.0, 0.0, 0.0)), SGLD(2e-2, 20, 0.05), draws=600)
    assert not found.meet and found.rhat < found.distance_rhat
    reference = quadratic_chain_mean((1.0, 2.0), SGLD(2e-2, 20, 0.05))
    assert_within(found.from_w0, reference)
    assert_within(found.from_prior, reference)


def test_the_prior_s_start_can_be_too_steep_for_a_step_that_is_sound_at_w0():
    toy, sampler = Powers("quartic", (1,), (4,)), SGLD(5e-3, 1000, 1)
    settings = {"chains": 8, "draws": 60, "vectorised": True, "warn": False}
    assert not sample_chains(toy.loss, toy.params, toy.data, sampler, **settings).diverged
    with pytest.raises(ChainDiverged):
        run(toy, sampler, **settings)
    kept = run(toy, sampler, **settings, on_divergence="keep")
    assert kept.from_prior.diverged and not kept.from_w0.diverged
    assert kept.draws.diverged.keys() == {8 + chain for chain in kept.from_prior.diverged}


# --------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(("settings", "words"), [
    ({"sampler": SGLD(1e-3, 10, 0)}, "gamma = 0 gives no prior"),
    ({"sampler": RMSpropSGLD(1e-3, 10, 0)}, "gamma = 0 gives no prior"),
    ({"sampler": 1e-3}, "sampler must be"), ({"max_rhat": 0.9}, "max_rhat"),
    ({"draws": 15}, "draws must be a whole number of 16"), ({"chains": 0}, "chains"),
    ({"start": "w0"}, "takes both starts"), ({"seed": -1}, "seed"), ({"burn_in": 50}, "burn_in"),
    ({"baseline": "none"}, "baseline"), ({"on_divergence": "x"}, "on_divergence")])
def test_bad_input_before_any_work(settings, words):
    def untouched(params, batch):
        raise AssertionError("the loss was called")

    toy = quadratic((1.0,))
    arguments = {"sampler": SGLD(2e-2, 10, 10), "chains": 2, "draws": 50} | settings
    with pytest.raises(UserError, match=words):
        equilibrium(untouched, toy.params, toy.data, **arguments)
