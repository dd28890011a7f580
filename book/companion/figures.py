"""Figures from tables: one function a figure family, one colour a stage everywhere.

Every function takes plain tables and returns a matplotlib figure; `show` puts it on a page with
the words that say where it comes from, its data as CSV and itself as SVG to download.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter

from companion.site import data_links
from devlib.stages import is_unsound

# Okabe and Ito's eight colours, told apart by every kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
STAGE_COLOURS = (ORANGE, SKY, GREEN, YELLOW, VERMILLION, PURPLE, BLUE)
STYLE = {
    "figure.figsize": (7.5, 4.2), "figure.dpi": 110, "figure.constrained_layout.use": True,
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "lines.linewidth": 1.6, "svg.hashsalt": "devlib"}
BAND_ALPHA = 0.22


def figure(rows=1, columns=1, height=4.2, **options):
    """A figure in the book's style and its axes."""
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(7.5, height), layout="constrained", **options)


def show(fig: Figure, table: pd.DataFrame, name: str, description: str):
    """Displays a figure, then `description`, the table behind it as NAME.csv and the figure as
    NAME.svg.

    Both files travel inside the page (companion.site.data_links). The book adds NAME.png.
    """
    from IPython.display import HTML, display

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=STYLE["figure.dpi"], metadata={"Software": None})
    vector = data_links.svg_link(fig)
    plt.close(fig)
    display(_Picture(buffer.getvalue()))
    display(HTML(data_links.line(name, description, csv=data_links.csv_link(table), svg=vector)))


def show_data(table: pd.DataFrame, name: str, description: str):
    """The same line under a figure that is no picture, such as coloured text: `description` and the
    table behind it."""
    from IPython.display import HTML, display

    display(HTML(data_links.line(name, description, csv=data_links.csv_link(table))))


class _Picture:
    """A PNG to display, with a text form that is the same every time."""

    def __init__(self, data):
        self._data = data

    def _repr_png_(self):
        return self._data

    def __repr__(self):
        return "<figure>"


def log_steps(ax, label=True):
    """Training steps on the book's axis: log(step + 1), labelled in steps."""
    ax.set_xscale("function", functions=(np.log1p, np.expm1))
    last = ax.get_xlim()[1]
    ticks = [0] + [10**power for power in range(1, 7) if 10**power <= last]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(_spell_step))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if label:
        ax.set_xlabel("training step (log(step + 1) scale)")


def stage_bands(ax, stages: pd.DataFrame, label=True):
    """Colours each stage of a table (stage, start, end) behind the curves, its name on top: of a
    narrow band only the number, or nothing where that too would touch its neighbours."""
    for number, row in enumerate(stages.itertuples()):
        colour = STAGE_COLOURS[number % len(STAGE_COLOURS)]
        ax.axvspan(row.start, row.end, color=colour, alpha=BAND_ALPHA, lw=0, zorder=0)
        if label:
            ax.add_artist(_BandName(ax, row.stage, row.start, row.end)).set_clip_on(False)


class _BandName(Text):
    """A stage's name over its band. How wide that is shows only when the figure is drawn."""

    def __init__(self, ax, name, start, end):
        middle = np.expm1((np.log1p(start) + np.log1p(end)) / 2)
        super().__init__(middle, 1.01, name, ha="center", va="bottom", fontsize=9,
                         transform=ax.get_xaxis_transform())
        self.forms, self.ends = (name, name.lstrip("LMR")), (start, end)

    def draw(self, renderer):
        left, right = (self.axes.transData.transform((end, 0))[0] for end in self.ends)
        for form in self.forms:
            self.set_text(form)
            if self.get_window_extent(renderer).width <= right - left:
                super().draw(renderer)
                break
        self.set_text(self.forms[0])  # the layout does not depend on what was drawn


def vertical_steps(ax, steps: dict, last):
    """Thin dashed lines at named steps within the run, such as the paper's boundaries."""
    for step in steps.values():
        if step <= last:
            ax.axvline(step, color=BLACK, lw=0.9, ls=(0, (4, 3)), zorder=1)


def curve_with_levels(steps, curves: dict, levels: dict, ylabel, errors=None) -> Figure:
    """Curves over training, with named horizontal levels to hold them against."""
    fig, ax = figure()
    ax.set_xlim(0, max(steps))
    for (name, values), colour in zip(curves.items(), (BLUE, VERMILLION, GREEN), strict=False):
        ax.plot(steps, values, color=colour, label=name, marker="o", ms=2.5)
        if errors is not None and name in errors:
            ax.fill_between(steps, values - 2 * errors[name], values + 2 * errors[name],
                            color=colour, alpha=0.25, lw=0)
    for (name, level), dash in zip(levels.items(), ("--", ":", "-."), strict=False):
        ax.axhline(level, color=BLACK, ls=dash, lw=1.1, label=f"{name} ({level:.3g})")
    log_steps(ax)
    ax.set_ylabel(ylabel)
    ax.legend(fontsize=9)
    return fig


def per_position(steps, values: pd.DataFrame, floors, ylabel) -> Figure:
    """One panel a position k: its curve over training and the level no predictor can beat."""
    count = values.shape[1]
    columns = min(4, count)
    rows = -(-count // columns)
    fig, axes = figure(rows, columns, height=2.1 * rows + 0.6, sharex=True, sharey=True,
                       squeeze=False)
    for ax, (name, curve), floor in zip(axes.flat, values.items(), floors, strict=False):
        ax.set_xlim(0, max(steps))
        ax.plot(steps, curve, color=BLUE)
        ax.axhline(floor, color=BLACK, ls="--", lw=1.1)
        ax.set_title(f"k = {name}", fontsize=9)
        log_steps(ax, label=False)
        ax.tick_params(labelsize=8)
        ax.set_xticks([tick for tick in ax.get_xticks() if tick in (0, 100, 10_000)])
    fig.supxlabel("training step (log(step + 1) scale)", fontsize=10)
    fig.supylabel(ylabel, fontsize=10)
    return fig


def llc_curve(llc: pd.DataFrame, smooth, stages: pd.DataFrame, paper: dict,
              loss: pd.DataFrame, loss_unit="squared target units") -> Figure:
    """Fig. 1: test loss above, LLC with two standard errors and its smooth curve below, stages
    behind both, the paper's boundaries dashed. Where the table has a column `health`, estimates
    that are not sound by it are drawn open."""
    fig, (top, bottom) = figure(2, 1, height=6.2, sharex=True)
    last = loss.step.max()
    top.set_xlim(0, last)
    top.plot(loss.step, loss.loss, color=BLUE, marker="o", ms=2.5)
    top.fill_between(loss.step, loss.loss - 2 * loss.loss_se, loss.loss + 2 * loss.loss_se,
                     color=BLUE, alpha=0.25, lw=0)
    top.set_ylabel(f"test loss\n({loss_unit})")
    bad = is_unsound(llc.health) if "health" in llc else llc.llc.isna()
    for part, face, label in ((llc[~bad], VERMILLION, "estimate, 2 standard errors"),
                              (llc[bad], "white", "not sound: a check of its error failed")):
        if len(part):
            bottom.errorbar(part.step, part.llc, 2 * part.mcse, color=VERMILLION, fmt="o", ms=3.5,
                            mfc=face, lw=1.1, capsize=2, label=label)
    bottom.plot(smooth.steps, smooth.mean, color=BLACK, lw=1.2, label="smoothed")
    bottom.set_ylabel("LLC (no unit)")
    bottom.legend(fontsize=9, loc="upper left")
    for ax in (top, bottom):
        stage_bands(ax, stages, label=ax is top)
        vertical_steps(ax, paper, last)
        log_steps(ax, label=ax is bottom)
    return fig


def curves_and_slopes(panels: list, stages: pd.DataFrame, tolerance) -> Figure:
    """Fig. B.2: a row for each (name, steps, values, smoothed curve); its slope beside it, with
    the tolerance of the plateau rule on the row that the rule is applied to (the first)."""
    fig, axes = figure(len(panels), 2, height=2.3 * len(panels) + 0.5, sharex=True)
    for number, ((name, steps, values, smooth), (left, right)) in enumerate(
            zip(panels, axes, strict=True)):
        left.set_xlim(0, max(steps))
        left.plot(steps, values, "o", color=VERMILLION, ms=2.5)
        left.plot(smooth.steps, smooth.mean, color=BLACK, lw=1.2)
        left.set_ylabel(name)
        right.plot(smooth.steps, smooth.slope, color=BLUE)
        right.axhline(0, color=BLACK, lw=0.8)
        right.set_ylabel("slope per log step")
        if number == 0:
            right.axhspan(-tolerance, tolerance, color=PURPLE, alpha=0.2, lw=0,
                          label=f"|slope| < {tolerance:g}")
            right.legend(fontsize=8)
        for ax in (left, right):
            stage_bands(ax, stages, label=number == 0)
            log_steps(ax, label=number == len(panels) - 1)
            ax.set_xticks([tick for tick in ax.get_xticks() if tick not in (10, 1_000, 100_000)])
    fig.align_ylabels()
    return fig


def slope_table(panels: list) -> pd.DataFrame:
    """What `curves_and_slopes` draws, as one table."""
    return pd.concat([pd.DataFrame({"curve": name, "step": curve.steps, "smoothed": curve.mean,
                                    "slope": curve.slope}) for name, _, _, curve in panels])


def _spell_step(value, _):
    value = round(value)
    if value >= 1_000_000:
        return f"{value // 1_000_000}M"
    return f"{value // 1_000}k" if value >= 1_000 else str(value)
