"""What a step does to an estimate, and what of it is slope: against closed forms, and where the
exact answer is known from a sampler without a step."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from llc_gates import assert_within, estimate, mean_and_mcse

from companion.known.answers import (
    chain_moments,
    gibbs_moments,
    mean_model_chain_mean,
    network_draws,
    quadratic_chain_mean,
)
from companion.known.potentials import LinearNetwork, MeanModel, Powers, quadratic
from devlib.llc import default_nbeta, estimate_llc
from devlib.llc.precision import estimate_to_precision
from devlib.sampling import SGLD, Draws, RMSpropSGLD, sample_chains
from devlib.sampling.beside import Watched
from devlib.sampling.chains import Chains
from devlib.sampling.streams import Random

CURVATURES = (1.0, 2.0, 4.0)
SAMPLER = SGLD(eps=5e-3, nbeta=20, gamma=1)


def twice(sampler):
    return replace(sampler, eps=2 * sampler.eps)


def assert_bias(found, expected):
    assert abs(found.step_bias - expected) < 4 * found.step_bias_mcse


def mean_model(w0=None):
    xs = np.random.default_rng(0).normal(size=(50, 3))
    return MeanModel.make(xs, CURVATURES, w0)


def problem(model):
    return model.loss, model.params, model.data


# ------------------------------------------------------------------------------- exact biases


@pytest.mark.parametrize("eps", [2e-3, 5e-3, 1e-2])
def test_the_bias_on_a_quadratic_is_exact(eps):
    """The difference that it measures has a closed form; what that leaves out of the bias itself
    is of second order: 3 x^2 - x^2 a direction, x = eps kappa / 4."""
    sampler = replace(SAMPLER, eps=eps)
    found, _ = estimate(quadratic(CURVATURES), sampler, draws=int(4 / eps), health=True,
                        burn_in=int(1 / eps))
    expected = quadratic_chain_mean(CURVATURES, twice(sampler)) - quadratic_chain_mean(
        CURVATURES, sampler)
    assert_bias(found, expected)
    kappa = 20 * np.array(CURVATURES) + 1
    limit = (20 * np.array(CURVATURES) / kappa).sum() / 2  # as eps -> 0
    true = quadratic_chain_mean(CURVATURES, sampler) - limit
    x = eps * kappa / 4
    bound = (20 * np.array(CURVATURES) / kappa / 2 * (2 * x**2) / ((1 - x) * (1 - 2 * x))).sum()
    assert 0 < expected - true <= bound * (1 + 1e-9)
    assert found.step_bias_mcse < found.mcse / 3  # the noise is shared


def test_the_bias_of_minibatches():
    """T6: the noise of the gradients is a part of it, and each half step has a batch of its
    own."""
    model = mean_model()
    found, _ = estimate(model, SAMPLER, draws=2000, burn_in=200, batch_size=5, health=True)
    expected = (mean_model_chain_mean(model, twice(SAMPLER), 5)
                - mean_model_chain_mean(model, SAMPLER, 5))
    assert_bias(found, expected)
    whole = quadratic_chain_mean(CURVATURES, twice(SAMPLER)) - quadratic_chain_mean(
        CURVATURES, SAMPLER)
    assert expected > 1.5 * whole  # so it is seen


def test_the_bias_on_a_quartic():
    toy, sampler = Powers("quartic", (1.0,), (4,)), SGLD(5e-3, 10, 0)
    found, _ = estimate(toy, sampler, draws=1500, burn_in=300, health=True)
    assert_bias(found, chain_moments(toy, twice(sampler))[0] - chain_moments(toy, sampler)[0])
    true = chain_moments(toy, sampler)[0] - gibbs_moments(toy, 10)[0]
    assert abs(found.step_bias - true) < 4 * found.step_bias_mcse + true / 2  # first order


# ------------------------------------------------------------------------------- bookkeeping


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("sampler", [SAMPLER, RMSpropSGLD(5e-3, 20, 1)], ids=["plain", "rmsprop"])
def test_the_chains_are_those_without_company(vectorised, sampler):
    options = {"chains": 3, "draws": 11, "batch_size": 4, "vectorised": vectorised, "warn": False}
    plain = sample_chains(*problem(mean_model()), sampler, **options)
    found = sample_chains(*problem(mean_model()), sampler, health=True, **options)
    for name in ("losses", "baseline", "distances"):
        assert np.array_equal(getattr(plain, name), getattr(found, name))
    assert plain.doubled is None and math.isnan(estimate_llc(plain).step_bias)
    assert found.doubled.shape == (3, 11) and found.descent.shape == (11,)
    assert np.isnan(found.doubled[:, 1::2]).all() and np.isfinite(found.doubled[:, ::2]).all()
    run = Watched(*problem(mean_model()), sampler, chains=3, batch_size=4, vectorised=vectorised,
                  compile=False)
    for draws in (1, 4, 1, 5):  # and run on in parts
        run.extend(draws)
    np.testing.assert_array_equal(run.draws().doubled, found.doubled)
    np.testing.assert_array_equal(run.draws().descent, found.descent)


def test_against_a_plain_loop():
    """Twice the step takes every other batch and the sum of two noises; the chain without noise
    takes every batch."""
    model = mean_model(w0=np.ones(3))
    found = sample_chains(*problem(model), SAMPLER, chains=2, draws=9, batch_size=4, health=True,
                          warn=False)
    run = Chains(*problem(model), SAMPLER, chains=2, batch_size=4, compile=False)
    h, eps = model.curvatures, SAMPLER.eps

    def loss(w, x):
        return (h * (w - x) ** 2).sum(1).mean() / 2

    def move(w, x, eps, xi):
        drift = 20 * (h * (w - x)).mean(0) + (w - model.w0)
        return w - eps / 2 * drift + xi

    for chain in range(2):
        indices, noise = zip(*(Random(run, [chain]).at(t) for t in range(10)), strict=True)
        xs = [model.xs[part[0].numpy()] for part in indices]
        noise = [eps**0.5 * part[0].numpy() for part in noise]
        w = model.w0
        for t in range(0, 9, 2):
            assert found.doubled[chain, t] == pytest.approx(loss(w, xs[t]))
            w = move(w, xs[t], 2 * eps, noise[t] + noise[t + 1])
        w = model.w0
        for t in range(9) if chain == 0 else ():
            gained = loss(w, xs[t]) - loss(model.w0, xs[t])
            assert found.descent[t] == pytest.approx(gained, abs=1e-12)
            w = move(w, xs[t], eps, 0)


def test_a_file_keeps_it(tmp_path):
    draws = sample_chains(*problem(mean_model()), SAMPLER, chains=2, draws=40, batch_size=4,
                          health=True, warn=False)
    draws.save(tmp_path / "draws.nc")
    again = Draws.read(tmp_path / "draws.nc")
    np.testing.assert_array_equal(again.doubled, draws.doubled)
    np.testing.assert_array_equal(again.descent, draws.descent)
    assert estimate_llc(again) == estimate_llc(draws)


def test_where_twice_the_step_diverges():
    """eps kappa between 2 and 4: stable, and so near the bound that its bias is as large as the
    estimate."""
    toy, sampler = quadratic((10.0,)), SGLD(3 / 201, 20, 1)
    found, _ = estimate(toy, sampler, draws=3000, burn_in=100, health=True, warn=False, chains=2)
    assert found.step_bias == found.error == math.inf
    assert "+- inf" in str(found)
    done = estimate_to_precision(*problem(toy), sampler, chains=16, vectorised=True,
                                 cap_draws=6000)
    assert not done.reached and "twice the step diverge" in done.reason
    assert done.draws.losses.shape[1] < 6000


def test_the_error_and_its_words():
    found, _ = estimate(quadratic(CURVATURES), SAMPLER, draws=800, burn_in=200, health=True)
    assert found.error == pytest.approx(
        (found.mcse**2 + found.step_bias**2 + found.step_bias_mcse**2) ** 0.5)
    assert f"+- {found.error:.2f}"[:6] in str(found) and "step bias +0." in str(found)
    bare = replace(found, step_bias=math.nan)
    assert bare.error == found.mcse and "bias" not in str(bare)


# --------------------------------------------------------------------------- to a precision

NETWORK = LinearNetwork((5, 3, 4), 1)  # reduced-rank regression
BATCH = 128


@functools.cache
def exact(gamma):
    """By a Gibbs sampler without a step, at the same nbeta: 6.28 at gamma = 1."""
    return mean_and_mcse(network_draws(NETWORK, default_nbeta(BATCH), gamma, draws=1000))


def on_network(eps, gamma, **settings):
    return estimate_to_precision(*problem(NETWORK), SGLD(eps, default_nbeta(BATCH), gamma),
                                 chains=16, batch_size=BATCH, vectorised=True, **settings)


def test_reduced_rank_regression_whose_step_was_not_in_the_error():
    """The one percent that draws alone give is not that of the LLC: with the step bias in its
    error the estimate says so, and covers the exact answer."""
    truth = exact(1.0)
    alone = on_network(3e-3, 1.0, precision=0.01, health=False, max_distance_rhat=None)
    assert alone.reached and alone.estimate.mean - truth[0] > 3 * alone.estimate.mcse
    done = on_network(3e-3, 1.0, max_distance_rhat=None)
    found = done.estimate
    assert not done.reached and "take eps = " in done.reason and "step bias +" in done.reason
    assert found.step_bias > 4 * found.step_bias_mcse
    assert abs(found.mean - truth[0]) < 2 * found.error


def test_a_step_that_fits_the_precision():
    done = on_network(1e-3, 10.0, precision=0.05, min_ess=100)
    found = done.estimate
    assert done.reached and found.error <= 0.05 * found.mean
    assert abs(found.mean - exact(10.0)[0]) < 2 * found.error
    assert "error" in done.reason and "step bias" in done.reason


# ------------------------------------------------------------------------------ off a minimum


def test_the_slope_is_what_descent_gains():
    """Of a quadratic by the whole set: w_t - c = (1 - eps kappa / 2)^t (w0 - c), with c the
    centre of the localised posterior."""
    model = mean_model(w0=np.full(3, 0.3))
    found, draws = estimate(model, SAMPLER, draws=500, burn_in=100, health=True)
    h, mean = model.curvatures, model.xs.mean(0)
    kappa = 20 * h + 1
    centre = (20 * h * mean + model.w0) / kappa
    t = np.arange(500)[:, None]
    w = centre + (1 - SAMPLER.eps * kappa / 2) ** t * (model.w0 - centre)
    losses = (h * ((w - mean) ** 2 - (model.w0 - mean) ** 2)).sum(1) / 2
    np.testing.assert_allclose(draws.descent, losses, atol=1e-12)
    gain = -20 * losses[100:].mean()
    assert found.slope_share == pytest.approx(gain / (gain + max(found.mean, 0)))
    # what is left of the estimate once the gain is given back is that of the minimum
    assert_within(replace(found, mean=found.mean + gain),
                  quadratic_chain_mean(CURVATURES, SAMPLER))
    assert 0.2 < found.slope_share <= 1 and "slope " in str(found)


@pytest.mark.parametrize("toy", [quadratic(CURVATURES), Powers("quartic", (1.0,), (4,))],
                         ids=["quadratic", "quartic"])
def test_a_minimum_has_no_slope(toy):
    found, draws = estimate(toy, SAMPLER, draws=100, burn_in=10, health=True, chains=8,
                            warn=False)
    assert found.slope_share == 0 and not draws.descent.any()
    assert "slope" not in str(found)


def test_the_slope_is_from_w0_wherever_chains_begin():
    model = mean_model(w0=np.full(3, 0.3))
    options = {"chains": 4, "draws": 60, "burn_in": 10, "health": True, "warn": False}
    one, other = (sample_chains(*problem(model), SAMPLER, start=start, **options)
                  for start in ("w0", "prior"))
    np.testing.assert_array_equal(one.descent, other.descent)
    assert not np.array_equal(one.doubled, other.doubled, equal_nan=True)


def test_with_a_mask():
    """The companions move what their chains move."""
    model = mean_model(w0=np.full(3, 0.3))
    mask = {"w": torch.tensor([True, False, True])}
    inner = MeanModel.make(model.xs[:, [0, 2]], model.curvatures[[0, 2]], model.w0[[0, 2]])
    found, expected = (estimate_llc(sample_chains(
        *problem(one), SAMPLER, chains=4, draws=80, burn_in=10, health=True, warn=False, **more))
        for one, more in ((model, {"mask": mask}), (inner, {})))
    assert found.step_bias == pytest.approx(expected.step_bias)
    assert found.slope_share == pytest.approx(expected.slope_share)
