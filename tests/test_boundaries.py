"""Sensitivity of the boundaries: curves whose plateaus are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companion.pages.boundaries import beside_paper, sensitivity
from devlib.boundaries import Rule, bootstrap
from devlib.errors import UserError
from devlib.settings import StageSettings
from devlib.stages import slope, smooth
from devlib.steps import schedule

STEPS = np.array(schedule(500_000, 60, 40))
X = np.log1p(STEPS)
RULE = Rule(StageSettings(restarts=0))


def table(values, mcse=0.5, noise=0.0, chains=6, seed=0):
    """A curve of these values, as the mean of chains that differ by `noise`."""
    gen = np.random.default_rng(seed)
    each = values[:, None] + noise * gen.normal(size=(len(values), chains))
    return pd.DataFrame({"step": STEPS, "llc": each.mean(1), "mcse": mcse}).join(
        pd.DataFrame(each, columns=[f"chain_{k}" for k in range(chains)]))


def climb(slope_at_rest=0.0):
    """A climb of slope 20 + 20 cos x in x = log(step + 1), with two rests inside the run."""
    return table(20 * X + 20 * np.sin(X) + slope_at_rest * X)


RESTS = np.array([np.pi, 3 * np.pi])  # steps 22 and 12,391


def rests(steps):
    """For each rest, whether one of the steps is near it."""
    return [bool((np.abs(np.log1p(steps) - rest) < 0.3).any()) for rest in RESTS]


def steps_of(row):
    return np.array(row.boundaries.split(), int)


def test_the_rests_of_a_climb_are_found_whatever_the_choice():
    # a fitted noise has a second, wider optimum: hence the restarts
    found = sensitivity(climb(), replace(RULE, settings=StageSettings(restarts=3)))
    assert list(found.choice) == ["as it stands", *["tolerance"] * 3, *["least length scale"] * 2,
                                  *["checkpoints"] * 2, *["noise"] * 2, "axis", "start"]
    assert list(found.value[1:4]) == ["2", "4", "16"]
    assert list(found.value[8:10]) == ["none", "fitted"]
    assert list(found["count"][:4]) == [2] * 4
    for row in found.itertuples():
        assert len(steps_of(row)) == row.count
        assert rests(steps_of(row))[1], row
    assert all(rests(steps_of(row))[0] for row in found.itertuples()
               if row.value not in ("every 4", "t"))  # too few checkpoints there; too steep in t


@pytest.mark.parametrize("every", [1, 2])
def test_rows_are_in_order_and_of_one_run_before_any_is_left_out(every):
    """Every second row of two stacked and sorted runs would be a curve with nothing amiss."""
    rule, llc = replace(RULE, every=every), climb()
    shuffled = rule.curve(llc.sample(frac=1, random_state=0))
    np.testing.assert_array_equal(shuffled.mean, rule.curve(llc).mean)
    with pytest.raises(UserError, match="step 0 stands twice"):
        rule.curve(pd.concat([llc, llc]).sort_values("step"))


def test_a_slope_between_the_tolerances_is_a_boundary_only_above_it():
    found = sensitivity(climb(slope_at_rest=3.0), RULE)
    near = [rests(steps_of(row))[1] for row in found.itertuples()]
    assert near[:4] == [True, False, True, True]  # tolerance 8, 2, 4, 16


def test_slope_in_t_is_slope_in_log_t_over_t():
    np.testing.assert_allclose(slope([0, 1, 3], [0.0, 2.0, 8.0], log=False), [2.0, 2.5, 3.0])
    rule = replace(RULE, axis="t", meet=1)
    curve = rule.curve(climb())
    per_step = slope(curve.steps, curve.mean, log=False)
    for step in rule.boundaries(curve):
        assert abs(per_step[list(curve.steps).index(step)]) < 8


def test_thinning_keeps_both_ends():
    curve = replace(RULE, every=7).curve(climb())
    assert curve.steps[0] == STEPS[0] and curve.steps[-1] == STEPS[-1]
    assert set(curve.steps[:-1]) == set(STEPS[::7]) - {STEPS[-1]} and len(curve.steps) < 25


def test_bootstrap_of_equal_chains_moves_nothing():
    found = bootstrap(climb(), RULE, repetitions=5)
    assert len(found) == 2 and rests(found.boundary) == [True, True]
    assert (found.found == 1).all()
    assert (found.low == found.boundary).all() and (found.high == found.boundary).all()


def test_bootstrap_spreads_with_the_chains_and_repeats_with_its_seed():
    leaning = climb()
    tilt = np.linspace(-6, 6, 6)[None] * (X[:, None] - 8)  # each chain leans its own way
    leaning[[f"chain_{k}" for k in range(6)]] += tilt
    found = bootstrap(leaning, RULE, repetitions=40, seed=1)
    assert rests(found.boundary) == [True, True]
    assert (found.low < found.high).all() and found.found.between(0.4, 1).all()
    assert found.low[1] <= found.boundary[1] <= found.high[1]
    pd.testing.assert_frame_equal(found, bootstrap(leaning, RULE, repetitions=40, seed=1))


def test_a_fitted_kernel_is_taken_as_it_is():
    llc = climb()
    first = smooth(llc.step, llc.llc, RULE.settings, errors=llc.mcse)
    again = smooth(llc.step, llc.llc + 1.0, RULE.settings, errors=llc.mcse, kernel=first.kernel)
    assert again.kernel == first.kernel


def test_a_fitted_noise_is_about_the_noise_there_is():
    noisy = np.sin(X) * 20 + 3 * np.random.default_rng(0).normal(size=len(X))
    kernel = str(smooth(STEPS, noisy, StageSettings(restarts=0), fit_noise=True).kernel)
    level = float(kernel.split("noise_level=")[1].rstrip(")"))
    assert 4.5 < level < 18  # 9, the variance


def test_boundaries_beside_the_papers():
    paper = {"LR1": 1_000, "LR2": 40_000, "LR3": 126_000}
    found = beside_paper([984, 35_353], paper, 100_000)
    assert list(found.stage) == ["LR1", "LR2"] and list(found.found) == [984, 35_353]
    assert found.factor[0] == pytest.approx(0.984)
    assert beside_paper([], paper, 2_000).factor.isna().all()
    assert beside_paper([5], paper, 900).empty


def test_what_is_refused():
    llc = climb()
    with pytest.raises(UserError, match="noise must be one of errors, none, fitted, not 'some'"):
        replace(RULE, noise="some").curve(llc)
    with pytest.raises(UserError, match="axis must be 'log t' or 't', not 'x'"):
        replace(RULE, axis="x").boundaries(RULE.curve(llc))
    with pytest.raises(UserError, match=r"at least 3 chains .* not 2 of 2"):
        bootstrap(llc.drop(columns=[f"chain_{k}" for k in range(4)]), RULE)
    llc.loc[3, [f"chain_{k}" for k in range(4)]] = np.nan
    with pytest.raises(UserError, match="diverge nowhere, not 2 of 6"):
        bootstrap(llc, RULE)


def test_bootstrap_leaves_out_a_chain_that_diverged():
    llc = climb()
    less = bootstrap(llc.drop(columns="chain_2"), RULE, repetitions=5)
    llc.loc[3, "chain_2"] = np.nan
    pd.testing.assert_frame_equal(bootstrap(llc, RULE, repetitions=5), less)
