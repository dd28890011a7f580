"""What can be read off tables of metrics alone; needs no torch."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from devlib.errors import UserError
from devlib.settings import RegressionMetrics
from devlib.steps import apart


def classify(row, metrics: RegressionMetrics) -> str:
    """What a half-head (a row of `heads`) is, by D.2.3: "self", "previous token", "previous x" or
    "previous y" if nearly all of its attention goes there and varies little, else "-"."""
    if row["variability"] > 1 - metrics.head_share:
        return "-"
    kinds = {"self": "self", "previous": "previous token", "x": "previous x", "y": "previous y"}
    return next((kind for name, kind in kinds.items() if row[name] > metrics.head_share), "-")


def brownian_share(positions, component=1) -> float:
    """Share of the variance that a principal component explains of Brownian motion in many
    dimensions, seen at so many times (C.2.1). It is that of the eigenvalue
    1 / (4 sin^2(pi k / 2T)) of a centred random walk's covariance, of which all T - 1 sum to
    (T^2 - 1) / 6; for many times, 6 / (pi k)^2, .608 for the first."""
    eigenvalue = 1 / (4 * math.sin(math.pi * component / (2 * positions)) ** 2)
    return eigenvalue * 6 / (positions**2 - 1)


def composition_baseline(table) -> pd.Series:
    """Mean q, k and v of all pairs at step 0 (C.2.2), what untrained heads have: about 1 / sqrt(d).
    Raises UserError if the table has no step 0."""
    untrained = table[table.step == 0]
    if untrained.empty:
        raise UserError("the table of composition has no step 0, which is its baseline; measure "
                        "the untrained checkpoint too")
    return untrained[["q", "k", "v"]].mean()


def plateaus_on(values, errors, steps, llc: pd.DataFrame, settings) -> list[int]:
    """Plateaus of another statistic by the LLC's rule (B.5): the curve and its standard errors
    are scaled to the LLC's range, so that the tolerance means the same, and smoothed alike."""
    from devlib.stages import plateaus, smooth

    low, high = llc.llc.min(), llc.llc.max()
    unit = (high - low) / np.ptp(values)
    curve = smooth(steps, low + (values - values.min()) * unit, settings, errors * unit)
    return plateaus(curve, settings.tolerance)


HESSIAN_ERRORS = {"trace": "trace_se", "eig_1": "residual_1"}  # columns: of each, its error


MATCH = 1.4  # factor within which a boundary found is one of the paper's


def matched(found, wanted, factor=MATCH) -> dict:
    """Of the `wanted` steps those that one of the `found` is within a factor of, both counted from
    1, with that one: each found step stands for one wanted step at most, and as many are matched
    as can be, as near as can be."""
    cost = np.array([[apart(step, other) for other in wanted] for step in found])
    if not cost.size:
        return {}
    limit = np.log(factor)
    far = 1e3 * limit  # a pair that is no match costs more than all that are
    rows, columns = linear_sum_assignment(np.where(cost < limit, cost, far))
    return {wanted[j]: found[i] for i, j in zip(rows, columns, strict=True) if cost[i, j] < limit}


def told_apart(one: pd.DataFrame, other: pd.DataFrame) -> tuple[int, int, int]:
    """(pairs that two tables order differently, pairs that both tell apart, all pairs) of
    checkpoints by LLC; a table tells two apart by more than two standard errors (A.6)."""
    swapped = told = 0
    for i in range(len(one)):
        for j in range(i):
            z = [(table.llc[i] - table.llc[j]) / np.hypot(table.mcse[i], table.mcse[j])
                 for table in (one, other)]
            told += min(map(abs, z)) > 2
            swapped += min(z) < -2 and max(z) > 2
    return swapped, told, len(one) * (len(one) - 1) // 2
