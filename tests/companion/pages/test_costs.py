"""Stored measurements of cost as tables."""

import numpy as np
import pandas as pd
import pytest

from companion import results
from companion.pages import costs
from devlib.errors import UserError


def test_a_measurement_that_was_never_made():
    with pytest.raises(UserError, match=r"nothing\.json is missing; `make bench` measures it"):
        costs.load("nothing")


def test_steps_are_sorted_and_carry_the_median_of_ratios():
    """The ratio is that of the rounds, not of the medians."""
    facts = {"steps": {name: {"median": cost, "min": cost - 1, "max": cost + 1, "rounds": 3}
                       for name, cost in (("peer", 30.0), ("devlib", 10.0))},
             "speed-up": {"peer": {"median": 2.5}}}
    table = costs.steps(facts)
    assert table.contestant.tolist() == ["devlib", "peer"]
    assert table["median"].tolist() == [10, 30] and table["max"].tolist() == [11, 31]
    assert np.isnan(table["times devlib"][0]) and table["times devlib"][1] == 2.5


def test_ladders_draw_the_stored_exponent_through_the_middle():
    """A power law is met at every rung; another exponent than the rungs' only in the middle."""
    def ladder(slope):
        return {"sizes": [1, 2, 4], "cost": [{"median": 3.0 * size**2} for size in (1, 2, 4)],
                "exponent": {"slope": slope, "error": 0.1}}

    facts = {"parameters": ladder(2), "batches": ladder(1), "chains one by one": ladder(2),
             "chains together": ladder(2)}
    panels = costs.ladders(facts)
    exact = panels["parameters"]["of width 16 to 256"]
    np.testing.assert_allclose(exact.fit, exact.cost, rtol=1e-12)
    np.testing.assert_allclose(panels["batch (samples)"]["one chain"].fit, [6, 12, 24], rtol=1e-12)
    assert len(costs.long(panels)) == 4 * 3
    assert costs.exponents(facts).exponent.tolist() == [2, 1, 2, 2]


def test_totals_put_both_ways_of_a_checkpoint_beside_each_other():
    row = {"step": 7, "devlib": {"llc": 50.0, "mcse": 1.0, "cpu": {"total": 4.0}},
           "devinterp": {"cpu": {"total": 800.0}}, "ratio": 200.0,
           "paper's error": {"by effective draws": 0.5}}
    table = costs.totals({"checkpoints": [row]})
    assert table.step.tolist() == [7, 7]
    assert table["error %"].tolist() == [2.0, 1.0]
    assert table.seconds.tolist() == [4.0, 800.0] and table.times.tolist() == [1.0, 200.0]


def test_the_hessian_s_costs_by_part_and_the_worst_eigenvalue_of_the_last_try():
    theirs = {"probes needed": 90.0, "cpu": {"trace": 9.0, "eigenvalues": 5.0, "total": 14.0},
              "eigenvalues": [{"worst error": 0.3}, {"worst error": 0.005}]}
    row = {"devlib": {"cpu": 2.0}, "PyHessian": theirs, "speed-up": 7.0}
    table = costs.hessians({"checkpoints": {"11": row, "7": row}})  # as sorted by name
    assert table.step.tolist() == [7, 11]
    assert table[:1].to_dict("records") == [
        {"step": 7, "devlib": 2.0, "trace": 9.0, "eigenvalues": 5.0, "total": 14.0,
         "probes": 90.0, "off %": 0.5, "times": 7.0}]


def test_traces_one_column_a_method():
    methods = {name: {"60": {"rms": 2 * rms}, "120": {"rms": rms}}
               for name, rms in (("devlib", 0.01), ("XTrace", 0.02))}
    assert costs.traces({"checkpoints": {"7": {"methods": methods}}}).to_dict("records") == [
        {"step": 7, "products": 60, "devlib": 2.0, "XTrace": 4.0},
        {"step": 7, "products": 120, "devlib": 1.0, "XTrace": 2.0}]


def test_minutes_of_the_stored_tables_of_each_preset(tmp_path):
    for preset, seed, seconds in (("laptop", 0, {"llc": 60, "training": 0.0}),
                                  ("laptop", 1, {"llc": 180}), ("paper", 0, {"training": 600})):
        results.save(tmp_path / preset / f"regression-doubled-seed{seed}",
                     {"llc": pd.DataFrame({"step": [1]})},
                     {"preset": preset, "seed": seed, "settings": {}, "seconds": seconds})
    table = costs.minutes(tmp_path)
    assert table[["tables", "part"]].values.tolist() == [["regression-doubled", "llc"],
                                                         ["regression-doubled", "training"]]
    np.testing.assert_array_equal(table[["laptop", "paper"]], [[2, np.nan], [np.nan, 10]])


def test_the_overview_has_every_comparison_with_its_range():
    table = costs.overview().set_index(["work", "beside"])
    assert (table.least <= table.times).all() and (table.times <= table.most).all()
    precision = costs.load("precision")["checkpoints"]
    assert table.loc[("LLC to 2%", "devinterp, paper's draws")].to_dict() == {
        "times": np.median([row["ratio"] for row in precision]),
        "least": min(row["ratio"] for row in precision),
        "most": max(row["ratio"] for row in precision), "wanted": 50.0}
    own = costs.load("own_model")["batches"]["1024"]["speed-up"]["canonical-interp"]
    found = table.loc[("step, own model, 1,024", "canonical-interp 0.2.7")]
    assert found.times == own["median"] and found.most == own["max"]


def test_operators_share_an_update():
    found = costs.operators({"by operator": {"matrix products": {"calls": 70.0, "share": 0.6},
                                             "fused kernels": {"calls": 56.0, "share": 0.4}}})
    assert found.to_dict("list") == {"operators": ["matrix products", "fused kernels"],
                                     "calls": [70.0, 56.0], "share": [60.0, 40.0]}


def test_a_model_of_ones_own_by_batch_and_library():
    def cost(value):
        return {"median": value, "min": value - 1, "max": value + 1, "rounds": 3}

    def part(value):
        return {"steps": {"devlib": cost(value), "peer": cost(2.5 * value)},
                "speed-up": {"peer": {"median": 2.4}}}

    table = costs.own_model({"batches": {"1024": part(80.0), "128": part(10.0)}})
    assert table.batch.tolist() == [128, 128, 1024, 1024]
    assert table["median"].tolist() == [10.0, 25.0, 80.0, 200.0]
    assert table["times devlib"].fillna(1).tolist() == [1.0, 2.4, 1.0, 2.4]


def test_cores_with_a_cluster():
    cost = {"median": 10.0, "min": 9.0, "max": 11.0, "rounds": 1}
    table = costs.cores({"cores": 2, "seconds": {"1": cost, "2": cost, "cluster": cost},
                         "times as fast": {"2": {"median": 1.9}, "cluster": {"median": 1.8}}})
    assert table.processes.tolist() == ["1", "2", "2 dask workers"]
    assert table.times.fillna(1).tolist() == [1.0, 1.9, 1.8]
