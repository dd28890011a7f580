"""Stages: the smoother against its formula, the slope, and plateaus that are known beforehand."""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from devlib.errors import UnsoundPoints, UserError
from devlib.process import Kernel
from devlib.settings import StageSettings
from devlib.stages import (
    PAPER_STAGE_ENDS,
    SmoothCurve,
    find_stages,
    local_plateaus,
    moved,
    plateaus,
    slope,
    smooth,
    stage_table,
)
from devlib.steps import schedule

STEPS = np.array(schedule(500_000, 100, 100))
X = np.log1p(STEPS)
FIXED = StageSettings(amplitude_low=25, amplitude_high=25 + 1e-9, length=1.3, length_low=1.3,
                      length_high=1.3 + 1e-9, restarts=0)  # room for the optimiser's arithmetic


def curve(slopes, steps=None):
    """A curve with these slopes; of its values the plateaus see only that they do not move."""
    slopes = np.asarray(slopes, float)
    steps = 10 * np.arange(len(slopes)) if steps is None else np.asarray(steps)
    return SmoothCurve(steps, np.zeros(len(slopes)), np.zeros(len(slopes)), slopes,
                       Kernel(1.0, 1.0))


def rises(x, *pairs, width=0.5):
    """Sum of logistic steps in x, (height, centre) each: flat between centres that are far
    apart."""
    return sum(height / (1 + np.exp(-(x - centre) / width)) for height, centre in pairs)


# ------------------------------------------------------------------------------ the smoother


@pytest.mark.parametrize("errors", [None, [0.1, 2.0, 0.3, 0.2, 1.0, 0.0]])
def test_mean_and_sd_are_the_gaussian_processs(errors):
    """mean = K (K + N)^-1 y, var = K - K (K + N)^-1 K, with K = 25 exp(-(x - x')^2 / 2 1.3^2) in
    x = log(step + 1) and N the squared errors."""
    steps, values = [0, 3, 10, 50, 200, 1000], np.array([1.0, 5.0, 3.0, 20.0, 18.0, 25.0])
    found = smooth(steps, values, FIXED, errors=errors)
    x = np.log(np.array(steps) + 1.0)
    noise = np.full(6, 1e-10) if errors is None else np.maximum(errors, 1e-5) ** 2
    k = np.array([[25 * np.exp(-(a - b) ** 2 / (2 * 1.3**2)) for b in x] for a in x])
    weights = np.linalg.inv(k + np.diag(noise))
    np.testing.assert_allclose(found.mean, k @ weights @ values, rtol=1e-6)
    variance = np.diag(k - k @ weights @ k)
    np.testing.assert_allclose(found.sd, np.sqrt(np.maximum(variance, 0)), atol=1e-5)
    np.testing.assert_array_equal(found.slope, slope(steps, found.mean))
    assert str(found.kernel) == "5**2 * RBF(length_scale=1.3)"
    if errors is None:  # without noise it goes through every point
        np.testing.assert_allclose(found.mean, values, rtol=1e-8)


def test_kernel_is_the_likeliest_within_the_bounds():
    """The marginal likelihood by its formula, over a grid: no point of it beats the fit."""
    steps = STEPS[::8]
    values = rises(np.log1p(steps), (10, 5), (-4, 9)) - 3
    noise, settings = 0.5, StageSettings(amplitude_high=400, length_high=20, restarts=2)

    def likelihood(amplitude, length):
        x = np.log1p(steps)
        k = amplitude * np.exp(-((x[:, None] - x) ** 2) / (2 * length**2))
        k += noise**2 * np.eye(len(x))
        return -values @ np.linalg.solve(k, values) / 2 - np.linalg.slogdet(k)[1] / 2

    found = smooth(steps, values, settings, errors=np.full(len(steps), noise))
    amplitude, length = found.kernel.amplitude, found.kernel.length
    assert 0.5 <= length <= 20 and amplitude <= 400
    best = max(likelihood(a, b) for a in np.geomspace(1, 400, 40)
               for b in np.geomspace(0.5, 20, 40))
    assert likelihood(amplitude, length) > best - 0.05


def test_a_noisy_curve_without_errors_ends_on_the_authors_bounds():
    """As on the released curves: amplitude 1000, length 0.5, a plain RBF smoother."""
    noisy = rises(X, (20, 5.5), (150, 8)) + np.random.default_rng(0).normal(size=len(X))
    found = smooth(STEPS, noisy, StageSettings(restarts=0))
    assert found.kernel == Kernel(1000, 0.5)
    assert np.isfinite(found.mean).all() and np.isfinite(found.sd).all()


def test_errors_smooth_what_they_can_explain():
    truth = rises(X, (20, 5.5), (150, 8), (-50, 12.3))
    noisy = truth + 2 * np.random.default_rng(0).normal(size=len(X))
    settings = StageSettings(restarts=0)
    off = {name: np.sqrt(np.mean((smooth(STEPS, noisy, settings, errors=errors).mean - truth)**2))
           for name, errors in (("none", None), ("right", np.full(len(X), 2.0)))}
    assert off["right"] < 1 < off["none"]


def test_smoothing_twice_gives_the_same():
    values = rises(X, (20, 5.5))[::10]
    one, two = (smooth(STEPS[::10], values, StageSettings(restarts=2), seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.mean, two.mean)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_checkpoints(count):
    with pytest.raises(UserError, match=f"stages need at least 4 checkpoints, not {count}"):
        smooth(STEPS[:count], np.zeros(count))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_curve_with_a_hole(bad):
    values = np.zeros(6)
    values[4] = bad
    with pytest.raises(UserError, match=f"not finite at step {STEPS[4]}"):
        smooth(STEPS[:6], values)


def tables(steps=STEPS, scale=1.0, error=1.0):
    """(llc, loss) of a noise-free curve of two steps, with one standard error for all."""
    values = rises(np.log1p(steps), (60, 4.0), (80, 9.0))
    llc = pd.DataFrame({"step": steps, "llc": scale * values, "mcse": scale * error})
    return llc, pd.DataFrame({"step": steps, "loss": -values, "loss_se": 0.1})


@pytest.mark.parametrize("column, bad, words", [
    ("mcse", np.nan, "its standard error is not finite"),
    ("mcse", np.inf, "its standard error is not finite"),
    ("mcse", -0.5, "its standard error is negative"),
    ("llc", np.nan, "the curve is not finite"),
    ("step", np.nan, None), ("step", -3, None)])
def test_a_row_that_is_no_estimate_is_refused_by_name(column, bad, words):
    llc, loss = tables(STEPS[::20])
    llc = llc.astype({"step": float})
    llc.loc[3, column] = bad
    words = (f"{words} at step {STEPS[60]}.0 .row 3: {bad}.; measure" if words
             else f"step {float(bad)} .row 3. is none: steps count from 0")
    with pytest.raises(UserError, match=words) as error:
        find_stages(llc, loss, StageSettings(restarts=0))
    assert "\n" not in str(error.value)


def test_errors_of_another_number_than_the_checkpoints():
    with pytest.raises(UserError, match="6 steps need as many values of its standard error, not 5"):
        smooth(STEPS[:6], np.zeros(6), errors=np.ones(5))


def test_the_order_of_the_rows_is_nothing():
    llc, loss = tables(STEPS[::4])
    settings, gen = StageSettings(restarts=0), np.random.default_rng(0)
    expected = find_stages(llc, loss, settings)
    found = find_stages(llc.iloc[gen.permutation(len(llc))], loss.iloc[::-1], settings)
    assert found[1] == expected[1] and len(found[1]) > 0
    np.testing.assert_array_equal(found[0].mean, expected[0].mean)
    pd.testing.assert_frame_equal(found[2], expected[2])


@pytest.mark.parametrize("which", ["llc", "loss"])
def test_two_runs_in_one_table_are_refused(which):
    llc, loss = tables(STEPS[::20])
    two = {"llc": llc, "loss": loss}
    two[which] = pd.concat([two[which]] * 2)
    with pytest.raises(UserError, match=f"step 0 stands twice .the second time in row {len(llc)}"):
        find_stages(two["llc"], two["loss"], StageSettings(restarts=0))


def test_a_table_of_the_loss_without_a_stage_s_end():
    llc, loss = tables(STEPS[::4])
    with pytest.raises(UserError, match=f"the table of loss has no row of step "
                                        f"{llc.step.iloc[-1]}"):
        find_stages(llc, loss[loss.step != llc.step.iloc[-1]], StageSettings(restarts=0))


# ---------------------------------------------------------------------- estimates not sound


def ill(first, last, words="R-hat 1.2"):
    """The two-step curve, flat from its second step on, whose estimates between two places sag by
    30: a third stage that is not there, and a note that they are not sound."""
    llc, loss = tables(STEPS[::2])
    places = np.arange(len(llc))
    sag = 30 * np.exp(-((places - (first + last) / 2) / (last - first) * 3) ** 2)
    inside = (places >= first) & (places <= last)
    return llc.assign(llc=llc.llc - sag * inside, health=np.where(inside, words, "")), loss


def test_boundaries_that_rest_on_unsound_estimates_are_said_and_can_be_left_out():
    settings = StageSettings(restarts=0)
    llc, loss = ill(56, 76)
    sound = find_stages(*tables(STEPS[::2]), settings)[1]
    with pytest.warns(UnsoundPoints, match=r"21 of \d+ estimates, between steps") as said:
        everything = find_stages(llc, loss, settings)
    assert set(everything[1]) - set(sound)  # what the sag makes
    gone = [step for step in everything[1] if min(abs(np.log1p(step) - np.log1p(other))
                                                  for other in sound) > 0.35]
    assert str(said[0].message).endswith("these go: " + ", ".join(f"{step:,}" for step in gone))
    with pytest.warns(UnsoundPoints):
        curve, boundaries, stages = find_stages(llc, loss, settings, unsound="leave out")
    expected = find_stages(llc[llc.health == ""], loss, settings)
    assert boundaries == expected[1] and not set(gone) & set(boundaries)
    np.testing.assert_array_equal(curve.mean, expected[0].mean)
    pd.testing.assert_frame_equal(stages, expected[2])


@pytest.mark.parametrize("words", ["", np.nan, "imprecise: ESS 90"])
def test_sound_estimates_are_used_without_a_word(words):
    settings, (llc, loss) = StageSettings(restarts=0), tables(STEPS[::4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_stages(llc.assign(health=words), loss, settings, unsound="leave out")
    assert found[1] == find_stages(llc, loss, settings)[1]


def test_too_few_sound_estimates():
    llc, loss = tables(STEPS[::20])
    llc["health"] = ["", "", "", *["R-hat 1.2"] * (len(llc) - 3)]
    settings = StageSettings(restarts=0)
    with pytest.warns(UnsoundPoints, match="without them the boundaries are none"):
        find_stages(llc, loss, settings)
    with pytest.warns(UnsoundPoints), pytest.raises(UserError, match="at least 4 checkpoints, a"):
        find_stages(llc, loss, settings, unsound="leave out")
    with pytest.raises(UserError, match="unsound must be 'say' or 'leave out'"):
        find_stages(llc, loss, settings, unsound="ignore")


@pytest.mark.parametrize("scale, end", [(100.0, "high"), (1e4, "high"), (1e-4, "low")])
def test_a_curve_in_another_unit(scale, end):
    """With the kernel's bounds in the same unit it has the same boundaries; with the authors' it
    says that they do not fit, and has the same boundaries too."""
    settings, (llc, loss) = StageSettings(restarts=0), tables()
    wanted, other = (replace(
        settings, tolerance=scale * settings.tolerance, amplitude_low=factor * 1e-3,
        amplitude_high=factor * 1e3) for factor in (scale**2, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = find_stages(llc, loss, settings)[1]
        assert find_stages(tables(scale=scale)[0], loss, wanted)[1] == expected != []
    with pytest.warns(UserWarning, match=f"its bound amplitude_{end} = .* may be false") as said:
        found = find_stages(tables(scale=scale)[0], loss, other)[1]
    assert found == expected and len(said) == 1
    with pytest.warns(UserWarning, match="may be false"):  # the tolerance of another unit
        find_stages(tables(scale=scale)[0], loss, StageSettings(restarts=0))


@pytest.mark.parametrize("curve", ["two steps", "a climb"])
@pytest.mark.parametrize("scale", [100.0, 10.0, 0.1, 0.01, 0.001])
def test_settings_in_its_own_unit_give_a_curve_the_boundaries_that_it_had(scale, curve):
    """Also at a tenfold unit, where the curve stays near its data with the authors' bounds, so
    that nothing warns, and has another number of boundaries."""
    settings, (llc, loss) = StageSettings(restarts=0), tables(STEPS[::2])
    if curve == "a climb":
        llc = llc.assign(llc=scale * rises(np.log1p(llc.step), (30, 3.0), (30, 6.0), (90, 10.5)))
    else:
        llc = llc.assign(llc=scale * llc.llc)
    plain = llc.assign(llc=llc.llc / scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = find_stages(plain, loss, settings)
        found = find_stages(llc.assign(mcse=scale), loss, settings.in_unit(scale))
    assert found[1] == expected[1] != []
    np.testing.assert_allclose(found[0].mean, scale * expected[0].mean, rtol=1e-6)
    with pytest.raises(UserError, match="unit must be"):
        settings.in_unit(0)


@pytest.mark.parametrize("values, error", [
    (np.zeros(50), 0.0),  # flat: no amplitude is too small for it
    (np.random.default_rng(0).normal(size=50), 1.0),
    (10 * np.random.default_rng(0).normal(size=50), 1.0)])  # rough: it is the length that binds
def test_what_the_kernel_s_unit_is_not_to_blame_for(values, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = smooth(STEPS[:100:2], values, StageSettings(restarts=0), np.full(50, error))
    assert np.isfinite(found.mean).all()


# ---------------------------------------------------------------------------------- slope


def test_slope_of_a_straight_line_is_exact():
    np.testing.assert_allclose(slope(STEPS, 7 - 2.5 * X), -2.5, rtol=1e-9)


def test_slope_by_hand():
    """At log(step + 1) = 0, ln 2, ln 4, ln 16: differences 3, -1, 4 over ln 2, ln 2, 2 ln 2."""
    left, mid, right = 3 / np.log(2), -1 / np.log(2), 4 / np.log(4)
    np.testing.assert_allclose(slope([0, 1, 3, 15], [0.0, 3.0, 2.0, 6.0]),
                               [left, (left + mid) / 2, (mid + right) / 2, right], rtol=1e-12)


def test_slope_of_a_smooth_function():
    """d/dx of a logistic step, where checkpoints are dense: second-order error."""
    exact = rises(X, (100, 11)) * (1 - rises(X, (1, 11))) / 0.5
    dense = slice(-60, -1)
    np.testing.assert_allclose(slope(STEPS, rises(X, (100, 11)))[dense], exact[dense], atol=0.6)


# ------------------------------------------------------------------------------- plateaus


def test_a_plateau_is_printed_as_the_checkpoint_that_it_is():
    """The released code is off by one here: it prints the checkpoint before (984 for 1124)."""
    slopes = [20, 15, 3, 12, 30, -9, -2, -10, -12, -11]
    steps = [0, 5, 9, 20, 70, 84, 99, 150, 200, 300]
    assert plateaus(curve(slopes, steps), 8) == [9, 99]


@pytest.mark.parametrize("slopes, tolerance, expected", [
    ([9, 5, 9], 8, [10]),
    ([9, 5, 9], 5, []),  # below the tolerance, not at it
    ([9, 5, 9], 5.001, [10]),
    ([9, 5, 4, 5, 9], 8, [20]),  # one minimum, not three
    ([9, 5, 5, 9], 8, [20]),  # a level minimum counts once
    ([9, 2, 9, 3, 9, 7, 9], 4, [10, 30]),
    ([-9, -2, -9], 8, [10]),  # falling
    ([9, 1, -1, -9], 8, [20]),  # at a peak
    ([9, 2, 1], 8, []), ([9, 9, 9], 8, []),  # the run's end is a stage end anyway
    ([1, 2, 1, 2], 8, []),  # nothing ever moves
    ([3, 1, 2, 9, 1, 9], 8, [40]),  # the plateau that the curve begins on
    ([1, 9, 4, 9], 8, [20]),
    ([9, 1], 8, []), ([9], 8, []),
])
def test_plateaus_by_hand(slopes, tolerance, expected):
    assert plateaus(curve(slopes), tolerance) == expected


@pytest.mark.parametrize("smoothed", [False, True])
def test_plateaus_of_logistic_steps(smoothed):
    """Three rises and a fall with plateaus between them, known from the curve's own derivative on
    a fine grid; each is found within a checkpoint."""
    parts = ((40, 2.5), (60, 5.5), (80, 8.0), (-50, 11.5))
    fine = np.linspace(0, X[-1], 100_001)
    steep = np.abs(np.gradient(rises(fine, *parts, width=0.3), fine))
    minima = [fine[i] for i in range(1, len(fine) - 1)
              if steep[i - 1] >= steep[i] < steep[i + 1] and 2.5 < fine[i] < 11.5]
    assert len(minima) == 3
    values = rises(X, *parts, width=0.3)
    if smoothed:
        found = smooth(STEPS, values, StageSettings(restarts=0))
        np.testing.assert_allclose(found.mean, values, atol=1e-2)
    else:
        found = curve(slope(STEPS, values), STEPS)
    boundaries = plateaus(found, 8)
    assert len(boundaries) == 3 and all(isinstance(step, int) for step in boundaries)
    for boundary, exact in zip(boundaries, minima, strict=True):
        nearest = np.abs(X - exact).argmin()
        assert boundary in STEPS[nearest - 1:nearest + 2]


def test_a_gentle_rise_ends_a_stage_too():
    """It never is as steep as the tolerance, 8, but goes farther than 8 before it rests."""
    steps = np.expm1(np.arange(8)).round().astype(int)
    x, rises_by = np.log1p(steps), np.array([0, 0, 7, 7, 0, 0, 30, 30])
    values = np.cumsum(rises_by * np.diff(x, prepend=0))
    gentle = SmoothCurve(steps, values, np.zeros(8), slope(steps, values), "")
    assert np.abs(gentle.slope)[:5].max() < 8 <= values[3]
    assert list(moved(gentle, 8)) == [False] * 3 + [True] * 5
    assert plateaus(gentle, 8) == [steps[4]]
    assert local_plateaus(steps, gentle.slope, 8, np.zeros(8, bool)) == []


def test_a_flat_beginning_is_no_stage():
    values = rises(X, (60, 6.0), (80, 10.0))
    boundaries = plateaus(curve(slope(STEPS, values), STEPS), 8)
    assert len(boundaries) == 1 and 6 < np.log1p(boundaries[0]) < 10


def test_tolerance_only_removes_plateaus():
    rng = np.random.default_rng(1)
    wild = curve(rng.normal(scale=10, size=60))
    found = [plateaus(wild, t) for t in (0.5, 2, 8)]
    started = [next(i for i, s in enumerate(np.abs(wild.slope)) if s >= t) for t in (0.5, 2, 8)]
    for small, large in pairwise(found):
        assert {s for s in small if s >= 10 * max(started)} <= set(large)
    assert found[0] and len(found[0]) < len(found[2])


# ---------------------------------------------------------------------------- stage table


def test_stage_table_by_hand():
    steps = [0, 10, 100, 1000, 5000]
    loss = pd.DataFrame({"step": steps, "loss": [4.5, 4.0, 3.0, 2.0, 1.75],
                         "loss_se": [0.3, 0.4, 0.1, 0.0, 0.5]})
    llc = pd.DataFrame({"step": steps, "llc": [1.0, 20.0, 100.0, 170.0, 120.0],
                        "mcse": [0.0, 3.0, 4.0, 1.0, 2.0]})
    table = stage_table([10, 100], curve([9] * 5, steps), loss, llc, prefix="LR")
    assert list(table.stage) == ["LR1", "LR2", "LR3"]
    assert list(table.start) == [0, 10, 100] and list(table.end) == [10, 100, 5000]
    np.testing.assert_allclose(table.loss_change, [-0.5, -1.0, -1.25])
    np.testing.assert_allclose(table.loss_se, [0.5, np.sqrt(0.17), np.sqrt(0.26)])
    np.testing.assert_allclose(table.llc_change, [19, 80, 20])
    np.testing.assert_allclose(table.llc_se, [3, 5, np.sqrt(20)])
    whole = stage_table([], curve([9] * 5, steps), loss, llc)
    assert len(whole) == 1 and whole.loss_change[0] == 1.75 - 4.5


def test_stages_of_the_paper():
    assert list(PAPER_STAGE_ENDS["LR"].values()) == [1_000, 40_000, 126_000, 320_000, 500_000]
    assert list(PAPER_STAGE_ENDS["LM"].values()) == [900, 6_500, 8_500, 17_000, 50_000]
