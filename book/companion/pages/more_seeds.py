"""Our seeds of the regression model beside the authors' five, late in training: the figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.claims import seeds
from companion.claims.interval import Z, half_width
from companion.figures import figure, log_steps
from companion.figures_development import curve_style
from companion.figures_released import GREY
from companion.seeds import FIVE

NAMES = {"weight_norm": "weight norm over the released mean", "loss": "test loss, less the "
         "released mean\n(squared target units)"}


def departures(evaluations: dict) -> pd.DataFrame:
    """How our seeds depart from the released five at the steps that both have: seed, step,
    weight_norm (over the released mean), loss (less it), and of each how far the 95% prediction
    interval for one more run, joined with its own error, reaches from there (weight_norm_reach,
    loss_reach). `evaluations`: seed -> table "evaluation"."""
    parts = []
    for seed, table in evaluations.items():
        part = table[["step"]].assign(seed=seed)
        for column, over in (("weight_norm", True), ("loss", False)):
            known = seeds.curve(column).set_index("step").reindex(table.step)
            mean, ours = known["mean"].to_numpy(), table[column].to_numpy()
            error = table[f"{column}_se"].to_numpy() if f"{column}_se" in table else 0.0
            reach = np.hypot(half_width(known.sd.to_numpy(), FIVE), Z * error)
            part[column] = ours / mean if over else ours - mean
            part[f"{column}_reach"] = reach / mean if over else reach
        parts.append(part.dropna())
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def late(table: pd.DataFrame, first: int) -> Figure:
    """`departures` from the step `first` on, by linear time: a line a seed, and in grey where the
    released five want one more run at each step by itself, joined with the error of our first."""
    shown = table[table.step >= first]
    fig, axes = figure(1, 2, height=3.4)
    for ax, (column, label) in zip(axes, NAMES.items(), strict=True):
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
        ax.set_ylabel(label)
        ax.locator_params(axis="x", nbins=5)
    axes[0].legend(fontsize=8)
    return fig
