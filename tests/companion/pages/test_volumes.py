"""Volumes of low loss against closed forms and plain counts."""

import math

import numpy as np
import pytest
import scipy.integrate

from companion.known.potentials import A2_EXAMPLES, FIGURE_2, Monomial, TwoMinima, quadratic
from companion.pages.volumes import LEVELS, RADIUS, mean_from_volumes, volume_potentials, volumes
from devlib.errors import UserError

QUADRATIC, QUARTIC, CROSSING, TWO_MINIMA = FIGURE_2


def test_volume_of_a_quadratic():
    """pi eps for w_1^2 + w_2^2, until the disc is full."""
    levels = np.array([1e-12, 1e-4, 0.1, 1.0])
    expected = math.pi * np.minimum(levels, RADIUS**2)
    assert volumes(QUADRATIC, levels) == pytest.approx(expected, rel=1e-5)


def test_volume_of_an_ellipse():
    assert volumes(quadratic((2, 8)), [1e-3])[0] == pytest.approx(
        math.pi * 1e-3 / 2, rel=1e-6)


def test_volume_of_a_quartic():
    """The area of |x|^4 + |y|^4 < 1, times eps^(1/2)."""
    area = 4 * math.gamma(5 / 4) ** 2 / math.gamma(3 / 2)
    assert volumes(QUARTIC, [1e-8])[0] == pytest.approx(area * 1e-4, rel=1e-5)


@pytest.mark.parametrize("potential", [CROSSING, TWO_MINIMA, Monomial("cross", (1, 1))],
                         ids=lambda potential: potential.name)
def test_volume_against_a_plain_count(potential):
    """A fine grid over the disc, the naive way."""
    axis = np.linspace(-RADIUS, RADIUS, 2001)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    loss = primer_energy(potential, grid)
    inside = (grid**2).sum(-1) <= RADIUS**2
    levels = [1e-6, 1e-4, 1e-3]
    counted = [((loss < level) & inside).sum() * (axis[1] - axis[0]) ** 2 for level in levels]
    assert volumes(potential, levels) == pytest.approx(counted, rel=0.01)


def primer_energy(potential, grid):
    import torch

    return potential.energy(torch.tensor(grid)).numpy()


def test_slopes_are_the_llc():
    """To three digits at losses below 1e-14; less the logarithm's share with multiplicity 2."""
    levels = np.logspace(-16, -14, 9)
    for potential in volume_potentials():
        volume = volumes(potential, levels)
        slope = np.polyfit(np.log(levels), np.log(volume), 1)[0]
        logarithm = -math.log(1e-15)  # with some constant added inside
        gap = (potential.multiplicity - 1) / logarithm
        assert potential.llc - slope == pytest.approx(gap, abs=1e-3 if gap == 0 else 0.1 * gap)


def test_volume_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="two coordinates"):
        volumes(A2_EXAMPLES[0])
    with pytest.raises(UserError, match="falls along a ray"):
        volumes(TwoMinima(), radius=1.0)  # reaches the line of minima
    for bad in ({"radius": 0.0}, {"levels": [0.0]}, {"levels": []}):
        with pytest.raises(UserError, match="above 0"):
            volumes(QUADRATIC, **bad)


@pytest.mark.parametrize("llc", [0.25, 0.5, 1.5])
def test_mean_from_a_power_is_the_power(llc):
    levels = np.logspace(-16, 2, 145)
    for nbeta in (10.0, 1e6):
        assert mean_from_volumes(levels, levels**llc, nbeta) == pytest.approx(llc, rel=1e-3)


def test_mean_from_volumes_equals_the_integral():
    """Over the disc, by scipy in polar coordinates."""
    nbeta = 50.0

    def scaled(r, angle):
        return nbeta * (r * math.cos(angle)) ** 2 * (r * math.sin(angle)) ** 2

    def part(k):
        return scipy.integrate.dblquad(
            lambda r, angle: r * scaled(r, angle) ** k * math.exp(-scaled(r, angle)),
            0, math.pi / 2, 0, RADIUS)[0]

    found = mean_from_volumes(
        LEVELS, volumes(Monomial("cross", (1, 1))), nbeta)
    assert found == pytest.approx(part(1) / part(0), abs=5e-4)  # the levels are a grid
