"""What the page on what the curve measures works out, against numbers made by hand, and the
released curves that it is held against."""

import numpy as np
import pandas as pd
import pytest

from companion.claims import seeds
from companion.pages import curve
from devlib.boundaries import Rule

NBETA = 200 / 3


def test_the_mean_loss_of_a_chain_turns_the_estimate_back():
    llc = pd.DataFrame({"step": [0, 10], "init_loss": [4.0, 2.0], "llc": [NBETA, 2 * NBETA]})
    found = curve.chain_loss(llc, NBETA)
    assert found.chain_loss.tolist() == pytest.approx([5.0, 4.0])
    assert found.loss.tolist() == [4.0, 2.0]


def estimates(*rows):
    return pd.DataFrame(rows, columns=["step", "start", "llc", "mcse", "chain_sd", "chains"])


def test_two_starts_meet_within_three_combined_errors():
    rows = estimates((1, "w0", 10.0, 1.0, 0.0, 4), (1, "prior", 14.2, 1.0, 0.0, 4),
                     (2, "w0", 10.0, 1.0, 0.0, 4), (2, "prior", 14.3, 1.0, 0.0, 4))
    found = curve.with_meeting(rows)  # 3 sqrt(2) = 4.243
    assert found.meet.tolist() == [True, True, False, False]


def test_chains_that_scatter_more_than_their_mcse_widen_the_error():
    rows = estimates((2, "w0", 10.0, 1.0, 4.0, 4), (2, "prior", 14.3, 1.0, 0.0, 4))
    assert curve.with_meeting(rows).meet.all()  # 3 sqrt(4 + 1) = 6.7


def test_the_share_kept_is_one_at_the_model_and_zero_at_ignorance():
    rows = pd.DataFrame({"init_loss": [2.0, 2.0, 2.0, 4.1], "chain_loss": [2.0, 4.0, 3.0, 4.1]})
    found = curve.with_retained(rows, 4.0).retained
    assert found[:3].tolist() == [1.0, 0.0, 0.5] and np.isnan(found[3])  # no better than ignorance


def test_a_scaled_curve_has_the_plateaus_of_the_first():
    steps = np.unique(np.geomspace(1, 1e5, 60).astype(int))
    x = np.log1p(steps)
    llc = 80 / (1 + np.exp(-6 * (x - 3))) + 60 / (1 + np.exp(-6 * (x - 8)))
    found = curve.plateaus(steps, {"llc": (llc, False), "another unit": (0.01 * llc, True)}, Rule())
    assert len(found["llc"]) >= 1
    assert found["another unit"] == found["llc"]


def test_what_the_llc_adds_by_hand():
    """Of 99, 999 and 9,999 the loss has the second, which covers 2 log 1.4 of log 100 between the
    first and the last; the norm has the third."""
    found = curve.added_by_the_llc({"one": {
        "llc": [99, 999, 9_999], "nbeta (c - loss)": [1_099], "weight norm, scaled": [9_999]},
        "none": {"llc": [], "nbeta (c - loss)": [5], "weight norm, scaled": []}})
    one, none = found.to_dict("records")
    chance = one.pop("by chance")
    assert chance == pytest.approx(3 * 2 * np.log(1.4) / np.log(100), abs=1e-3)
    assert one == {"run": "one", "plateaus": 3, "in the loss": 1, "in the norm": 1,
                   "in neither": "99"}
    assert none["plateaus"] == none["by chance"] == 0 and none["in neither"] == "none"


def test_the_released_chains_forget_up_to_step_40404():
    """The finding itself, in the numbers that the book holds: one chain loss for all seeds and
    steps, and after it a fall."""
    found = curve.released("chain_loss").set_index("step")
    early = found.loc[:40_404]
    assert early.least.min() > 4.44 - 0.025 and early.greatest.max() < 4.44 + 0.025
    assert found.loc[499_999, "greatest"] < 3.9
    both = seeds.curve("llc").set_index("step")
    loss = early["mean"] - both.loc[:40_404, "mean"] / NBETA  # of the models, by the definition
    assert np.corrcoef(both.loc[:40_404, "mean"], -loss)[0, 1] > 0.9999
    table = curve.released_plateaus()
    assert (table[table.curve == "correlation to 40404"].value > 0.99998).all()


def test_the_paper_s_step_is_too_long_for_the_steepest_direction_in_lr2():
    found = seeds.curve("eig_1").set_index("step")
    assert (3e-4 * NBETA * found.loc[10_101:30_303, "least"] > 4).all()
    assert (3e-4 * NBETA * found.loc[:984, "greatest"] < 1).all()
