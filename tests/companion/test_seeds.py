"""Runs of other seeds beside one another, and beside the released five, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion import results
from companion.claims import seeds as released
from companion.claims.interval import prediction
from companion.pages.more_seeds import by_long_chains, departures, late, long_llcs
from companion.seeds import at_steps, beside_released, spread


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


def evaluated(offset, steps=(984, 126_262, 126_300)):
    """A table "evaluation" at the released mean, so many of its standard deviations off."""
    known = released.curve("weight_norm").set_index("step").loc[[984, 126_262]]
    norm = (known["mean"] + offset * known.sd).tolist()
    return pd.DataFrame({"step": steps, "weight_norm": [*norm, 0.0][:len(steps)], "loss": 2.0})


def test_our_seeds_beside_the_released_five():
    ours = {0: evaluated(-1.0), 1: evaluated(5.0), 3: evaluated(2.0, steps=(984,))}
    first, later = beside_released(ours, "weight_norm", (984, 126_262, 499_999)).itertuples()
    assert (first.step, first.seeds, later.step, later.seeds) == (984, 3, 126_262, 2)
    known = released.of_seeds("weight_norm", 126_262)
    assert later.released == pytest.approx(known.mean(), rel=1e-4)
    assert later.released_sd == pytest.approx(known.std(ddof=1), rel=1e-3)
    assert (later.ours - later.released) / later.released_sd == pytest.approx(2)  # of -1 and 5
    assert later.sd / later.released_sd == pytest.approx(18**0.5)
    mean, reach = prediction(known, runs=2)
    assert (later.low, later.high) == pytest.approx((mean - reach, mean + reach), rel=1e-4)
    assert prediction(known)[1] == pytest.approx(3.0414 * later.released_sd, rel=1e-3)
    assert (first.outside, later.outside) == (1, 1)  # 5, and neither -1 nor 2
    assert later.spread_p == pytest.approx(2 * stats.f.sf(18, 1, 4))


def test_our_own_error_widens_the_interval_of_a_loss():
    tables = {seed: evaluated(0.0).assign(loss_se=0.5) for seed in (0, 1)}
    row, = beside_released(tables, "loss", (984,)).itertuples()
    _, reach = prediction(released.of_seeds("loss", 984), runs=2)
    assert (row.high - row.low) / 2 == pytest.approx(np.hypot(reach, 1.96 * 0.5 / 2**0.5), rel=1e-3)


def test_one_seed_has_no_spread_and_a_step_that_is_not_reached_no_row():
    row, = beside_released({1: evaluated(0.0)}, "weight_norm", (984, 5_000)).itertuples()
    assert np.isnan(row.sd) and np.isnan(row.spread_p) and row.outside == 0
    assert beside_released({}, "loss", (984,)).empty
    assert departures({}).empty  # a preset with no run in the doubled stream


def test_departures_are_from_the_released_mean_in_the_unit_of_its_axis():
    found = departures({2: evaluated(0.0), 4: evaluated(4.0)})
    assert list(zip(found.seed, found.step, strict=True)) == [
        (2, 984), (2, 126_262), (4, 984), (4, 126_262)]  # none of a step that was not released
    norm, loss = (released.curve(name).set_index("step") for name in ("weight_norm", "loss"))
    share = norm.sd[126_262] / norm["mean"][126_262]
    assert found.weight_norm.tolist()[1::2] == pytest.approx([1, 1 + 4 * share])
    assert found.weight_norm_reach[1] == pytest.approx(3.0414 * share, rel=1e-4)
    assert found.loss[1] == pytest.approx(2.0 - loss["mean"][126_262])
    assert found.loss_reach[1] == pytest.approx(3.0414 * loss.sd[126_262], rel=1e-4)
    lines = late(found, first=100_000).axes[0].lines
    assert [line.get_label() for line in lines[1:]] == ["ours, seed 2", "ours, seed 4"]
    assert lines[1].get_xdata().tolist() == [126_262]


def test_long_chains_are_those_of_the_doubled_stream_with_the_larger_of_two_errors(monkeypatch):
    estimates = pd.DataFrame({
        "protocol": ["equilibrium", "as published", "as published"], "step": [984, 984, 40_404],
        "llc": [9.0, 19.0, 170.0], "mcse": [0.1, 0.1, 3.0], "chain_sd": [4.0, 4.0, 4.0],
        "chains": 4})
    tables = {("doubled", 0): estimates, ("standard", 0): estimates,
              ("doubled", 3): estimates[:1]}  # a run without such chains
    monkeypatch.setattr(results, "finished_runs", lambda preset, kind: list(tables))
    monkeypatch.setattr(results, "protocols", lambda preset, seed, residual: {
        "estimates": tables[residual, seed]})
    found = long_llcs("published")
    assert list(found) == [0]
    assert found[0].to_dict("list") == {
        "step": [984, 40_404], "llc": [19.0, 170.0], "llc_se": [2.0, 3.0]}


def test_long_chains_are_drawn_about_the_released_mean():
    known = released.curve("llc").set_index("step")
    ours = pd.DataFrame({"step": [984, 40_404], "llc": [20.0, 171.0], "llc_se": [0.5, 1.0]})
    table = departures({0: ours, 2: ours[:1]}, ("llc",))
    early, top = 20 - known["mean"][984], 171 - known["mean"][40_404]
    assert table.llc.tolist() == pytest.approx([early, top, early])
    assert table.llc_reach[0] == pytest.approx(np.hypot(3.0414 * known.sd[984], 1.96 * 0.5),
                                               rel=1e-4)
    fig = by_long_chains(table)
    for ax in fig.axes:
        labels = ax.get_legend_handles_labels()[1]
        assert labels[1:] == ["ours, seed 0", "ours, seed 2"]
