"""Means and their standard errors."""

import torch

from devlib.means import mean_and_se, with_se


def test_mean_and_se():
    assert mean_and_se(torch.tensor([1.0, 3.0])) == (2.0, 1.0)
    assert with_se("x", (2.0, 1.0)) == {"x": 2.0, "x_se": 1.0}
