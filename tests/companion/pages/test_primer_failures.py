"""The primer's four failures: the exact answers that they are held against, and what is seen."""

import numpy as np
import pytest

from companion.known.answers import quadratic_chain_mean
from companion.pages import primer_failures
from devlib.sampling import SGLD


def test_the_mean_in_a_hole():
    """At a high n beta it is a bowl; in one dimension, the sum over a grid."""
    sampler = SGLD(1e-3, 1e4, 1.0)
    bowl = primer_failures.Hole(depth=1.0, width=1.0, dim=3)
    assert bowl.mean(sampler) == pytest.approx(
        quadratic_chain_mean((1.0,) * 3, SGLD(1e-12, 1e4, 1.0)), rel=1e-3)
    hole, sampler = primer_failures.Hole(dim=1), SGLD(1e-3, 30.0, 1.0)
    w = np.linspace(-8, 8, 200_001)
    loss = 30 * 0.6 * (1 - np.exp(-w**2 / (2 * 0.15**2)))
    density = np.exp(-loss - w**2 / 2)
    assert hole.mean(sampler) == pytest.approx((loss * density).sum() / density.sum(), rel=1e-6)


def test_each_failure_is_seen():
    curves, verdicts = primer_failures.failures(1)
    assert verdicts.failure.tolist() == ["not relaxed", "two regimes", "step", "slope"]
    off = (verdicts["from w0"] - verdicts.exact).abs() / verdicts.mcse
    assert (off > 4).all()  # each of the numbers is wrong
    assert verdicts["the check says"].tolist()[:2] == ["the starts do not meet"] * 2
    slope = curves[curves.panel == "slope"]
    assert slope.bias.is_monotonic_increasing and slope.bias.iloc[0] == 0
    fig = primer_failures.panels(curves, verdicts)
    assert len(fig.axes) == 4
