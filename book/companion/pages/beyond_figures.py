"""Figures of the page "Beyond one machine": tables in, a figure out."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from companion.figures import BLACK, BLUE, GREEN, VERMILLION, figure


def scaling(table: pd.DataFrame, bar) -> Figure:
    """Wall seconds of a curve against processes, with the extremes of the rounds; dashed, `bar`
    times as fast as one process."""
    fig, ax = figure(height=3.2)
    one = table["median"].iloc[0]
    ax.bar(table.processes.astype(str), table["median"], color=BLUE, width=0.5)
    ax.errorbar(range(len(table)), table["median"], fmt="none", color=BLACK, lw=1, capsize=4,
                yerr=[table["median"] - table["min"], table["max"] - table["median"]])
    ax.axhline(one / bar, color=BLACK, ls="--", lw=1.1)
    ax.annotate(f"{bar} times as fast as one", (0.5, one / bar), (0, 3), fontsize=9, ha="center",
                xycoords=("axes fraction", "data"), textcoords="offset points")
    ax.set_xlabel("processes")
    ax.set_ylabel("wall seconds of the curve")
    ax.grid(axis="x", visible=False)
    return fig


def paper_hours(table: pd.DataFrame) -> Figure:
    """Hours of the whole paper against the number of GPUs, a line a kind of GPU."""
    fig, ax = figure(height=3.6)
    for (name, part), colour, mark in zip(table.groupby("GPU", sort=False),
                                          (VERMILLION, BLUE, GREEN), "os^", strict=True):
        ax.plot(part.GPUs, part.hours, marker=mark, color=colour, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(part.GPUs, part.GPUs)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("GPUs")
    ax.set_ylabel("hours (arithmetic)")
    ax.legend()
    return fig
