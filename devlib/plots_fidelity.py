"""The figure of the fidelity page that no other page has, in the style of devlib.plots."""

import pandas as pd
from matplotlib.figure import Figure

from devlib.plots import BLACK, BLUE, VERMILLION, figure


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
