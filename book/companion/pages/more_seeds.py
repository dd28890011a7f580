"""Our seeds of the regression model beside the authors' five: loss and norm late in training, and
the LLC by chains of the paper's length."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import results
from companion.claims import seeds
from companion.claims.interval import Z, half_width
from companion.figures import figure, log_steps
from companion.figures_development import curve_style
from companion.figures_released import GREY
from companion.long_chains import as_published
from companion.seeds import FIVE

NAMES = {"weight_norm": "weight norm over the released mean", "loss": "test loss, less the "
         "released mean\n(squared target units)", "llc": "LLC, less the released mean (no unit)"}
LATE = ("weight_norm", "loss")


def long_llcs(preset) -> dict:
    """seed -> the LLC of each checkpoint by chains of the paper's length (step, llc, llc_se), of
    every run in the doubled stream that has such chains."""
    found = {seed: as_published(results.protocols(preset, seed, residual=residual)["estimates"])
             for residual, seed in results.finished_runs(preset, "protocols")
             if residual == "doubled"}
    return {seed: rows[["step", "llc", "error"]].rename(columns={"error": "llc_se"})
            for seed, rows in found.items() if len(rows)}


def departures(tables: dict, columns=LATE) -> pd.DataFrame:
    """How our seeds depart from the released five at the steps that both have: seed, step, and of
    each column the difference from the released mean (of weight_norm the ratio), with its error
    (COLUMN_se) where the table has one, and how far the 95% prediction interval for one more run,
    joined with that error, reaches from there (COLUMN_reach). `tables`: seed -> table with step
    and the columns."""
    parts = []
    for seed, table in tables.items():
        part = table[["step"]].assign(seed=seed)
        for column in columns:
            over = column == "weight_norm"
            known = seeds.curve(column).set_index("step").reindex(table.step)
            mean, ours = known["mean"].to_numpy(), table[column].to_numpy()
            error = table[f"{column}_se"].to_numpy() if f"{column}_se" in table else 0.0
            reach = np.hypot(half_width(known.sd.to_numpy(), FIVE), Z * error)
            part[column] = ours / mean if over else ours - mean
            part[f"{column}_reach"] = reach / mean if over else reach
            part[f"{column}_se"] = error
        parts.append(part.dropna())
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def late(table: pd.DataFrame, first: int) -> Figure:
    """`departures` from the step `first` on, by linear time: a line a seed, and in grey where the
    released five want one more run at each step by itself, joined with the error of our first."""
    shown = table[table.step >= first]
    fig, axes = figure(1, 2, height=3.4)
    for ax, column in zip(axes, LATE, strict=True):
        level = 1.0 if column == "weight_norm" else 0.0
        ax.set_xlim(0, shown.step.max())
        band = shown.drop_duplicates("step").sort_values("step")
        reach = band[f"{column}_reach"]
        ax.fill_between(band.step, level - reach, level + reach, color=GREY, alpha=0.3, lw=0,
                        label="released: 95% for one more run,\nstep by step")
        ax.axhline(level, color=GREY, lw=0.9)
        for number, (seed, part) in enumerate(shown.groupby("seed")):
            ax.plot(part.step, part[column], **curve_style(number), lw=1.4,
                    label=f"ours, seed {seed}")
        log_steps(ax, linear=True)
        ax.set_ylabel(NAMES[column])
        ax.locator_params(axis="x", nbins=5)
    axes[0].legend(fontsize=8)
    return fig


def by_long_chains(table: pd.DataFrame) -> Figure:
    """`departures` of the LLC over log and linear time: a point with two standard errors for each
    seed and checkpoint, and in grey where the released five want one more run."""
    fig, axes = figure(1, 2, height=3.4, sharey=True)
    last = table.step.max()
    known = seeds.curve("llc", last)
    reach = half_width(known.sd.to_numpy(), FIVE)
    for ax, linear in zip(axes, (False, True), strict=True):
        ax.set_xlim(0, 1.02 * last)  # the last point whole
        ax.fill_between(known.step, -reach, reach, color=GREY, alpha=0.3, lw=0,
                        label="released: 95% for one more run,\nstep by step")
        ax.axhline(0, color=GREY, lw=0.9)
        for number, (seed, part) in enumerate(table.groupby("seed")):
            ax.errorbar(part.step, part.llc, 2 * part.llc_se, color=curve_style(number)["color"],
                        fmt="D", ms=4, lw=1, label=f"ours, seed {seed}")
        log_steps(ax, linear=linear)
    axes[0].set_ylabel(NAMES["llc"])
    axes[1].locator_params(axis="x", nbins=5)
    axes[0].legend(fontsize=8, loc="lower left")
    return fig
