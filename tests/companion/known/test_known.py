"""The potentials, and the references that the estimates are held against."""

import itertools

import numpy as np
import pytest
import torch
from llc_gates import mean_and_mcse

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
    Powers,
    TwoMinima,
    deep_linear_llc,
    quadratic,
    reduced_rank_llc,
)
from devlib.errors import UserError
from devlib.sampling.sgld import SGLD

POTENTIALS = (*A2_EXAMPLES, *FIGURE_2, Monomial("three axes", (2, 1, 2)))


@pytest.mark.parametrize("toy", POTENTIALS, ids=lambda toy: toy.name)
def test_potential(toy):
    """Zero and flat at w0, never below; one loss a sample; a gradient without NaN; a name of its
    own, a formula and a hash (a compiled step is found by it)."""
    loss = toy.loss(toy.params, (torch.zeros(7),))
    assert loss.shape == (7,) and not loss.any()
    w = torch.randn(50, toy.dim, dtype=torch.float64)
    assert (toy.energy(w) >= 0).all() and toy.energy(w).shape == (50,)
    if toy.even:
        assert torch.equal(toy.energy(w), toy.energy(-w))
    gradient = torch.func.grad(toy.energy)(toy.params["w"])
    assert not gradient.any()
    assert hash(toy) == hash(toy) and toy.formula and toy.name


def test_llc_and_multiplicity():
    assert (quadratic((1, 5, 0)).llc, quadratic((0, 0)).llc) == (1.0, 0)
    assert Powers("mixed", (1, 0, 2), (1, 2, 6)).llc == pytest.approx(1 + 1 / 6)
    three = Monomial("three axes", (2, 1, 2))
    assert (three.llc, three.multiplicity) == (1 / 4, 2)
    assert TwoMinima().energy(torch.tensor([1.0, 0.3])) == 0  # the line of minima beside the point


def test_formulas_read_as_in_the_paper():
    assert quadratic((2, 2)).formula == "w_1^{2} + w_2^{2}"
    assert quadratic((1, 0, 6)).formula == "0.5 w_1^{2} + 3 w_3^{2}"
    assert Monomial("m", (1, 2)).formula == "w_1^{2} w_2^{4}"


# -------------------------------------------------------------------------------- linear networks


def test_two_formulas_for_two_layers():
    """Aoyagi's for any depth equals Aoyagi and Watanabe's for every small M, H, N and rank."""
    for m, h, n in itertools.product(range(1, 9), repeat=3):
        for rank in range(min(m, h, n) + 1):
            assert deep_linear_llc((m, h, n), rank)[0] == pytest.approx(
                reduced_rank_llc(m, h, n, rank), abs=1e-12)


def test_one_layer_is_linear_regression():
    assert deep_linear_llc((4, 3), 2) == (6.0, 1)  # 12 parameters, all regular


def test_depth_one_wide_is_a_crossing():
    """Width one throughout, without truth: w_1 ... w_S, whose LLC is 1/2 with multiplicity S."""
    for layers in range(2, 6):
        assert deep_linear_llc((1,) * (layers + 1), 0) == (pytest.approx(0.5), layers)


def test_order_of_the_widths_matters_for_the_regular_part_alone():
    """The singular part is symmetric in the widths less the rank."""
    regular = {widths: 2 * (widths[0] + widths[-1] - 2) / 2
               for widths in itertools.permutations((3, 4, 5, 6))}
    singular = [deep_linear_llc(widths, 2)[0] - part for widths, part in regular.items()]
    assert singular == pytest.approx([singular[0]] * len(singular))


@pytest.mark.parametrize(("widths", "rank", "ranks"), [
    ((3, 2, 4), 1, ()), ((2, 3, 3, 2), 2, ()), ((5, 3, 5), 0, (3, 0)), ((4, 2), 1, ())])
def test_linear_network(widths, rank, ranks):
    network = LinearNetwork(widths, rank, ranks)
    assert network.loss(network.params, (torch.zeros(3),)).tolist() == [0, 0, 0]
    shapes = [tuple(w.shape) for w in network.params.values()]
    assert shapes == list(zip(widths[1:], widths[:-1], strict=True))
    noisy = {name: w + 0.1 for name, w in network.params.items()}
    product = np.linalg.multi_dot([np.eye(widths[-1]), *[w.numpy() for w in noisy.values()][::-1]])
    target = np.zeros((widths[-1], widths[0]))
    target[range(rank), range(rank)] = 1
    assert float(network.loss(noisy, (torch.zeros(1),))) == pytest.approx(
        ((product - target) ** 2).sum() / 2)


@pytest.mark.parametrize(("widths", "rank", "ranks"), [
    ((3,), 0, ()), ((3, 0, 3), 0, ()), ((3, 2, 3), 3, ()), ((3, 2, 3), -1, ()),
    ((3, 2, 3), 0, (1,))])
def test_impossible_network(widths, rank, ranks):
    with pytest.raises(UserError):
        LinearNetwork(widths, rank, ranks)


# ------------------------------------------------------------------------------------- references


def test_gibbs_draws_of_a_regular_model():
    """One layer is a quadratic, whose mean is known; two of full rank come to theirs."""
    value, error = mean_and_mcse(network_draws(LinearNetwork((3, 2), 1), 50, 5.0, draws=300))
    assert abs(value - 3 * 50 / 55) < 4 * error


def test_quadrature_of_a_quadratic():
    for gamma in (0.0, 3.0):
        mean, variance = gibbs_moments(quadratic((1.0, 4.0)), 10, gamma)
        parts = [10 * h / (10 * h + gamma) for h in (1, 4)]
        assert mean == pytest.approx(sum(parts) / 2, rel=1e-9)
        assert variance == pytest.approx(sum(part**2 for part in parts) / 2, rel=1e-9)


def test_quadrature_does_not_depend_on_its_grid():
    """Five digits, more than any estimate will have."""
    for toy in FIGURE_2:
        found = gibbs_moments(toy, 100, 10.0)
        assert found == pytest.approx(gibbs_moments(toy, 100, 10.0, spacing=0.03), rel=1e-5)


def test_mean_model_contains_the_quadratic():
    """Without spread in the samples, and w0 at their mean."""
    h, sampler = np.array([1.0, 2.0, 0.0]), SGLD(1e-2, 30, 0.5)
    model = MeanModel.make(np.ones((4, 3)), h)
    assert model.llc == 1.0
    for batch in (None, 2):
        assert mean_model_chain_mean(model, sampler, batch) == pytest.approx(
            quadratic_chain_mean(h, sampler))
    assert quadratic_chain_mean((1.0, 0.0), SGLD(1e-2, 30, 0)) == pytest.approx(
        quadratic_chain_mean((1.0,), SGLD(1e-2, 30, 0)))  # gamma = 0: the unused one wanders


def test_what_has_no_answer_says_so():
    with pytest.raises(UserError, match="unstable"):
        quadratic_chain_mean((100.0,), SGLD(1e-2, 5, 0))
    with pytest.raises(UserError, match="gamma above 0"):
        gibbs_moments(Monomial("crossing", (1, 1)), 100)
    for toy in (TwoMinima(), Monomial("three axes", (1, 1, 1))):
        with pytest.raises(UserError, match="even"):
            chain_moments(toy, SGLD(1e-2, 10, 1))
