"""Runs of other seeds and of both residual streams beside one another (B.4)."""

import pandas as pd

from devlib.steps import at

SAME_STEP = 0.01  # checkpoints of one step on different schedules are within this share


def at_steps(runs: dict, steps) -> pd.DataFrame:
    """What each run says at the steps that it reaches: residual, seed, step (its checkpoint's),
    loss, loss_se, weight_norm, llc, mcse; the last two are NaN where its LLC was not taken.
    `runs`: (residual, seed) -> results with "evaluation" and "llc"."""
    rows = []
    for (residual, seed), run in runs.items():
        evaluation, llc = run["evaluation"], run["llc"]
        for step in steps:
            near = _nearest(evaluation, step)
            if near is None:
                continue
            point = _nearest(llc, step)
            rows.append({"residual": residual, "seed": seed, "step": int(near.step),
                         "loss": near.loss, "loss_se": near.loss_se,
                         "weight_norm": near.weight_norm,
                         "llc": float("nan") if point is None else point.llc,
                         "mcse": float("nan") if point is None else point.mcse})
    return pd.DataFrame(rows)


def _nearest(table, step):
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
