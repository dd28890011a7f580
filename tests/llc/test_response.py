"""Covariances over draws against exact Gaussian answers, with their errors."""

import numpy as np
import pytest
import torch

from devlib.errors import UserError
from devlib.llc.response import covariance, influence, susceptibilities
from devlib.sampling import SGLD, Chains

SLOPES, CURVES = np.array([0.0, 1.0, -2.0, 0.5]), np.array([1.0, 3.0, 0.0, -1.0])
SAMPLER = SGLD(eps=0.05, nbeta=4.0, gamma=1.0)


def per_sample(params, batch):
    """b_i w + 1/2 a_i w^2 of each sample."""
    b, a = batch
    return b * params["w"] + 0.5 * a * params["w"] ** 2


@pytest.fixture(scope="module")
def draws():
    """Losses (C, D, n) of all samples along chains that sample 1/2 w^2, of mean curvature 1."""
    data = tuple(torch.as_tensor(part) for part in (SLOPES, CURVES))
    seen = {}

    def keep(chain, draw, params):
        seen[chain, draw] = per_sample(params, data).numpy()

    def quadratic(params, batch):
        return 0.5 * params["w"] ** 2 * torch.ones(len(batch[0]), dtype=torch.float64)

    chains = Chains(quadratic, {"w": torch.zeros(1, dtype=torch.float64)}, data, SAMPLER, chains=64,
                    vectorised=True)
    chains.extend(600, callback=keep, every=2)
    return np.array([[seen[chain, draw] for draw in range(100, 600, 2)] for chain in range(64)])


def exact(a, b, c, d):
    """Cov(a w + 1/2 b w^2, c w + 1/2 d w^2) of w ~ N(0, s), s the variance of the discrete chain:
    a c s + 1/2 b d s^2."""
    k = SAMPLER.nbeta + SAMPLER.gamma
    s = 1 / (k * (1 - SAMPLER.eps * k / 4))
    return a * c * s + b * d * s**2 / 2


EXACT = exact(SLOPES[:, None], CURVES[:, None], SLOPES, CURVES)


def test_covariances_are_exact_within_their_errors(draws):
    found = covariance(draws, draws)
    assert (found.mcse[1:3, 1:3] > 0).all()
    assert (np.abs(found.values - EXACT) < 4 * found.mcse).all()
    assert (found.mcse < 0.1 * np.abs(np.diag(EXACT)).max()).all()


def test_the_error_is_right():
    """Over repetitions, |z| is that of a normal."""
    gen = np.random.default_rng(0)
    z = []
    for _ in range(100):
        a = gen.standard_normal((4, 100))
        b = 0.5 * a + gen.standard_normal((4, 100))
        found = covariance(a, b)
        z.append((found.values[0, 0] - 0.5) / found.mcse[0, 0])
    assert abs(np.mean(np.square(z)) - 1) < 4 * (2 / 100) ** 0.5


def test_influence_is_minus_the_covariance_of_two_samples(draws):
    found = influence(draws)
    assert np.array_equal(found.values, -covariance(draws, draws).values)
    assert (np.abs(found.values + EXACT) < 4 * found.mcse).all()
    assert influence(draws, draws[:, :, :2]).values.shape == (4, 2)


def test_a_susceptibility_is_the_derivative_of_a_mean(draws):
    """Of the potential with h l_i added, the mean of phi = w (the second sample has half of it):
    the exact derivative of a Gaussian's mean, and with a reference less that of the data."""
    phi = draws[:, :, 1] - 3 * draws[:, :, 0]  # 1 w
    found = susceptibilities(phi, draws)
    expected = -exact(1.0, 0.0, SLOPES, CURVES)
    assert found.values.shape == (1, 4)
    assert (np.abs(found.values[0] - expected) < 4 * found.mcse[0]).all()
    reference = draws.mean(2)
    less = susceptibilities(phi, draws, reference)
    expected = -exact(1.0, 0.0, SLOPES - SLOPES.mean(), CURVES - CURVES.mean())
    assert (np.abs(less.values[0] - expected) < 4 * less.mcse[0]).all()


def test_a_constant_has_no_covariance_and_no_error():
    found = covariance(np.ones((2, 9)), np.random.default_rng(0).standard_normal((2, 9)))
    assert (found.values, found.mcse) == (0, 0)


@pytest.mark.parametrize("a, b, match", [
    (np.ones((2, 9)), np.ones((2, 8)), "of the same chains and draws"),
    (np.ones((2, 7)), np.ones((2, 7)), "eight or more"), (np.ones(9), np.ones(9), "eight or more"),
    (np.full((2, 9), np.nan), np.ones((2, 9)), "must be finite")])
def test_what_is_refused(a, b, match):
    with pytest.raises(UserError, match=match):
        covariance(a, b)
