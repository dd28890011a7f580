"""Means, their standard errors, and the blocks behind them."""

import pytest
import torch

from devlib.means import BLOCKS, keeping_blocks, mean_and_se, with_se


def test_mean_and_se():
    assert mean_and_se(torch.tensor([1.0, 3.0])) == (2.0, 1.0)
    assert with_se("x", (2.0, 1.0)) == {"x": 2.0, "x_se": 1.0}


def test_blocks_are_kept_by_name_where_they_are_asked_for_and_change_nothing():
    values = torch.arange(130, dtype=torch.float64) ** 1.5
    with keeping_blocks() as kept:
        row = with_se("x", mean_and_se(values))
        with_se("few", mean_and_se(values[:3]))
        with_se("made", (2.0, 1.0))  # of no values
    assert row == with_se("x", mean_and_se(values))
    assert kept.keys() == {"x", "few"}
    assert len(kept["x"]) == BLOCKS and kept["x"][0] == values[:3].mean()  # 130 = 2 * 3 + 62 * 2
    assert kept["x"][-1] == values[-2:].mean() and kept["few"] == values[:3].tolist()


def test_the_blocks_differences_are_without_what_both_ends_share():
    gen = torch.Generator().manual_seed(0)
    shared, own = (torch.randn(64 * 200, generator=gen, dtype=torch.float64) for _ in range(2))
    with keeping_blocks() as kept:
        with_se("before", mean_and_se(shared))
        with_se("after", mean_and_se(shared + 0.1 * own))
    apart = torch.tensor(kept["after"]) - torch.tensor(kept["before"])
    error = apart.std() / BLOCKS**0.5
    # exactly 0.1 / sqrt(12,800); of 64 blocks the sd is known to 1 / sqrt(126) of itself
    assert error == pytest.approx(0.1 / len(own) ** 0.5, rel=4 / 126**0.5)
