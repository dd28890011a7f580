"""Which steps leave a checkpoint, and which of some is nearest to another."""

import math

import numpy as np
import pandas as pd
import pytest

from devlib.steps import at, nearest, nearest_each, schedule, thin


@pytest.mark.parametrize("steps, log, linear", [(1, 3, 3), (2, 5, 2), (600, 8, 4), (999, 50, 50)])
def test_schedule(steps, log, linear):
    found = schedule(steps, log, linear)
    assert found[0] == 0 and found[-1] == steps - 1
    assert found == sorted(set(found)) and all(isinstance(s, int) for s in found)
    for stop in {1, max(1, steps // 3), steps}:
        part = schedule(steps, log, linear, stop)
        assert part == sorted({s for s in found if s < stop} | {stop - 1})


def test_thin_keeps_ends_and_spreads_over_log_time():
    steps = schedule(500_000, 100, 100)
    for count in (2, 5, 30, 189):
        kept = thin(steps, count)
        assert len(kept) == count and set(kept) <= set(steps) and kept == sorted(kept)
        assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    assert thin(steps, 190) == thin(steps, 500) == steps
    for count in (3, 5, 10, 18):  # no gap is twice that of even spacing
        assert np.diff(np.log1p(thin(steps, count))).max() < 2 * np.log1p(499_999) / (count - 1)


def test_thin_by_hand():
    """0, 1, 3, 7, ..., 255 are evenly spaced in log(step + 1): halves, then quarters."""
    steps = [2**i - 1 for i in range(9)]
    assert thin(steps, 3) == [0, 15, 255]
    assert thin(steps, 5) == [0, 3, 15, 63, 255]


def test_the_nearest_step_on_either_scale():
    """From 300 to 100 is less than to 600, but three times as far as twice in the log."""
    assert nearest([100, 600], 300) == 100 and nearest([100, 600], 300, log=True) == 600
    assert nearest([10, 20], 15) == 10  # of two as near the first
    assert math.isnan(nearest([], 15))
    assert nearest_each([0, 10, 20, 30], (21, 1, 19)) == [0, 20]


def test_the_row_of_the_nearest_step():
    table = pd.DataFrame({"step": [0, 10, 30], "llc": [1.0, 2.0, 3.0]})
    assert at(table, 19).llc == 2.0 and at(table, 21).llc == 3.0
