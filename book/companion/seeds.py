"""Runs of other seeds and of both residual streams beside one another (B.4), and our seeds beside
the authors' five."""

import numpy as np
import pandas as pd
from scipy.special import fdtr

from companion.claims import seeds as released
from companion.claims.interval import Z, half_width
from devlib.steps import at

FIVE = len(released.SEEDS)
SAME_STEP = 0.01  # checkpoints of one step on different schedules are within this share


def at_steps(runs: dict, steps) -> pd.DataFrame:
    """What each run says at the steps that it reaches: residual, seed, step (its checkpoint's),
    loss, loss_se, weight_norm, llc, mcse; the last two are NaN where its LLC was not taken.
    `runs`: (residual, seed) -> results with "evaluation" and "llc"."""
    rows = []
    for (residual, seed), run in runs.items():
        evaluation, llc = run["evaluation"], run["llc"]
        for step in steps:
            row = near(evaluation, step)
            if row is None:
                continue
            point = near(llc, step)
            rows.append({"residual": residual, "seed": seed, "step": int(row.step),
                         "loss": row.loss, "loss_se": row.loss_se,
                         "weight_norm": row.weight_norm,
                         "llc": float("nan") if point is None else point.llc,
                         "mcse": float("nan") if point is None else point.mcse})
    return pd.DataFrame(rows)


def near(table, step):
    """The row of a table that is nearest to a step; None if that is farther off than SAME_STEP."""
    row = at(table, step)
    return row if abs(row.step - step) <= max(1, SAME_STEP * step) else None


def spread(found: pd.DataFrame) -> pd.DataFrame:
    """The seeds of each residual stream together, at each step: residual, step, seeds, and of
    loss, weight_norm and llc their mean, sd, least and greatest (column_mean and so on)."""
    table = found.groupby(["residual", "step"], sort=False).agg(
        seeds=("seed", "count"),
        **{f"{column}_{name}": (column, kind) for column in ("loss", "weight_norm", "llc")
           for name, kind in (("mean", "mean"), ("sd", "std"), ("least", "min"),
                              ("greatest", "max"))})
    return table.reset_index()


def beside_released(evaluations: dict, column, steps) -> pd.DataFrame:
    """A column (`loss`, `weight_norm` or `llc`) of our seeds beside the released five, at each step
    that both reach: step, seeds (how many of ours), ours and sd (their mean and standard
    deviation), released and released_sd, low and high (the 95% prediction interval for the mean of
    so many more runs from the released five, joined as the ledger joins it with our own error, the
    column's name with `_se`), outside (how many single runs of ours lie out of the interval for
    one), and spread_p (two-sided F test that both have one spread; NaN with one seed of ours).
    `evaluations`: seed -> its table."""
    known, rows = released.curve(column), []
    for step in steps:
        ours = [row for table in evaluations.values()
                if (row := near(table, step)) is not None]
        theirs = near(known, step)
        if not ours or theirs is None:
            continue
        values = np.array([row[column] for row in ours])
        errors = np.array([row.get(f"{column}_se", 0.0) for row in ours])
        one = np.hypot(half_width(theirs.sd, FIVE), Z * errors)
        reach = np.hypot(half_width(theirs.sd, FIVE, len(values)),
                         Z * np.sqrt((errors**2).sum()) / len(values))
        rows.append({
            "step": int(ours[0].step), "seeds": len(values), "ours": values.mean(),
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "released": theirs["mean"], "released_sd": theirs.sd,
            "low": theirs["mean"] - reach, "high": theirs["mean"] + reach,
            "outside": int((abs(values - theirs["mean"]) > one).sum()),
            "spread_p": _one_spread(values, theirs.sd)})
    return pd.DataFrame(rows)


def _one_spread(values, sd):
    if len(values) < 2:
        return np.nan
    below = float(fdtr(len(values) - 1, FIVE - 1, values.var(ddof=1) / sd**2))
    return 2 * min(below, 1 - below)
