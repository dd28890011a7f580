"""Figures of the page "Primer", in the style of companion.figures: plain tables in, a figure
out."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from companion.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1.5, 1.5, 1.5)))
LEVELS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the contours


def volumes(table: pd.DataFrame, radius) -> Figure:
    """V(eps) in log-log on the left, its local slope on the right, exact LLCs as thin lines."""
    fig, (left, right) = figure(1, 2, height=4.6)
    for (name, part), colour, dash in zip(table.groupby("potential", sort=False), COLOURS, DASHES,
                                          strict=False):
        twice = f", m = {part.multiplicity.iloc[0]}"
        left.plot(part.eps, part.volume, color=colour, ls=dash,
                  label=f"{name}: {part.llc.iloc[0]:g}{twice}")
        right.plot(part.eps, part.slope, color=colour, ls=dash)
    left.set_yscale("log")
    left.set_ylabel(rf"volume $V(\varepsilon)$ in the disc of radius {radius:g}")
    _levels(right, table.llc)
    right.set_ylabel(r"local slope $d \log V / d \log \varepsilon$")
    for ax in (left, right):
        _decades(ax, r"loss level $\varepsilon$", 4)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9,
               title="potential: LLC, multiplicity", title_fontsize=9)
    return fig


def means(table: pd.DataFrame) -> Figure:
    """What an estimate gives at each nbeta, from the volumes alone, and the LLC it comes to."""
    fig, ax = figure(height=3.9)
    for (name, part), colour, dash in zip(table.groupby("potential", sort=False), COLOURS, DASHES,
                                          strict=False):
        ax.plot(part.nbeta, part["mean"], color=colour, ls=dash, label=name)
    _levels(ax, table.llc)
    _decades(ax, r"inverse temperature $n\beta$ (1 / loss)", 2)
    ax.set_ylabel(r"$n\beta\,(E[L] - L(w_0))$ on the disc")
    ax.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 0.53))
    return fig


def contours(potentials, ends: pd.DataFrame) -> Figure:
    """Level lines of two-dimensional potentials, a decade of the loss from one to the next, and
    the points where the chains ended."""
    fig, axes = figure(2, 2, height=7.2, sharex=True, sharey=True)
    axis = np.linspace(-1.5, 1.5, 601)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    for ax, potential in zip(axes.flat, potentials, strict=True):
        lines = ax.contour(axis, axis, _energy(potential, grid), levels=LEVELS, colors=BLACK,
                           linewidths=np.linspace(1.6, 0.6, len(LEVELS)))
        last = ends[ends.potential == potential.name]
        ax.plot(last.w1, last.w2, "o", color=VERMILLION, ms=2.8, alpha=0.65, mew=0)
        ax.plot(0, 0, "+", color=BLUE, ms=13, mew=2.2)
        ax.set_title(f"${potential.formula}$\nLLC {potential.llc:g}", fontsize=10)
        ax.set_aspect("equal")
        ax.grid(False)
        ax.clabel(lines, levels=LEVELS[-1:], fmt="%g", fontsize=8)
    for ax in axes[1]:
        ax.set_xlabel("$w_1$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$w_2$")
    return fig


def estimates(table: pd.DataFrame, labels) -> Figure:
    """One line an example: exact LLC, what a chain should give, and what it gave."""
    fig, ax = figure(height=0.6 * len(table) + 1.1)
    place = np.arange(len(table))[::-1]
    ax.plot(table.llc, place, "|", color=BLACK, ms=20, mew=2, label="exact LLC")
    ax.plot(table.reference, place, "D", color=BLUE, ms=9, mfc="none", mew=1.5,
            label="exact at this $n\\beta$ and $\\gamma$")
    ax.errorbar(table.estimate, place, xerr=4 * table.mcse, fmt="o", color=VERMILLION, ms=3.5,
                capsize=4, lw=1.3, label="SGLD, 4 standard errors")
    ax.set_yticks(place, labels, fontsize=9)
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("LLC (no unit)")
    ax.legend(fontsize=9, loc="lower right", labelspacing=1.0, borderpad=0.8)
    return fig


def hessian_and_llc(table: pd.DataFrame) -> Figure:
    """Profiles of one-dimensional losses, their second derivative at 0, and their LLC."""
    fig, (left, middle, right) = figure(1, 3, height=3.6, width_ratios=(1.5, 1, 1))
    w = np.linspace(-1, 1, 201)
    place = np.arange(len(table))[::-1]
    names = []
    for row, colour, dash in zip(table.itertuples(), COLOURS, DASHES, strict=False):
        times = "" if row.coefficient == 1 else f"{row.coefficient:g}\\,"
        names.append(f"${times}w^{{{row.power}}}$")
        left.plot(w, row.coefficient * np.abs(w) ** row.power, color=colour, ls=dash,
                  label=names[-1])
    left.set_ylim(0, 1)
    left.set_xlabel("$w$")
    left.set_ylabel("loss $L(w)$")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    middle.plot(table.eigenvalue, place, "s", color=BLACK, ms=6)
    middle.set_xscale("symlog", linthresh=1)
    middle.set_xticks([0, 1, 10], ["0", "1", "10"])
    middle.set_xlim(-0.4, 60)
    middle.xaxis.set_minor_locator(NullLocator())
    middle.set_xlabel("Hessian eigenvalue at 0")
    right.plot(table.llc, place, "|", color=BLACK, ms=20, mew=2)
    right.errorbar(table.estimate, place, xerr=4 * table.mcse, fmt="o", color=VERMILLION, ms=3.5,
                   capsize=4, lw=1.3)
    right.set_xlim(0, 0.6)
    right.set_xlabel("LLC: exact, SGLD")
    for ax in (middle, right):
        ax.set_yticks(place, names)
        ax.set_ylim(-0.6, len(table) - 0.4)
    return fig


def networks(table: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """E[nbeta L] of linear networks over nbeta, as a share of Aoyagi's LLC; SGLD on top."""
    fig, (left, right) = figure(1, 2, height=4.6, sharey=True)
    groups = table.groupby(["network", "rank"], sort=False)
    counts = {id(left): 0, id(right): 0}
    for (name, rank), part in groups:
        ax = left if part.layers.iloc[0] == 2 else right
        number = counts[id(ax)]
        counts[id(ax)] += 1
        llc, m = part.llc.iloc[0], part.multiplicity.iloc[0]
        ax.errorbar(part.nbeta, part["mean"] / llc, 4 * part.mcse / llc, capsize=3,
                    color=COLOURS[number], ls=DASHES[number],
                    label=f"{name}, rank {rank}: LLC {llc:g}, m = {m}")
        sgld = found[(found.network == name) & (found["rank"] == rank)]
        ax.errorbar(sgld.nbeta, sgld.estimate / llc, 4 * sgld.mcse / llc, fmt="o", ms=8,
                    mfc="none", mew=1.5, capsize=3, color=COLOURS[number])
    for ax, title in ((left, "reduced-rank regression"), (right, "three layers")):
        ax.axhline(1, color=BLACK, lw=1)
        ax.set_title(title, fontsize=10)
        ax.set_ylim(0, 1.08)
        _decades(ax, r"inverse temperature $n\beta$ (1 / loss)", 1)
        ax.legend(fontsize=8, loc="lower right")
    left.set_ylabel(r"$n\beta\,(E[L] - L(w_0))$ over Aoyagi's LLC")
    return fig


def rank_histograms(table: pd.DataFrame) -> Figure:
    """A panel a quantity: how often the truth ranked in each bin, and the count to expect with
    the band of two binomial standard deviations."""
    names = [name for name in table if name not in ("bin", "expected")]
    fig, axes = figure(1, len(names), height=2.9, sharey=True)
    expected, bins = table.expected.iloc[0], len(table)
    spread = 2 * np.sqrt(expected * (1 - 1 / bins))
    for ax, name in zip(axes, names, strict=True):
        ax.bar((table.bin + 0.5) / bins, table[name], 0.9 / bins, color=BLUE, zorder=2)
        ax.axhspan(expected - spread, expected + spread, color=ORANGE, alpha=0.35, lw=0, zorder=1)
        ax.axhline(expected, color=BLACK, lw=1.2, ls="--", zorder=3)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        ax.set_title("loss" if name == "loss" else f"${name[0]}_{name[1:]}$", fontsize=10)
    axes[0].set_ylabel("repetitions")
    fig.supxlabel("rank of the truth among the draws, as a share", fontsize=10)
    return fig


def _energy(potential, points):
    import torch

    return potential.energy(torch.tensor(points)).numpy()


def _decades(ax, label, every):
    """A logarithmic axis with a label every so many decades."""
    ax.set_xscale("log")
    low, high = np.log10(ax.get_xlim())
    ticks = 10.0 ** np.arange(np.ceil(low), np.floor(high) + 1)
    ax.set_xticks(ticks[::every])
    ax.xaxis.set_minor_locator(NullLocator())
    if ax.get_yscale() == "log":
        ax.yaxis.set_major_locator(LogLocator(numticks=9))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


def _levels(ax, llcs):
    """Thin lines at the exact values, which the axis names."""
    values = sorted(set(llcs))
    for value in values:
        ax.axhline(value, color=BLACK, lw=0.8)
    ax.set_yticks([0, *values], ["0", *(f"{value:g}" for value in values)])
