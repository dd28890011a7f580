"""Which LLCs of a table are measurements, and the error of a change."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion.claims import health
from companion.claims.interval import Z
from companion.claims.registry import llc_change, spacing, unpaired
from companion.claims.table_rows import matched, told_apart
from companion.runs import RunKey
from companion.tables import load

SETTINGS = {"llc": {"eps": 3e-4, "gamma": 20 / 3, "nbeta": 200 / 3}}  # relaxes in 1,000 draws


def tables(**last):
    """An untrained checkpoint and one more: chains of 1,000 draws, half of them burn-in."""
    first = {"step": 0, "llc": 12.0, "init_loss": 4.26, "burn_in": 500, "rhat": 1.01, "diverged": 0}
    second = first | {"step": 900, "llc": 160.0, "init_loss": 2.04} | last  # the chain loss 4.44
    return _Tables([first, second])


class _Tables(dict):
    """A Results as `ill` takes it."""

    def __init__(self, rows):
        super().__init__(llc=pd.DataFrame(rows))
        self.manifest = {"settings": SETTINGS}


@pytest.mark.parametrize("last, said", [
    ({}, ""),  # it has forgotten the model
    ({"llc": 100.0}, "the spring relaxes in 1,000 draws, the burn-in is 500, and at step 900 the "
                     "chains still know the model"),  # the chain loss is 3.54
    ({"llc": 100.0, "burn_in": 2_000}, ""),  # it knows the model, and is settled
    ({"rhat": 1.2}, "step 900: R-hat 1.20"),
    ({"diverged": 2}, "step 900: 2 chains diverged")])
def test_an_llc_is_a_measurement_if_its_chains_settled_or_forgot(last, said):
    found = health.ill(tables(**last), 900)
    assert found.startswith(said) if said else found == ""
    assert health.ill(tables(**last), 0) == ""
    assert health.ill_of(tables(**last), 0, 900) == found


def test_the_published_curve_is_measured_to_the_end_of_lr2_and_no_further():
    run = load(RunKey.of("regression", "published", 1).committed)
    assert [bool(health.ill(run, step)) for step in (
        0, 984, 10_101, 40_292, 126_262, 318_181, 499_999)] == [False] * 4 + [True] * 3


def chains(step, *values, mcse=1.0):
    return {"step": step, "llc": np.mean(values), "mcse": mcse,
            **{f"chain_{i}": value for i, value in enumerate(values)}}


def test_a_change_of_the_llc_has_the_error_of_the_chains_differences():
    """Chains that deviate alike at both ends say more of the change than of either end."""
    llc = pd.DataFrame([chains(0, 10, 20, 30), chains(900, 110.5, 120, 129.5)])
    found = llc_change(llc, 0, 900)
    assert found.value == pytest.approx(100)
    differences = np.array([100.5, 100, 99.5])
    widened = stats.t.ppf(0.975, 2) / Z
    assert found.error == pytest.approx(differences.std(ddof=1) / 3**0.5 * widened)
    few = llc_change(pd.DataFrame([chains(0, 10, 20), chains(900, 110, 121)]), 0, 900)
    assert few.error == pytest.approx(2**0.5)  # two chains say too little: both ends' errors


def test_an_unpaired_change_takes_both_errors():
    table = pd.DataFrame({"step": [0, 900], "loss": [4.0, 3.0], "loss_se": [0.3, 0.4]})
    found = unpaired(table, 0, 900, "loss", "loss_se")
    assert (found.value, found.error) == (-1.0, pytest.approx(0.5))


def test_spacing_is_the_wider_gap_beside_a_step():
    steps = [0, 9, 99, 9_999]
    assert spacing(steps, 99) == pytest.approx(np.log(100))  # to 9,999, counted from 1
    assert spacing(steps, 0) == pytest.approx(np.log(10))
    assert spacing(steps, np.nan) == 0


def test_boundaries_are_matched_one_to_one():
    paper = [1_000, 40_000, 126_000]
    assert matched([755, 1_283, 116_345, 459_595], paper) == {1_000: 1_283, 126_000: 116_345}
    assert matched([], paper) == {} and matched([5], []) == {}
    # one found step stands for one wanted step, although it is near to two
    assert len(matched([110], [100, 120])) == 1
    # as many as can be: the nearer pair would leave the other two alone
    assert matched([100, 130], [125, 160]) == {125: 100, 160: 130}


def test_pairs_told_apart():
    one = pd.DataFrame({"llc": [0.0, 10, 20], "mcse": 1.0})
    other = pd.DataFrame({"llc": [10.0, 0, 10.5], "mcse": 1.0})
    assert told_apart(one, other) == (1, 2, 3)  # 0 and 1 swapped; of 0 and 2 `other` cannot tell
