"""The artefact of the released language-model curve, on traces made by hand."""

import numpy as np
import pytest

from devlib.artefact import predicted_shift, running_init_llc
from devlib.draws import Draws
from devlib.samplers import SGLD


def draws(losses):
    losses = np.asarray(losses, float)
    return Draws(losses, np.zeros_like(losses), init_loss=0.0, sampler=SGLD(1e-3, 2.0, 1.0),
                 burn_in=0, batch_size=4, seed=0)


def test_later_chains_still_count_as_zero():
    """Two chains: the first is held against half of its first loss, the second against the mean
    of both."""
    mean, sd = running_init_llc(draws([[4.0, 6.0], [2.0, 4.0]]))
    first, second = 2 * (5 - 4 / 2), 2 * (3 - (4 + 2) / 2)
    assert (first, second) == (6, 0)
    assert mean == 3 and sd == pytest.approx(18**0.5)


def test_the_shift_is_the_difference_to_the_true_init_loss():
    """Chains that start at loss 5 and rise by 1: the true estimate is nbeta times the mean rise."""
    losses = 5 + np.tile(np.linspace(0, 1, 11), (20, 1))
    mean, sd = running_init_llc(draws(losses))
    shift, spread = predicted_shift(2.0, 20, 5.0)
    assert mean == pytest.approx(2 * 0.5 + shift) and sd == pytest.approx(spread)


def test_the_factors_of_the_released_files():
    """Released: 10.26 and 6.39 times the loss, from nbeta = 100 / ln 100 and 20 chains."""
    nbeta = 100 / np.log(100)
    shift, spread = predicted_shift(nbeta, 20, 1.0)
    assert shift == pytest.approx(10.26, rel=0.006) and spread == pytest.approx(6.39, rel=0.006)
