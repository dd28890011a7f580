"""Burn-in found from the trace, on chains whose transient is known."""

import math

import numpy as np
import pytest
from llc_gates import assert_within

from companion.known.answers import quadratic_chain_mean
from companion.known.potentials import quadratic
from devlib.errors import UserError
from devlib.llc import estimate_llc
from devlib.sampling import SGLD, sample_chains
from devlib.sampling.burn_in import find_burn_in
from tests.llc.test_estimate import draws_of, noise


def naive_mser(y):
    return min(range(len(y) // 2 + 1),
               key=lambda d: ((y[d:] - y[d:].mean()) ** 2).sum() / (len(y) - d) ** 2)


def test_equals_the_naive_rule():
    for seed in range(5):
        traces = noise(3, 101, seed, 0.8)
        traces[:, :10 * seed] += 3
        assert find_burn_in(traces) == naive_mser(traces.mean(0))


def test_a_step_is_cut_off_where_it_ends():
    """Ten standard deviations up for 130 draws: no less is cut, and hardly more."""
    for seed in range(10):
        traces = noise(4, 1000, seed)
        traces[:, :130] += 10
        assert 130 <= find_burn_in(traces) < 130 + 250


@pytest.mark.parametrize("time", [10, 40, 100])
def test_an_exponential_approach(time):
    """After the found burn-in the mean is right within its error; with every draw it is not."""
    traces = noise(4, 2000, seed=time, correlation=0.8) - 8 * np.exp(-np.arange(2000) / time)
    draws = draws_of(traces + 5, burn_in=find_burn_in(traces))
    assert_within(estimate_llc(draws), 5.0)
    assert draws.burn_in >= time
    found = estimate_llc(draws_of(traces + 5))
    if 8 * time / 2000 > 8 * found.mcse:  # the transient's share of the mean is plain to see
        with pytest.raises(AssertionError):
            assert_within(found, 5.0)


def test_little_is_lost_where_nothing_burns_in():
    cut = [find_burn_in(noise(4, 400, seed, 0.5)) / 400 for seed in range(50)]
    assert np.mean(cut) < 0.25


def test_on_a_real_chain():
    """From the minimum of a quadratic, where the loss climbs to its stationary value."""
    toy, sampler = quadratic((1.0, 2.0)), SGLD(eps=2e-3, nbeta=10, gamma=1)
    relaxation = 1 / (sampler.eps * 11)
    draws = sample_chains(toy.loss, toy.params, toy.data, sampler, chains=128, draws=900, seed=0,
                          vectorised=True)
    assert relaxation < draws.burn_in <= 450
    assert_within(estimate_llc(draws), quadratic_chain_mean((1.0, 2.0), sampler))


def test_a_transient_longer_than_the_run_shows_in_rhat():
    traces = noise(4, 400) + np.linspace(0, 10, 400)
    assert estimate_llc(draws_of(traces, burn_in=find_burn_in(traces))).rhat > 1.2


def test_chains_that_are_not_finite_are_left_out():
    traces = noise(3, 200)
    traces[:, :60] += 20
    broken = np.vstack([traces, np.full(200, np.nan)])
    assert find_burn_in(broken) == find_burn_in(traces) >= 60
    with pytest.raises(UserError, match="every chain diverged"):
        find_burn_in(np.full((2, 10), math.nan))


def test_constant_and_short_traces():
    assert find_burn_in(np.ones((2, 50))) == 0
    assert find_burn_in(np.ones((2, 1))) == 0
