"""Runs of other seeds beside one another, by hand."""

import numpy as np
import pandas as pd
import pytest

from companion.seeds import at_steps, spread


def run(steps, llc_steps, offset=0.0):
    return {"evaluation": pd.DataFrame({"step": steps, "loss": 2.0 + offset, "loss_se": 0.1,
                                        "weight_norm": 30.0 + 2 * offset}),
            "llc": pd.DataFrame({"step": llc_steps, "llc": 100.0 + 10 * offset, "mcse": 0.5})}


def test_checkpoints_of_a_run_at_the_steps_it_reaches():
    found = at_steps({("doubled", 1): run([0, 1_000, 40_404], [0, 1_000, 40_000]),
                      ("standard", 2): run([0, 1_005], [0, 1_100])}, [1_000, 40_292])
    assert list(zip(found.residual, found.seed, found.step, strict=True)) == [
        ("doubled", 1, 1_000), ("doubled", 1, 40_404),  # within 1 % of the one asked for
        ("standard", 2, 1_005)]  # and ends before the other
    assert found.llc.tolist()[:2] == [100.0, 100.0] and np.isnan(found.llc.iloc[2])


def test_seeds_of_a_residual_together():
    runs = {("doubled", seed): run([0, 5], [0, 5], offset) for seed, offset in enumerate((0, 1, 5))}
    found = spread(at_steps(runs | {("standard", 0): run([0, 5], [0, 5])}, [5]))
    doubled, standard = found.itertuples()
    assert (doubled.residual, doubled.step, doubled.seeds) == ("doubled", 5, 3)
    assert (doubled.loss_least, doubled.loss_greatest) == (2.0, 7.0)
    assert doubled.llc_mean == pytest.approx(120) and doubled.llc_sd == pytest.approx(700**0.5)
    assert standard.seeds == 1 and np.isnan(standard.llc_sd)
