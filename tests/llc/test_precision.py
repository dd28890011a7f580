"""Sampling to a precision, or to the cap, and which of the two it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from llc_gates import assert_within

from companion.known.answers import quadratic_chain_mean
from companion.known.potentials import Powers, quadratic
from devlib.errors import UserError
from devlib.llc import estimate_llc, scaled_losses
from devlib.llc.precision import estimate_to_precision
from devlib.sampling import SGLD, ChainDiverged, sample_chains
from devlib.sampling.burn_in import find_burn_in
from tests.sampling.test_chains import cliff_problem

TOY, SAMPLER = quadratic((1.0, 2.0, 4.0)), SGLD(eps=2e-2, nbeta=20, gamma=1)
PROBLEM = (TOY.loss, TOY.params, TOY.data)


def run(problem=PROBLEM, sampler=SAMPLER, **settings):
    """Of the chain's own mean: what its step does to that is tests/llc/test_step_bias.py's."""
    return estimate_to_precision(*problem, sampler, **{"chains": 16, "vectorised": True,
                                                       "health": False, **settings})


@pytest.mark.parametrize("precision", [0.1, 0.03])
def test_reaches_the_precision_asked_for(precision):
    done = run(precision=precision)
    found = done.estimate
    assert done.reached and done.reason.startswith("precision reached")
    assert found.mcse <= precision * found.mean
    assert found.ess >= 200 and found.rhat <= 1.05
    assert done.draws.burn_in > 0
    assert_within(found, quadratic_chain_mean((1.0, 2.0, 4.0), SAMPLER))
    assert "precision reached" in str(done)


def test_takes_not_much_more_than_it_needs():
    """The draws that its error was short of, at most doubled, and a block."""
    done = run(precision=0.02, block=100)
    found, taken = done.estimate, done.draws.losses.shape[1]
    needed = taken * (found.mcse / (0.02 * found.mean)) ** 2
    assert needed <= taken < 2 * needed + 100


def test_equals_sampling_as_much_at_once():
    done = run(precision=0.05, chains=4, block=50, vectorised=False, compile=False)
    length = done.draws.losses.shape[1]
    assert length > 50  # it did go on
    whole = sample_chains(*PROBLEM, SAMPLER, chains=4, draws=length, vectorised=False,
                          compile=False)
    assert np.array_equal(whole.losses, done.draws.losses)
    assert done.draws.burn_in == max(whole.burn_in, whole.distance_burn_in())
    alone = run(precision=0.05, chains=4, block=50, vectorised=False, compile=False,
                max_distance_rhat=None)  # the loss decides alone
    length = alone.draws.losses.shape[1]
    assert alone.draws.burn_in == sample_chains(*PROBLEM, SAMPLER, chains=4, draws=length,
                                                vectorised=False, compile=False).burn_in


def test_the_cap():
    done = run(precision=1e-3, cap_draws=330, block=100, burn_in=30)
    assert not done.reached
    assert done.draws.losses.shape[1] == 330 and done.draws.burn_in == 30
    assert done.reason.startswith("stopped at the cap of 330") and "MCSE" in done.reason
    assert done.estimate.mcse > 0  # and the estimate so far is there


def test_gates_of_ess_and_rhat():
    """A loose precision is not enough while the error itself is a guess."""
    few = run(precision=0.9, block=20, cap_draws=20, burn_in=0, chains=4)
    assert not few.reached and "ESS" in few.reason and "MCSE" not in few.reason
    slow = run(sampler=SGLD(eps=1e-5, nbeta=20, gamma=1), precision=0.9, min_ess=0, block=100,
               cap_draws=100)
    assert not slow.reached and "R-hat" in slow.reason


# ------------------------------------------------------------ the gate of |w - w0|^2

FAST = Powers("40 quadratic directions", (0.5,) * 40, (2,) * 40)
SLOW = Powers("and 8 slow quartic ones", (0.5,) * 40 + (1e-4,) * 8, (2,) * 40 + (4,) * 8)
NO_SPRING = SGLD(2e-3, 100, 0)


@pytest.mark.parametrize("seed", range(8))
def test_directions_too_slow_to_show_in_the_loss(seed):
    """By its loss the estimate is as precise as asked, and it is below the truth, 22."""
    done = run((SLOW.loss, SLOW.params, SLOW.data), NO_SPRING, chains=4, cap_draws=800, seed=seed)
    assert not done.reached
    assert done.estimate.distance_rhat >= 1.2
    assert "R-hat of |w - w0|^2" in done.reason
    losses = scaled_losses(done.draws)
    alone = estimate_llc(replace(done.draws, burn_in=find_burn_in(losses)))
    assert alone.mcse <= 0.02 * alone.mean and alone.ess >= 200 and alone.rhat <= 1.05
    assert alone.mean < 22


@pytest.mark.parametrize("seed", range(4))
def test_directions_that_all_mix(seed):
    done = run((FAST.loss, FAST.params, FAST.data), NO_SPRING, chains=4, seed=seed)
    assert done.reached and done.estimate.distance_rhat <= 1.05
    assert_within(done.estimate, quadratic_chain_mean((1.0,) * 40, NO_SPRING))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("condition", "reached"), [(1e4, False), (10, True)])
def test_a_condition_number(condition, reached, seed):
    """20 curvatures from 1 down to 1 / condition, at a step that suits the first."""
    curvatures = np.geomspace(1 / condition, 1, 20)
    toy, sampler = quadratic(tuple(curvatures)), SGLD(5e-5, 2e4, 1)
    done = run((toy.loss, toy.params, toy.data), sampler, chains=4, precision=0.05,
               cap_draws=1500, seed=seed, warn=False)
    assert done.reached == reached
    if reached:
        assert_within(done.estimate, quadratic_chain_mean(curvatures, sampler))
    else:
        assert done.estimate.mean < quadratic_chain_mean(curvatures, sampler)
        assert "R-hat of |w - w0|^2" in done.reason


def test_an_llc_of_zero():
    """Where nothing moves, zero is exact."""
    unused = Powers("unused", (0.0,), (2,))
    assert run((unused.loss, unused.params, unused.data)).reached


def test_one_chain():
    assert run(chains=1, precision=0.2, cap_draws=8000).reached


@pytest.mark.parametrize("keep", [False, True])
def test_divergence(keep):
    sampler = SGLD(eps=1e-2, nbeta=10.0, gamma=1.0)
    if not keep:
        with pytest.raises(ChainDiverged):
            run(cliff_problem(), sampler, cap_draws=400)
        return
    done = run(cliff_problem(), sampler, block=40, cap_draws=40, on_divergence="keep")
    assert 0 < len(done.estimate.diverged) < 16
    with pytest.raises(ChainDiverged):  # once none is left there is nothing to go on with
        run((lambda p, b: (p["w"] ** 4).sum().expand(len(b[0])), {"w": torch.ones(1)},
             (torch.zeros(1),)), SGLD(1.0, 100.0, 0.0), on_divergence="keep")


@pytest.mark.parametrize(("settings", "words"), [
    ({"precision": 0}, "precision"), ({"precision": "high"}, "precision"),
    ({"cap_draws": 0}, "cap_draws"), ({"block": 0}, "block"), ({"burn_in": 10_000}, "burn_in"),
    ({"burn_in": -1}, "burn_in"), ({"max_rhat": 0.9}, "max_rhat"),
    ({"max_distance_rhat": 0.9}, "max_distance_rhat"), ({"min_ess": -1}, "min_ess"),
    ({"baseline": "none"}, "baseline"), ({"on_divergence": "x"}, "on_divergence"),
    ({"chains": 0}, "chains"), ({"batch_size": -1}, "batch_size"), ({"seed": -1}, "seed")])
def test_bad_input_before_any_work(settings, words):
    def untouched(params, batch):
        raise AssertionError("the loss was called")

    with pytest.raises(UserError, match=words):
        run((untouched, TOY.params, TOY.data), **settings)
