"""Figures of the fidelity page, in the style of companion.figures."""

import pandas as pd
from matplotlib.figure import Figure

from companion.figures import BLACK, BLUE, VERMILLION, figure, log_steps


def artefact(panels: dict) -> Figure:
    """A panel for each title -> table of step and two LLC columns, as the running estimator has it
    and without its artefact; every panel with its own steps."""
    fig, axes = figure(1, len(panels), height=3.6, squeeze=False)
    for ax, (title, table) in zip(axes[0], panels.items(), strict=True):
        for name, colour in zip(table.columns.drop("step"), (VERMILLION, BLUE), strict=True):
            ax.plot(table.step, table[name], color=colour, marker="o", ms=3, label=name)
        ax.set_title(title, fontsize=10)
        ax.set_xlim(0, table.step.max())
        ax.set_ylim(bottom=0)
        log_steps(ax, label=False)
        ax.set_xticks([tick for tick in ax.get_xticks() if tick not in (10, 1_000, 100_000)])
        ax.legend(fontsize=8, loc="lower right")
    axes[0, 0].set_ylabel("LLC (no unit)")
    fig.supxlabel("training step (log(step + 1) scale)", fontsize=10)
    return fig


def transients(traces: pd.DataFrame, burn_in: pd.DataFrame) -> Figure:
    """A panel a checkpoint: the LLC of each draw, the running mean of all draws so far, and the
    mean after the burn-in, which is shaded."""
    fig, axes = figure(1, len(burn_in), height=3.3, squeeze=False)
    for ax, row in zip(axes[0], burn_in.sort_values("step").itertuples(), strict=True):
        part = traces[traces.step == row.step]
        ax.axvspan(0, row.burn_in, color=BLACK, alpha=0.08, lw=0)
        ax.plot(part.draw, part.llc, color=BLUE, lw=0.8, alpha=0.7, label="each draw")
        ax.plot(part.draw, part.running, color=VERMILLION, label="mean of all so far")
        ax.axhline(row.llc, color=BLACK, ls="--", lw=1.1, label="mean after burn-in")
        ax.set_title(f"step {row.step:,}", fontsize=10)
        ax.set_xlim(0, part.draw.max())
    axes[0, 0].set_ylabel("LLC, mean over chains (no unit)")
    fig.supxlabel("draw (burn-in shaded)", fontsize=10)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
               fontsize=8)
    return fig
