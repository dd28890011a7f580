"""What the page on what the curve measures works out, against numbers made by hand, and the
released curves that it is held against."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

from companion import health, presets, results
from companion.claims import seeds
from companion.claims.interval import Z, prediction
from companion.long_chains import as_published, left_out
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


def climbing(step, start="w0, long", draws=50, rate=0.0):
    """Blocks of 100 draws: alternately 90 and 110, on a climb of `rate` a block."""
    number = np.arange(draws)
    return pd.DataFrame({"start": start, "step": step, "draw": 100 * number + 50,
                         "llc": 100 + 10.0 * (-1.0) ** (number // 5) + rate * number})


def test_long_chains_settle_after_their_first_part():
    table = pd.concat([climbing(7), climbing(9, "prior"), climbing(8, rate=1.0)])
    flat, climb = curve.settled(table, first=1_000).sort_values("step").itertuples()
    assert (flat.step, flat.llc, flat.error, flat.rests) == (7, 100.0, 0.0, True)  # 4 parts of ten
    means = 100 + np.array([14.5, 24.5, 34.5, 44.5])
    widened = stdtrit(3, 0.975) / Z
    assert climb.error == pytest.approx(np.std(means, ddof=1) / 2 * widened)
    assert climb.llc == pytest.approx(129.5)


def test_chains_are_at_rest_where_their_first_quarter_is_no_climb():
    """The block means of the book's own run at step 217,171, and at 328,282."""
    assert not curve.at_rest(np.array([128.4, 142.5, 149.4, 152, 156.4, 155.4, 158, 158.1]))
    assert curve.at_rest(np.array([106.8, 110.8, 111.8, 110, 105.7, 106.4, 107.6, 113.9]))


def test_shorter_chains_are_held_against_long_ones_in_both_errors():
    rest = pd.DataFrame({"step": [7, 8], "llc": [100.0, 120.0], "error": [3.0, 0.0]})
    found = curve.short_of(rest, {"short": pd.DataFrame(
        {"step": [8, 9], "llc": [110.0, 1.0], "error": [4.0, 1.0]})})
    assert list(found) == ["step", "long", "error", "short", "short, in errors"]
    assert found["short"].tolist()[1] == -10.0
    assert found["short, in errors"].tolist()[1] == -2.5 and found.iloc[0].isna().sum() == 2


def test_both_starts_in_long_chains_are_told_apart_like_any_two():
    prior = estimates((7, "prior", 105.0, 1.0, 0.0, 3), (8, "prior", 200.0, 1.0, 0.0, 3))
    table = pd.concat([climbing(7), climbing(8), climbing(9)])
    found = curve.long_starts(prior.assign(protocol="long from the prior"), table, first=1_000)
    assert found.groupby("step").meet.all().to_dict() == {7: False, 8: False}  # 5 apart, of 1
    near = prior.assign(protocol="long from the prior", llc=[102.0, 200.0])
    found = curve.long_starts(near, table, first=1_000)
    assert found.groupby("step").meet.all().to_dict() == {7: True, 8: False}
    climbs = pd.concat([climbing(7, rate=3.0), table[table.step != 7]])
    level = curve.settled(climbs, 1_000).set_index("step").llc[7]
    found = curve.long_starts(near.assign(llc=[level, 200.0]), climbs, first=1_000)
    assert not found.meet.any()  # of the one that still climbs nothing is said to meet
    assert found.groupby("step").start.agg(set).tolist() == [{"w0", "prior"}] * 2
    assert curve.long_starts(prior.assign(protocol="equilibrium"), table, 1_000).empty


def test_long_chains_beside_the_released_five():
    """The interval of `prediction`, joined with the scatter of our chains; and the released LLC at
    the step where their norm was what ours is."""
    norm, llc = (seeds.curve(name).set_index("step") for name in ("weight_norm", "llc"))
    rows = as_published(pd.DataFrame({
        "step": [984, 217_171], "llc": [19.0, 120.0], "mcse": [0.3, 0.9], "chain_sd": [2.0, 1.0],
        "chains": [4, 4], "protocol": "as published"}))
    ours = pd.DataFrame({"step": [984, 217_171], "weight_norm": [
        norm["mean"][984], norm["mean"][318_181]]})
    early, late = curve.beside_seeds(rows, ours).itertuples()
    mean, reach = prediction(seeds.of_seeds("llc", 984))
    assert (early.error, late.error) == (1.0, 0.9)  # the scatter of the chains, or their MCSE
    assert (early.low, early.high) == pytest.approx(
        (mean - np.hypot(reach, 1.96), mean + np.hypot(reach, 1.96)), rel=1e-3)
    assert early.within and not late.within
    assert np.isnan(early.at_norm) and late.at_norm == pytest.approx(llc["mean"][318_181])
    far = curve.beside_seeds(rows, ours.assign(weight_norm=1e3))
    assert far.at_norm.isna().all()  # no released run came so far
    assert curve.beside_seeds(rows[:0], ours).empty


def test_the_error_that_no_row_quotes_is_what_short_chains_of_the_book_s_run_are_off():
    """Up to where all chains forget, as page 16 has it."""
    run, chosen = results.protocols("published", 1), presets.get("published").protocols
    rest = curve.settled(run["climb"], left_out(chosen))
    stored = results.regression("published", 1)["llc"].rename(columns={"mcse": "error"})
    off = curve.short_of(rest[rest.step <= 40_404], {"curve": stored})["curve"]
    assert pytest.approx((off**2).mean() ** 0.5, abs=0.1) == health.SLOW
    settings = presets.get("published").regression.llc
    assert health.slow_error({"draws": 1_000}, settings) == health.SLOW
    assert health.slow_error({"draws": 5_000}, settings) == 0
