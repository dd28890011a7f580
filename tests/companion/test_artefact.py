"""The artefact of the released language-model curve, on traces made by hand."""

import numpy as np
import pytest

from companion import presets
from companion.artefact import plain_llc, predicted_shift, running_init_llc
from devlib.sampling.draws import Draws
from devlib.sampling.sgld import SGLD


def draws(losses, init=0.0):
    losses = np.asarray(losses, float)
    return Draws(losses, np.zeros_like(losses), init_loss=init, sampler=SGLD(1e-3, 2.0, 1.0),
                 burn_in=0, batch_size=4, seed=0)


def test_later_chains_still_count_as_zero():
    """Two chains: the first is held against half of its first loss, the second against the mean
    of both; the draw after the first counts, over two draws."""
    mean, sd = running_init_llc(draws([[4.0, 6.0], [2.0, 4.0]]))
    first, second = 2 * (6 - 4 / 2) / 2, 2 * (4 - (4 + 2) / 2) / 2
    assert (first, second) == (4, 1)
    assert mean == 2.5 and sd == pytest.approx(4.5**0.5)


def test_the_shift_is_the_difference_to_the_true_init_loss():
    """Chains that start at loss 5 and rise by 1: the true estimate is nbeta times the mean rise."""
    found = draws(5 + np.tile(np.linspace(0, 1, 11), (20, 1)), init=5.0)
    mean, sd = running_init_llc(found)
    shift, spread = predicted_shift(2.0, 20, 11, 5.0)
    assert plain_llc(found) == pytest.approx(2 * 0.5)
    assert mean == pytest.approx(2 * 0.5 + shift) and sd == pytest.approx(spread)


def test_the_factors_of_the_released_files():
    """Released: 10.26 and 6.39 times the loss, to the digits given, from the paper's settings."""
    llc = presets.PAPER.language.llc
    shift, spread = predicted_shift(llc.nbeta, llc.chains, llc.draws, 1.0)
    assert (round(shift, 2), round(spread, 2)) == (10.26, 6.39)
