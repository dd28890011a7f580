"""Estimates against exact answers: potentials whose LLC is known at any n beta.

The gate is always the same: ESS >= 200, then |estimate - reference| < 4 MCSE, with the reference
at the same n beta, gamma and, where it can be computed, the same step. Where it cannot, the step
is small enough to make its bias, of relative size eps kappa / 4, less than the MCSE.
"""

import functools
import math

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llc_gates import assert_within, estimate, mean_and_mcse

from companion.known.answers import (
    chain_moments,
    gibbs_moments,
    mean_model_chain_mean,
    network_draws,
    quadratic_chain_mean,
)
from companion.known.potentials import (
    A2_EXAMPLES,
    FIGURE_2,
    LinearNetwork,
    MeanModel,
    Monomial,
    Potential,
    Powers,
    quadratic,
)
from devlib.llc import scaled_losses
from devlib.sampling import SGLD

PROPERTY = settings(max_examples=8, deadline=None, derandomize=True, database=None)


# ------------------------------------------------------------------- T1: quadratics, and gamma


def test_quadratic_with_unused_directions():
    toy, sampler = quadratic((1, 10, 100, 0, 0)), SGLD(eps=2e-4, nbeta=30, gamma=1)
    reference = quadratic_chain_mean((1, 10, 100, 0, 0), sampler)
    assert reference == pytest.approx(1.579, abs=5e-4)  # the digits it was published with
    found, _ = estimate(toy, sampler, draws=3500, burn_in=1300)
    assert_within(found, reference)


@given(r=st.integers(1, 5), unused=st.integers(0, 3), steepest=st.floats(1.0, 30.0),
       gamma=st.floats(0.0, 5.0), share=st.floats(0.05, 1.0), seed=st.integers(0, 99))
@example(r=1, unused=1, steepest=1.0, gamma=2.2e-311, share=1.0, seed=0)  # all but free
@PROPERTY
def test_any_quadratic(r, unused, steepest, gamma, share, seed):
    """Any number of directions, curvature, localisation and step up to a quarter of the stable
    one: the discrete chain's own mean."""
    nbeta, curvatures = 20.0, (*np.geomspace(1, steepest, r), *[0.0] * unused)
    sampler = SGLD(share / (nbeta * steepest + gamma), nbeta, gamma)
    relaxation = 1 / (sampler.eps * (nbeta + gamma))  # draws, of the slowest square
    burn_in = math.ceil(8 * relaxation)
    found, _ = estimate(quadratic(curvatures), sampler, chains=96, seed=seed, burn_in=burn_in,
                        draws=burn_in + math.ceil(10 * relaxation) + 50)
    assert_within(found, quadratic_chain_mean(curvatures, sampler))


def test_quadratic_limits():
    """As eps -> 0 the chain's mean is the continuous one; as gamma -> 0, r / 2 for any h."""
    continuous = sum(30 * h / (30 * h + 1) for h in (1, 10, 100)) / 2
    errors = [quadratic_chain_mean((1, 10, 100, 0, 0), SGLD(eps, 30, 1)) - continuous
              for eps in (1e-4, 1e-5, 1e-6)]
    assert np.allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.1)  # first order in eps
    assert quadratic_chain_mean((0.3, 7, 0), SGLD(1e-9, 50, 0)) == pytest.approx(1, rel=1e-6)


# --------------------------------------------------------------- T2: powers, and the Gamma law


@pytest.mark.parametrize(("power", "nbeta"), [(2, 1.0), (4, 1.0), (4, 50.0), (6, 1.0)])
def test_power_follows_the_gamma_law(power, nbeta):
    """Mean and variance of nbeta L are 1 / p at every nbeta, up to the chain's own step."""
    toy = Powers("power", (1.0,), (power,))
    assert gibbs_moments(toy, nbeta) == pytest.approx((1 / power, 1 / power), rel=1e-9)
    sampler = SGLD(eps=0.02 * nbeta ** (-2 / power), nbeta=nbeta, gamma=0)
    mean, variance = chain_moments(toy, sampler)
    found, draws = estimate(toy, sampler, draws=1600, burn_in=800)
    assert_within(found, mean)
    spread = (scaled_losses(draws)[:, draws.burn_in:] - mean) ** 2  # its mean is the variance
    value, error = mean_and_mcse(spread)
    assert abs(value - variance) < 4 * error


def test_chain_comes_to_the_gamma_law():
    """The step's bias goes to zero with eps, and to first order."""
    for power in (2, 4, 6):
        toy = Powers("power", (1.0,), (power,))
        bias = [chain_moments(toy, SGLD(eps, 1.0, 0.0))[0] - 1 / power
                for eps in (4e-3, 2e-3, 1e-3)]
        assert np.divide(bias[:-1], bias[1:]) == pytest.approx([2, 2], rel=0.1)


def test_kernel_equals_the_closed_form():
    """The grid's stationary law against the AR(1) formula, in one and two dimensions."""
    class Bowl(Potential):  # no Powers, which would be taken apart into its directions
        dim = 2

        def energy(self, w):
            return quadratic((3.0, 1.0)).energy(w)

    sampler = SGLD(eps=0.02, nbeta=10, gamma=1)
    for toy, curvatures in ((quadratic((3.0,)), (3.0,)), (Bowl(), (3.0, 1.0))):
        mean, variance = chain_moments(toy, sampler)
        parts = [quadratic_chain_mean((h,), sampler) for h in curvatures]
        # the grid reaches to exp(-15) of the greatest density, and leaves that much out
        assert mean == pytest.approx(sum(parts), rel=1e-4)
        assert variance == pytest.approx(2 * sum(part**2 for part in parts), rel=1e-3)


# ---------------------------------------------------------------------- T3: normal crossings


@pytest.mark.parametrize(("exponents", "values"), [
    ((1, 1), {145: 0.356, 1e3: 0.387, 1e4: 0.411}), ((2, 1), {145: 0.209, 1e3: 0.226, 1e4: 0.237})])
def test_crossing_in_the_unit_box(exponents, values):
    """The known values at finite nbeta, and scipy's own quadrature of the same integral."""
    toy = Monomial("crossing", exponents)
    for nbeta, value in values.items():
        assert gibbs_moments(toy, nbeta, box=True)[0] == pytest.approx(value, abs=5e-4)
    a, b = exponents

    def energy(u, v):
        return 145 * u ** (2 * a) * v ** (2 * b)

    z, over = (scipy.integrate.dblquad(
        lambda v, u, k=k: energy(u, v) ** k * math.exp(-energy(u, v)), 0, 1, 0, 1)[0]
        for k in (0, 1))
    assert gibbs_moments(toy, 145, box=True)[0] == pytest.approx(over / z, rel=1e-6)


def test_localised_crossing():
    assert gibbs_moments(Monomial("crossing", (1, 1)), 100, 1.0)[0] == pytest.approx(
        0.3542, abs=5e-5)


def test_crossings_come_to_their_llc():
    """In the box the partition function is nbeta^-llc (A log nbeta + B) with multiplicity 2, so
    that 1 / (llc - E) grows as log nbeta; with multiplicity 1, llc - E falls as nbeta to the
    power of the next pole less the first, here 1/4 - 1/2, and corrections are as large again."""
    def gap(exponents, nbeta):
        toy = Monomial("crossing", exponents)
        return toy.llc - gibbs_moments(toy, nbeta, box=True)[0]

    for twice in ((1, 1), (2, 2)):
        assert 1 / gap(twice, 1e8) - 1 / gap(twice, 1e6) == pytest.approx(math.log(100), rel=1e-3)
    assert gap((2, 1), 1e10) / gap((2, 1), 1e8) == pytest.approx(100**-0.25, rel=2 * 1e8**-0.25)


@pytest.mark.parametrize("exponents", [(1, 1), (2, 1)])
def test_crossing(exponents):
    toy, sampler = Monomial("crossing", exponents), SGLD(eps=2e-3, nbeta=100, gamma=1)
    mean, _ = chain_moments(toy, sampler)
    found, _ = estimate(toy, sampler, draws=4000, burn_in=2200)
    assert_within(found, mean)


@pytest.mark.slow
def test_crossing_with_a_small_step():
    """Against the integral: at this step the chain is off it by less than a hundredth."""
    toy, sampler = Monomial("crossing", (1, 1)), SGLD(eps=2e-4, nbeta=100, gamma=1)
    found, _ = estimate(toy, sampler, chains=256, draws=60_000, burn_in=25_000)
    assert_within(found, gibbs_moments(toy, 100, 1.0)[0])


def test_too_large_a_step_looks_better():
    """Against the asymptote 1/2 a coarse step is nearer; against the truth at this nbeta it is
    further off. So the asymptote is no reference."""
    toy = Monomial("crossing", (1, 1))
    truth = gibbs_moments(toy, 100, 1.0)[0]
    fine, coarse = (chain_moments(toy, SGLD(eps, 100, 1))[0] for eps in (2e-3, 5e-3))
    assert truth < fine < coarse < toy.llc


# ------------------------------------------------------------------- T4, T5: linear networks


@pytest.mark.parametrize(("widths", "rank", "llc"), [
    ((2, 2, 2), 0, 3 / 2), ((2, 2, 2), 1, 2), ((3, 2, 3), 1, 7 / 2), ((4, 2, 4), 1, 5),
    ((5, 3, 5), 0, 13 / 2), ((5, 3, 5), 2, 19 / 2), ((10, 4, 10), 2, 51 / 2),
    ((1, 1, 1, 1), 0, 1 / 2), ((3, 3, 3, 3), 1, 4), ((4, 3, 3, 4), 2, 13 / 2)])
def test_known_linear_networks(widths, rank, llc):
    network = LinearNetwork(widths, rank)
    assert network.llc == llc
    assert network.loss(network.params, network.data) == 0  # w0 is a minimum


@functools.cache
def integrate_layer_out(network, nbeta, gamma, spacing=0.1, reach=1.6):
    """E[nbeta L] for two small layers W_2 W_1, the naive way: W_2 integrated in closed form, W_1
    over a grid around w0. With S = nbeta W_1 W_1' + gamma, row i of W_2 is Gaussian of precision
    S, so that Z = int dW_1 prod_i det S^(-1/2) exp(-gap_i); E[nbeta L] = -d log Z / d log nbeta
    by a central difference. At nbeta = 100 and gamma = 10 the grid is right to four digits."""
    first, second = (w.numpy() for w in network.params.values())
    target = network.target.numpy()
    axis = np.arange(-reach, reach + spacing / 2, spacing)
    grid = np.stack(np.meshgrid(*[axis] * first.size, indexing="ij"), -1).reshape(
        -1, *first.shape)
    w = grid + first

    def log_z(nbeta):
        s = nbeta * w @ w.swapaxes(1, 2) + gamma * np.eye(len(first))
        pull = nbeta * target @ w.swapaxes(1, 2) + gamma * second  # (G, N, H)
        gap = (nbeta * (target**2).sum() + gamma * (second**2).sum()
               - (pull * np.linalg.solve(s, pull.swapaxes(1, 2)).swapaxes(1, 2)).sum((1, 2))) / 2
        log = (-len(second) / 2 * np.linalg.slogdet(s)[1] - gap
               - gamma / 2 * (grid**2).sum((1, 2)))
        return np.logaddexp.reduce(log)

    step = 1e-3
    return -(log_z(nbeta * math.exp(step)) - log_z(nbeta * math.exp(-step))) / (2 * step)


NETWORKS = [((2, 2, 2), 0), ((2, 2, 2), 1)]


@pytest.mark.parametrize(("widths", "rank"), NETWORKS)
def test_reduced_rank_regression(widths, rank):
    network, sampler = LinearNetwork(widths, rank), SGLD(eps=3e-4, nbeta=100, gamma=10)
    reference = integrate_layer_out(network, 100, 10)
    found, _ = estimate(network, sampler, draws=2800, burn_in=1300)
    assert_within(found, reference)


@pytest.mark.parametrize(("widths", "rank"), NETWORKS)
def test_gibbs_sampler_equals_the_integral(widths, rank):
    """The reference for larger networks, against the naive integral."""
    network = LinearNetwork(widths, rank)
    value, error = mean_and_mcse(network_draws(network, 100, 10.0, draws=400))
    assert abs(value - integrate_layer_out(network, 100, 10)) < 4 * error


def test_deep_linear_network():
    """Three layers of width one are a normal crossing: its integral is known."""
    network, sampler = LinearNetwork((1, 1, 1, 1)), SGLD(eps=2e-3, nbeta=400, gamma=4)
    reference, _ = gibbs_moments(Monomial("crossing", (1, 1, 1)), 200, 4.0)
    found, _ = estimate(network, sampler, draws=2000, burn_in=700)
    assert_within(found, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("widths", "rank", "ranks"), [
    ((3, 2, 3), 1, ()), ((4, 2, 4), 1, ()), ((5, 3, 5), 0, ()), ((5, 3, 5), 0, (3, 0)),
    ((5, 3, 5), 2, ()), ((10, 4, 10), 2, ()), ((3, 3, 3, 3), 1, ()), ((4, 3, 3, 4), 2, ())])
def test_larger_linear_networks(widths, rank, ranks):
    """Against the Gibbs sampler at the same nbeta and gamma, which has no step."""
    network, nbeta, gamma = LinearNetwork(widths, rank, ranks), 200, 10.0
    reference = mean_and_mcse(network_draws(network, nbeta, gamma, draws=2000))
    found, _ = estimate(network, SGLD(5e-5, nbeta, gamma), chains=64, draws=24_000,
                        burn_in=10_000)
    assert_within(found, *reference)


def test_a_trained_point_can_differ():
    """(5, 3, 5) without truth: 13/2 at the most singular point. Where W_1 has full rank, W_2 has
    three of five columns' worth of regular directions: 15 quadratic ones, 15/2, of curvature 1 up
    to |W_1 - w0|^2 = 15 / gamma, if gamma holds W_1 there."""
    nbeta, gamma = 1e6, 1e3
    trained = network_draws(LinearNetwork((5, 3, 5), 0, (3, 0)), nbeta, gamma, draws=300)
    value, error = mean_and_mcse(trained)
    assert abs(value - 15 / 2 * nbeta / (nbeta + gamma)) < 4 * error + 15 / gamma
    singular = network_draws(LinearNetwork((5, 3, 5)), nbeta, 10.0, draws=300)
    assert singular.mean() < LinearNetwork((5, 3, 5)).llc == 13 / 2 < value


# ------------------------------------------------------------------ T6: minibatches, bookkeeping


def mean_model(d, n, seed, **more):
    rng = np.random.default_rng(seed)
    return MeanModel.make(rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d), **more)


def test_mean_model_formula():
    """The known 2.2255 of one set of 1,000 standard normal samples in 4 dimensions, against
    samples of variance exactly 1: apart by no more than the sampling error of that variance."""
    xs = np.random.default_rng(0).normal(size=(1000, 4))
    model, sampler = MeanModel.make((xs - xs.mean(0)) / xs.std(0)), SGLD(5e-3, 50, 1)
    reference = mean_model_chain_mean(model, sampler, batch_size=50)
    from_batches = reference - mean_model_chain_mean(model, sampler)
    assert abs(reference - 2.2255) < 4 * from_batches * math.sqrt(2 / (1000 * 4))


def test_mean_model_in_minibatches():
    """Noise of the minibatches and bookkeeping: read after its own step, a batch's loss would be
    a fifth too low."""
    model, sampler = mean_model(4, 1000, seed=0), SGLD(eps=5e-3, nbeta=50, gamma=1)
    found, _ = estimate(model, sampler, draws=1000, burn_in=200, batch_size=50)
    assert_within(found, mean_model_chain_mean(model, sampler, 50))


@given(d=st.integers(1, 4), batch=st.sampled_from([None, 1, 5, 40]), gamma=st.floats(0.0, 20.0),
       away=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
@PROPERTY
def test_any_mean_model(d, batch, gamma, away, seed):
    """Any dimension, batch, localisation and distance of w0 from the minimum, where the exact
    answer can be negative."""
    model = mean_model(d, 60, seed, curvatures=np.linspace(1, 3, d))
    model = MeanModel.make(model.xs, model.curvatures, model.xs.mean(0) + away)
    sampler = SGLD(eps=0.3 / (60 + gamma), nbeta=20.0, gamma=gamma)
    relaxation = 1 / (sampler.eps * (20 + gamma))
    burn_in = math.ceil(12 * relaxation)  # twelve for the square, six for the mean
    found, _ = estimate(model, sampler, chains=64, seed=seed, batch_size=batch, burn_in=burn_in,
                        draws=burn_in + 400)
    assert_within(found, mean_model_chain_mean(model, sampler, batch))


# --------------------------------------------------------------- the examples of A.2 and Fig. 2


def test_exact_llcs_of_the_paper():
    assert [toy.llc for toy in A2_EXAMPLES] == [3 / 2, 1, 1]
    assert [toy.llc for toy in FIGURE_2] == [1, 1 / 2, 1 / 4, 1 / 4]


@pytest.mark.parametrize("toy", [*A2_EXAMPLES, *FIGURE_2], ids=lambda toy: toy.name)
def test_examples_of_the_paper(toy):
    """Localised by gamma, against the chain's own mean at the same nbeta and step; for the one
    that is not even, against the integral, as its curvature at the origin is gamma alone."""
    sampler = SGLD(eps=2e-3, nbeta=100, gamma=4)
    reference, _ = (chain_moments(toy, sampler) if toy.even
                    else gibbs_moments(toy, sampler.nbeta, sampler.gamma))
    found, _ = estimate(toy, sampler, draws=1600, burn_in=700)
    assert_within(found, reference)


def test_potentials_in_torch_and_by_hand():
    w = torch.tensor([0.3, -2.0], dtype=torch.float64)
    values = [float(toy.energy(w)) for toy in FIGURE_2]
    assert values == pytest.approx([4.09, 16.0081, 0.09 * 16, 0.49 * 4.09**4])
