"""Figures of the page "What it costs", in the style of companion.figures: tables in, a figure
out."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from companion.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, figure

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE)


def steps(table: pd.DataFrame, reference: str, bar) -> Figure:
    """Cost of a step of each contestant, with the extremes of the rounds; what is `bar` times the
    cost of `reference` stands dashed."""
    fig, ax = figure(height=0.45 * len(table) + 1.1)
    place = np.arange(len(table))[::-1]
    colours = [BLUE if name.startswith("devlib") else VERMILLION for name in table.contestant]
    ax.barh(place, table["median"], color=colours, height=0.62)
    ax.errorbar(table["median"], place, fmt="none", color=BLACK, lw=1, capsize=3,
                xerr=[table["median"] - table["min"], table["max"] - table["median"]])
    cost = table.set_index("contestant")["median"][reference]
    ax.axvline(bar * cost, color=BLACK, ls="--", lw=1.1)
    ax.annotate(f"{bar} x {reference}", (bar * cost, 1), (3, 2), textcoords="offset points",
                xycoords=("data", "axes fraction"), fontsize=9)
    ax.set_yticks(place, table.contestant)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("CPU ms a step")
    return fig


def totals(table: pd.DataFrame) -> Figure:
    """CPU seconds of one estimate at each checkpoint, a bar for each way, on a log axis."""
    fig, ax = figure(height=3.8)
    steps_seen, ways = table.step.unique(), table.way.unique()
    width = 0.8 / len(ways)
    for number, (way, colour) in enumerate(zip(ways, COLOURS, strict=False)):
        part = table[table.way == way]
        place = np.arange(len(steps_seen)) + (number - (len(ways) - 1) / 2) * width
        ax.bar(place, part.seconds, 0.92 * width, color=colour, label=way)
        for x, value in zip(place, part.seconds, strict=True):
            ax.annotate(f"{value:,.0f}", (x, value), (0, 2), textcoords="offset points",
                        ha="center", fontsize=9)
    ax.set_yscale("log")
    ax.set_ylim(1, 3 * table.seconds.max())
    ax.set_xticks(range(len(steps_seen)), [f"step {step:,}" for step in steps_seen])
    ax.grid(axis="x", visible=False)
    ax.set_ylabel("CPU seconds of an estimate")
    fig.legend(loc="outside lower center", ncols=1, fontsize=9, frameon=False)
    return fig


def batch_differences(table: pd.DataFrame, largest) -> Figure:
    """Estimate at each batch less the one at the largest, with two standard errors; the band is
    2 % of the LLC."""
    steps_seen = table.step.unique()
    fig, axes = figure(1, len(steps_seen), height=3.4, sharey=True, squeeze=False)
    for ax, step in zip(axes[0], steps_seen, strict=True):
        part = table[table.step == step]
        llc = part.llc[part.batch == largest].iloc[0]
        ax.axhspan(-2, 2, color=ORANGE, alpha=0.2, lw=0)
        ax.axhline(0, color=BLACK, lw=0.8)
        small = part[part.batch < largest]
        ax.errorbar(small.batch, 100 * small.difference / llc,
                    200 * small["difference error"] / llc, fmt="o", color=BLUE, capsize=3)
        ax.set_xscale("log", base=2)
        ax.set_xticks(small.batch, small.batch)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.2)
        ax.set_title(f"step {step:,}", fontsize=10)
    axes[0, 0].set_ylabel(f"% of the LLC, less batch {largest:,}")
    fig.supxlabel("batch (samples)", fontsize=10)
    return fig


def ladders(tables: dict) -> Figure:
    """A log-log panel for each ladder (name -> curves by label, each a table of size, cost and
    fitted cost)."""
    fig, axes = figure(1, len(tables), height=3.5, squeeze=False, sharey=True)
    for ax, (name, curves) in zip(axes[0], tables.items(), strict=True):
        for (label, curve), colour, mark in zip(curves.items(), COLOURS, "os^D", strict=False):
            ax.plot(curve["size"], curve.cost, mark, color=colour, ms=4.5, label=label)
            ax.plot(curve["size"], curve.fit, color=colour, lw=1)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(name)
        ax.yaxis.set_minor_formatter(NullFormatter())
        if curve["size"].max() < 10:  # too few for powers of ten
            ax.set_xticks(curve["size"], [f"{size:.0f}" for size in curve["size"]])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("CPU ms a step")
    return fig
