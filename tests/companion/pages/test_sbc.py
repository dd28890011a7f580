"""Simulation-based calibration: the truth ranks anywhere among posterior draws, equally often."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import sbc
from companion.places import project_root
from devlib.files import make_directory

LEVEL = 0.01  # of a chi-square test, shared between the quantities


@pytest.mark.slow
def test_sampler_is_calibrated():
    """And leaves its histogram, flat or not, where the book can show it."""
    histogram = sbc.rank_histogram(sbc.sbc_ranks(repetitions=200))
    sbc.write_histogram(make_directory(project_root() / "data" / "bench") / "sbc.csv", histogram)
    p = sbc.uniformity(histogram)
    assert set(p) == {"w1", "w2", "w3", "loss"}
    assert min(p.values()) > LEVEL / len(p), p


@pytest.mark.slow
def test_a_wrong_prior_shows():
    """The same test does find a sampler whose localisation is four times too strong."""
    p = sbc.uniformity(sbc.rank_histogram(sbc.sbc_ranks(repetitions=200, gamma=4 * sbc.GAMMA)))
    assert min(p.values()) < LEVEL / len(p), p


def test_ranks_are_a_function_of_the_seed():
    first, again, other = (sbc.sbc_ranks(repetitions=2, draws=4, steps=20, seed=seed)
                           for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)
    assert list(first) == ["w1", "w2", "w3", "loss"]
    assert first.to_numpy().min() >= 0 and first.to_numpy().max() <= 4


def test_histogram_and_its_test(tmp_path):
    """Twenty possible ranks in ten bins; a flat sample passes and a heap does not; also when read
    back from its file."""
    flat = pd.DataFrame({"w1": np.tile(np.arange(20), 10), "loss": np.repeat(0, 200)})
    histogram = sbc.rank_histogram(flat)
    assert (histogram["w1"] == 20).all() and histogram["loss"][0] == 200
    assert (histogram["expected"] == 20).all()
    sbc.write_histogram(tmp_path / "sbc.csv", histogram)
    p = sbc.uniformity(pd.read_csv(tmp_path / "sbc.csv"))
    assert p["w1"] == 1.0 and p["loss"] < 1e-6
