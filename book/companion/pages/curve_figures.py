"""Figures of the page on what the curve measures, in the style of companion.figures."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from companion.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure, log_steps
from companion.figures_released import GREY, LABEL

STARTS = {"w0": ("o", BLUE, "from w0"), "prior": ("s", VERMILLION, "from the prior")}


def _behind(ax, released, last, label):
    """Draws what was released up to the step `last`: its mean, and its range where there are
    several runs."""
    shown = released[released.step <= last]
    if shown.least.notna().all():
        ax.fill_between(shown.step, shown.least, shown.greatest, color=GREY, alpha=0.35, lw=0)
    ax.plot(shown.step, shown["mean"], color=GREY, label=label)


def chain_loss(ours: pd.DataFrame, released: pd.DataFrame, levels: dict, ylabel,
               linear=False) -> Figure:
    """The mean loss of the chains over training (`chain_loss`) and the model's own (`loss`), with
    the released runs' chain loss (mean, and range where there are several) behind, and levels of
    predictors that know nothing. By log time, or by `linear`."""
    fig, ax = figure()
    ax.set_xlim(0, max(ours.step.max(), 10))
    _behind(ax, released, ours.step.max(), "released: mean loss of the chains")
    ax.plot(ours.step, ours.chain_loss, color=VERMILLION, marker="o", ms=3,
            label="ours: mean loss of the chains")
    ax.plot(ours.step, ours.loss, color=BLUE, label="ours: loss of the model itself")
    for (name, level), dash in zip(levels.items(), ("--", ":"), strict=False):
        ax.axhline(level, color=BLACK, ls=dash, lw=1.1, label=f"{name} ({level:.3g})")
    log_steps(ax, linear=linear)
    ax.set_ylabel(ylabel)
    ax.legend(fontsize=8)
    return fig


def step_stability(ours: pd.DataFrame, released: pd.DataFrame, limit) -> Figure:
    """The share of its curvature that one step takes back, eps nbeta h, over training, in the
    model's steepest direction: from `limit` on a chain cannot stay there."""
    fig, ax = figure(height=3.2)
    ax.set_xlim(0, max(ours.step.max(), 10))
    _behind(ax, released, ours.step.max(), LABEL)
    ax.plot(ours.step, ours.steepness, color=BLUE, marker="o", ms=3, label="ours")
    ax.axhline(limit, color=BLACK, ls="--", lw=1.1, label=f"a step diverges above {limit:g}")
    log_steps(ax)
    ax.set_ylabel("eps nbeta h (no unit)")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8)
    return fig


def two_starts(estimates: pd.DataFrame, published: pd.DataFrame, stored: pd.DataFrame,
               released: pd.DataFrame, linear=False) -> Figure:
    """The LLC over training from both starts (open where they do not meet), by the paper's long
    chains, as the other pages have it (`stored`), and as released (mean and range). By log time, or
    by `linear`."""
    fig, ax = figure(height=4.6)
    ax.set_xlim(0, max(stored.step.max(), 10))
    _behind(ax, released, stored.step.max(), LABEL)
    ax.plot(stored.step, stored.llc, color=BLACK, lw=0.9, label="from w0, up to 1,000 draws "
            "(the other pages)" if stored.draws.max() >= 1_000 else "the other pages")
    for start, (mark, colour, name) in STARTS.items():
        part = estimates[estimates.start == start]
        for meet, face in ((True, colour), (False, "none")):
            some = part[part.meet == meet]
            ax.errorbar(some.step, some.llc, 2 * some.error, fmt=mark, ms=5, color=colour, lw=1,
                        mfc=face, label=name + (", the starts meet" if meet else
                                                ", they do not"))
    if len(published):
        ax.plot(published.step, published.llc, "D", color=GREEN, ms=6,
                label="as published: long chains, all draws")
    log_steps(ax, linear=linear)
    ax.set_ylabel("LLC (no unit)")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8, loc="upper left")
    return fig


CLIMBS = {"w0, long": (BLUE, "from w0"), "prior": (VERMILLION, "from the prior"),
          "prior, long": (VERMILLION, "from the prior"),
          "w0, small step": (BLUE, "from w0"), "prior, small step": (VERMILLION,
                                                                     "from the prior")}


def climb(rows: pd.DataFrame, panels: list, released: pd.DataFrame) -> Figure:
    """Block means of the chains' draws, a panel for each (step, the starts shown, how often a draw
    is longer than the paper's): from w0 and from the prior, over draws of the paper's length."""
    fig, axes = figure(1, len(panels), height=3.4, sharey=True, squeeze=False)
    for ax, (step, starts, factor) in zip(axes[0], panels, strict=True):
        for start in starts:
            colour, name = CLIMBS[start]
            part = rows[(rows.step == step) & (rows.start == start)]
            ax.plot(part.draw / factor, part.llc, color=colour, label=name)
            ax.fill_between(part.draw / factor, part.llc - part.chain_sd,
                            part.llc + part.chain_sd, color=colour, alpha=0.2, lw=0)
        near = released.iloc[(released.step - step).abs().argmin()]
        ax.axhspan(near.least, near.greatest, color=GREY, alpha=0.35, lw=0, label="released")
        ax.set_title(f"step {step:,}" + (f", eps / {factor:g}" if factor != 1 else ""),
                     fontsize=10)
        ax.set_ylim(bottom=0)
    fig.supxlabel("draw, in steps of the paper's length", fontsize=10)
    axes[0, 0].set_ylabel("LLC of a block of draws (no unit)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
               fontsize=8)
    return fig


def positions(rows: pd.DataFrame, steps) -> Figure:
    """The loss at each position k: of the model, and where chains of the paper's settings and of
    the local protocol end."""
    fig, axes = figure(1, len(steps), height=3.2, sharey=True, squeeze=False)
    lines = {("model", ""): (BLACK, "-", "the model"),
             ("equilibrium", "w0"): (BLUE, "-", "paper's settings, from w0"),
             ("equilibrium", "prior"): (VERMILLION, "--", "the same, from the prior"),
             ("local", "w0"): (GREEN, ":", "local protocol")}
    names = [name for name in rows.columns if name.startswith("loss_")]
    ks = np.arange(1, len(names) + 1)
    for ax, step in zip(axes[0], steps, strict=True):
        for (what, start), (colour, dash, label) in lines.items():
            part = rows[(rows.step == step) & (rows.what == what) & (rows.start == start)]
            ax.plot(ks, part[names].to_numpy()[0], color=colour, ls=dash, marker="o", ms=2.5,
                    label=label)
        ax.set_title(f"step {step:,}", fontsize=10)
        ax.set_xlabel("position k")
        ax.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("loss (squared target units)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2,
               fontsize=8)
    return fig


def local_curve(rows: pd.DataFrame, norm: pd.DataFrame) -> Figure:
    """The local protocol over training: LLC from both starts above, the share of the model's
    knowledge that its chains keep below."""
    fig, (top, bottom) = figure(2, 1, height=5.4, sharex=True)
    for start, (mark, colour, name) in STARTS.items():
        part = rows[rows.start == start]
        top.errorbar(part.step, part.llc, 2 * part.mcse, fmt=f"{mark}-", ms=4, color=colour, lw=1,
                     label=name)
        bottom.plot(part.step, part.retained, f"{mark}-", ms=4, color=colour, lw=1)
    for ax in (top, bottom):
        ax.set_xlim(0, max(rows.step.max(), 10))
        log_steps(ax, label=ax is bottom)
    top.set_ylabel("LLC (no unit)")
    bottom.set_ylabel("share kept by the chain")
    bottom.set_ylim(0, 1.05)
    bottom.plot(norm.step, norm.weight_norm / norm.weight_norm.max(), color=GREY, lw=1,
                label="weight norm over its maximum")
    top.legend(fontsize=8)
    bottom.legend(fontsize=8)
    return fig


def profile(rows: pd.DataFrame) -> Figure:
    """A panel for each spring: the LLC over nbeta, a curve a checkpoint (from w0; open where the
    two starts do not agree)."""
    springs = sorted(rows.ratio.unique())
    fig, axes = figure(1, len(springs), height=3.4, sharey=True, squeeze=False)
    colours = (BLACK, BLUE, GREEN, VERMILLION, PURPLE, ORANGE)
    for ax, ratio in zip(axes[0], springs, strict=True):
        for step, colour in zip(sorted(rows.step.unique()), colours, strict=False):
            part = rows[(rows.ratio == ratio) & (rows.step == step) & (rows.start == "w0")]
            ax.plot(part.nbeta, part.llc, color=colour, lw=1)
            for meet, face in ((True, colour), (False, "white")):
                some = part[part.meet == meet]
                ax.errorbar(some.nbeta, some.llc, 2 * some.error, fmt="o", ms=4, color=colour,
                            mfc=face, lw=1, label=f"step {step:,}" if meet else None)
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_yscale("symlog", linthresh=10)
        ax.set_title(f"spring: {ratio:g} of the rms", fontsize=9)
        ax.set_xlabel("nbeta")
    axes[0, 0].set_ylabel("LLC (no unit)")
    axes[0, -1].legend(fontsize=8)
    return fig
