"""The error of a change, and steps that are matched and spaced."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion.claims.interval import Z
from companion.claims.registry import llc_change, spacing
from companion.claims.table_rows import matched, told_apart


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
