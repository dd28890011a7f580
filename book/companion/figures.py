"""Figures from tables: one function a figure family, one style, one colour a stage everywhere.

Every function takes plain tables and returns a matplotlib figure; `show` puts it on a page with
the words that say where it comes from, its data as CSV and itself as SVG to download.
"""

import io
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter

from companion.site import data_links
from devlib.stages import is_unsound

# Okabe and Ito's eight colours, told apart by every kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
# The paper's stages have one colour each on every page. Those with a letter
# (companion.paper_stages) have others, in turn.
PAPER_COLOURS = (ORANGE, SKY, GREEN, YELLOW, VERMILLION)
LETTER_COLOURS = (PURPLE, "#999999", "#332288", "#44AA99", "#882255", BLUE)
STYLE = {
    **seaborn.axes_style("whitegrid"), **seaborn.plotting_context("notebook", font_scale=0.85),
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own: the same on every machine
    "figure.figsize": (7.5, 4.2), "figure.dpi": 110, "figure.constrained_layout.use": True,
    "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.5, "grid.linewidth": 0.7,
    "axes.linewidth": 0.8, "axes.edgecolor": ".4", "legend.frameon": False,
    "lines.linewidth": 1.6, "svg.hashsalt": "devlib"}
BAND_ALPHA = 0.22
GAP = 4  # pixels at least between the names of neighbouring bands


def figure(rows=1, columns=1, height=4.2, **options):
    """A figure in the book's style and its axes."""
    use_style()
    return plt.subplots(rows, columns, figsize=(7.5, height), layout="constrained", **options)


def use_style():
    """The book's style for all that is drawn from here on: legends and labels come later than
    their axes."""
    plt.rcParams.update(STYLE)
    # on a busy machine a legend takes its second, and a page must not depend on that
    warnings.filterwarnings("ignore", 'Creating legend with loc="best"', UserWarning)


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


def log_steps(ax, label=True, linear=False):
    """Training steps on the book's axis: log(step + 1), labelled in steps; or the steps as they
    are."""
    last = ax.get_xlim()[1]
    if not linear:
        ax.set_xscale("function", functions=(np.log1p, np.expm1))
        ax.set_xticks([0] + [10**power for power in range(1, 7) if 10**power <= last])
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(_spell_step))
    if label:
        ax.set_xlabel(step_label(linear))


def step_label(linear=False) -> str:
    """What stands under an axis of steps."""
    return "training step" if linear else "training step (log(step + 1) scale)"


def stage_colour(name) -> str:
    """The colour of a stage: the paper's (LR1, LM2) by its number, any other by its letter."""
    if name[-1].isdigit():
        return PAPER_COLOURS[(int(name[-1]) - 1) % len(PAPER_COLOURS)]
    return LETTER_COLOURS[(ord(name[-1]) - ord("A")) % len(LETTER_COLOURS)]


def line_colour(name):
    """The colour of a stage, dark enough for a thin line on white: yellow is, for a band, not."""
    red, green, blue = to_rgb(stage_colour(name))
    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    shade = min(1.0, 0.55 / bright)
    return red * shade, green * shade, blue * shade


def stage_bands(ax, stages: pd.DataFrame, label=True):
    """Colours each stage of a table (stage, start, end) behind the curves, its name on top: of a
    narrow band only the number, or nothing where that too would touch its neighbours."""
    for row in stages.itertuples():
        ax.axvspan(row.start, row.end, color=stage_colour(row.stage), alpha=BAND_ALPHA, lw=0,
                   zorder=0)
        if label:
            ax.add_artist(_BandName(ax, row.stage, row.start, row.end)).set_clip_on(False)


def paper_ticks(ax, ends: dict, last):
    """A tick at the top for each of the paper's boundaries within the run; ours are the bands."""
    ax.vlines([step for step in ends.values() if step < last], 0.94, 1.0, color=BLACK, lw=1.8,
              transform=ax.get_xaxis_transform())


class _BandName(Text):
    """A stage's name over its band. How wide that is shows only when the figure is drawn."""

    def __init__(self, ax, name, start, end):
        middle = np.expm1((np.log1p(start) + np.log1p(end)) / 2)  # until it is drawn
        super().__init__(middle, 1.01, name, ha="center", va="bottom", fontsize=9,
                         transform=ax.get_xaxis_transform())
        self.forms, self.ends = (name, name[2:] or name), (start, end)

    def draw(self, renderer):
        place = self.axes.transData
        left, right = (place.transform((end, 0))[0] for end in self.ends)
        self.set_x(place.inverted().transform(((left + right) / 2, 0))[0])
        for form in self.forms:
            self.set_text(form)
            if self.get_window_extent(renderer).width + GAP <= right - left:
                super().draw(renderer)
                break
        self.set_text(self.forms[0])  # the layout does not depend on what was drawn


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
    fig.supxlabel(step_label(), fontsize=10)
    fig.supylabel(ylabel, fontsize=10)
    return fig


def llc_curve(llc: pd.DataFrame, smooth, stages: pd.DataFrame, paper: dict,
              loss: pd.DataFrame, loss_unit="squared target units", linear=False) -> Figure:
    """Fig. 1: test loss above, LLC with two standard errors and its smooth curve below, stages
    as bands behind both, the paper's boundaries as ticks. By log time, or by `linear`. Where the
    table has a column `health`, estimates that are not sound by it are drawn open."""
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
    bottom.legend(fontsize=9)
    for ax in (top, bottom):
        stage_bands(ax, stages, label=ax is top)
        paper_ticks(ax, paper, last)
        log_steps(ax, label=ax is bottom, linear=linear)
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
        return f"{value / 1_000_000:g}M"
    return f"{value / 1_000:g}k" if value >= 1_000 else str(value)
