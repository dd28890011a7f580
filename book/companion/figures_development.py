"""Figures of Sections 6 and 7 and Appendices C to E: metrics of a transformer over training."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from companion.figures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILLION,
    figure,
    line_colour,
    log_steps,
    stage_bands,
    step_label,
    use_style,
)
from devlib.steps import thin

# without SKY: on a dark page it is too near to blue
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BLACK)
DASHES = ("-", "--", ":", "-.")


def curves(panels: dict, stages: pd.DataFrame, ylabel, *, columns=2, height=2.7, levels=None,
           errors=None, log=False, top=None, each_scale=False, linear=False) -> Figure:
    """A panel for each name -> table with `step` and one column a curve, stages behind them.

    `errors` maps a curve to its standard errors (a band of two), `levels` a name to a horizontal
    line in every panel. `log` takes a logarithmic axis, `top` bounds it above. `each_scale` gives
    every panel its own scale and legend. `linear` draws by steps as they are.
    """
    rows = -(-len(panels) // columns)
    fig, axes = figure(rows, columns, height=height * rows + 0.5, sharex=True,
                       sharey=not each_scale, squeeze=False)
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=False):
        ax.set_xlim(0, table.step.max())
        for number, name in enumerate(table.columns.drop("step")):
            known = table[table[name].notna()]  # a curve may have fewer checkpoints than others
            style = curve_style(number)
            ax.plot(known.step, known[name], **style, label=name)
            if errors is not None and name in errors:
                error = 2 * errors[name][known.index]
                ax.fill_between(known.step, known[name] - error, known[name] + error,
                                color=style["color"], alpha=0.25, lw=0)
        for (name, level), dash in zip((levels or {}).items(), DASHES[1:], strict=False):
            ax.axhline(level, color=BLACK, ls=dash, lw=1.1, label=name)
        if log:
            ax.set_yscale("log")
        ax.set_title(title, fontsize=10, pad=14 if len(stages) else None)
        stage_bands(ax, stages)
        log_steps(ax, label=False, linear=linear)
        _fewer_ticks(ax, columns, linear)
        if each_scale or ax is axes.flat[0]:
            ax.legend(fontsize=8, ncols=2 if len(table.columns) > 5 else 1)
    if top is not None:  # after all are drawn: a bound holds the other end where it stands
        for ax in axes.flat:
            ax.set_ylim(top=top)
    for ax in list(axes.flat)[len(panels):]:
        ax.set_axis_off()
    fig.supxlabel(step_label(linear), fontsize=10)
    fig.supylabel(ylabel, fontsize=10)
    return fig


def threads(panels: dict, steps, stages: pd.DataFrame, ylabel, columns=3, share=False) -> Figure:
    """A panel for each name -> array (S, E): every component, or seed, a thin line, their mean a
    thick one (Figs. 5c, B.3, D.8, D.9); with `share` on one scale."""
    rows = -(-len(panels) // columns)
    fig, axes = figure(rows, columns, height=2.7 * rows + 0.5, sharex=True, sharey=share,
                       squeeze=False)
    for ax, (title, values) in zip(axes.flat, panels.items(), strict=False):
        ax.set_xlim(0, max(steps))
        ax.plot(steps, values, color=BLUE, lw=0.5, alpha=0.6)
        ax.plot(steps, np.mean(values, 1), color=BLACK, lw=2)
        ax.set_title(title, fontsize=10, pad=14)
        stage_bands(ax, stages)
        log_steps(ax, label=False)
        _fewer_ticks(ax, columns)
    for ax in list(axes.flat)[len(panels):]:
        ax.set_axis_off()
    fig.supxlabel(step_label(), fontsize=10)
    fig.supylabel(ylabel, fontsize=10)
    return fig


def thread_table(panels: dict, steps) -> pd.DataFrame:
    """The data of `threads`: vector (its panel), step, and a column a component."""
    return pd.concat([pd.DataFrame(values, columns=[f"c{i}" for i in range(values.shape[1])])
                      .assign(step=steps, vector=name) for name, values in panels.items()])


def patterns(attention, names) -> Figure:
    """Attention patterns, a panel a head with its blocks as rows (Fig. D.7): attention
    (L, H, T, T), rows are queries; `names` (T) are the tokens'."""
    layers, heads = attention.shape[:2]
    fig, axes = figure(layers, heads, height=7.5 / heads * layers + 0.6, squeeze=False)
    for block in range(layers):
        for head in range(heads):
            ax = axes[block, head]
            image = ax.imshow(attention[block, head], cmap="cividis", vmin=0, vmax=1)
            ax.set_title(f"block {block + 1}, head {head + 1}", fontsize=9)
            ax.grid(False)
            shown = range(0, len(names), 4)
            ax.set_xticks(shown, [names[i] for i in shown], fontsize=8)
            ax.set_yticks(shown, [names[i] for i in shown], fontsize=8)
    fig.supxlabel("attended token", fontsize=10)
    fig.supylabel("query token", fontsize=10)
    fig.colorbar(image, ax=axes, shrink=0.7, label="mean attention")
    return fig


def head_patterns(table: pd.DataFrame, most=4) -> Figure:
    """The table "patterns" of a language run, a row of panels a head and a column a checkpoint of
    at most so many."""
    steps = thin(sorted(table.step.unique()), most)
    heads = sorted({*zip(table.layer, table["head"], strict=True)})
    fig, axes = figure(len(heads), len(steps), height=1.9 * len(heads) + 0.6, squeeze=False)
    for row, (layer, head) in zip(axes, heads, strict=True):
        for ax, step in zip(row, steps, strict=True):
            image = ax.imshow(pattern(table, step, layer, head), cmap="cividis",
                              norm=PowerNorm(0.5, 0, 1))  # a root scale, so that small ones show
            middle = (len(image.get_array()) - 1) / 4  # of the first showing
            ax.set_title(f"step {step:,}", fontsize=9)
            ax.grid(False)
            ax.set_xticks([middle, 3 * middle], ["1st", "2nd"], fontsize=8)
            ax.set_yticks([middle, 3 * middle], ["1st", "2nd"], fontsize=8)
            ax.axvline(2 * middle + 0.5, color="white", lw=0.6)
            ax.axhline(2 * middle + 0.5, color="white", lw=0.6)
        row[0].set_ylabel(f"head {layer}:{head}\nquery token", fontsize=9)
    fig.supxlabel("attended token", fontsize=10)
    bar = fig.colorbar(image, ax=axes, shrink=0.7, label="mean attention, on a root scale")
    bar.set_ticks([0, 0.1, 0.5, 1])
    return fig


def pattern(table: pd.DataFrame, step, layer, head) -> np.ndarray:
    """One pattern (T, T) of the table "patterns", rows are queries; 0 for what comes later."""
    one = table[(table.step == step) & (table.layer == layer) & (table["head"] == head)]
    return one.pivot(index="query", columns="key", values="attention").fillna(0.0).to_numpy()


def stage_ends(evaluation, llc, stages, steps, attention) -> Figure:
    """What the slider shows, standing still: test loss and LLC over training with the stages, and
    below them the attention (S, L, H, T, T) of every head (columns) at each of the steps (rows)."""
    count = attention.shape[1] * attention.shape[2]
    use_style()
    fig = plt.figure(figsize=(7.5, 3.4 + 1.05 * len(steps)), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=(3.2, 1.05 * len(steps)))
    for ax, (table, name, error, label, colour) in zip(above.subplots(1, 2), (
            (evaluation, "loss", "loss_se", "test loss\n(squared target units)", BLUE),
            (llc, "llc", "mcse", "LLC (no unit)", VERMILLION)), strict=True):
        ax.set_xlim(0, evaluation.step.max())
        ax.errorbar(table.step, table[name], 2 * table[error], color=colour, lw=1.4)
        ax.set_ylabel(label)
        stage_bands(ax, stages)
        log_steps(ax)
    grid = below.subplots(len(steps), count, squeeze=False)
    for row, step, panels in zip(grid, steps, attention, strict=True):
        for ax, panel in zip(row, panels.reshape(count, *panels.shape[2:]), strict=True):
            ax.imshow(panel, cmap="cividis", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"step\n{step:,}", fontsize=9)
    for number, ax in enumerate(grid[0]):
        block, head = divmod(number, attention.shape[2])
        ax.set_title(f"block {block + 1}\nhead {head + 1}", fontsize=9)
    return fig


def path_plane(path: pd.DataFrame, stages: pd.DataFrame, explained) -> Figure:
    """The path of the outputs in its first components, each stage in its colour: the plane of
    the first two, and of the first and third."""
    fig, axes = figure(1, 2, height=3.8)
    for ax, other in zip(axes, (2, 3), strict=True):
        for stage in stages.itertuples():
            part = path[path.step.between(stage.start, stage.end)]
            ax.plot(part.pc_1, part[f"pc_{other}"], marker="o", ms=2.5, lw=1.4,
                    color=line_colour(stage.stage), label=stage.stage)
        for step in (path.step.iloc[0], path.step.iloc[-1]):
            row = path[path.step == step].iloc[0]
            ax.annotate(f"step {step:,}", (row.pc_1, row[f"pc_{other}"]), fontsize=8,
                        textcoords="offset points", xytext=(4, 5))
        ax.set_xlabel(f"component 1 ({explained[0]:.0%} of the variance)")
        ax.set_ylabel(f"component {other} ({explained[other - 1]:.1%})")
    axes[0].legend(fontsize=8)
    return fig


def pilots(panels: dict) -> Figure:
    """A panel for each title -> table of runs (columns) over what its index counts."""
    fig, axes = figure(1, len(panels), height=3.8, sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, values) in enumerate(table.items()):
            values = values.dropna()
            ax.plot(values.index, values, **curve_style(number), label=name)
        ax.set_title(title, fontsize=10)
        ax.set_xscale("symlog", linthresh=values.index[1])
    axes[0, 0].set_ylabel("worth of positions (nats)")
    axes[0, 0].legend(fontsize=7)
    return fig


def position_paths(positions: pd.DataFrame, most=6) -> Figure:
    """The positional embedding in its first two principal components, a panel a checkpoint of at
    most so many, positions from dark to bright (C.2.1)."""
    steps = thin(sorted(positions.step.unique()), most)
    rows = -(-len(steps) // 3)
    fig, axes = figure(rows, 3, height=2.5 * rows + 0.3, squeeze=False)
    for ax, step in zip(axes.flat, steps, strict=False):
        path = positions[positions.step == step]
        ax.plot(path.pc_1, path.pc_2, color=BLACK, lw=0.4, alpha=0.5)
        shown = ax.scatter(path.pc_1, path.pc_2, c=path.position, cmap="cividis", s=6, zorder=2)
        ax.set_title(f"step {step:,}", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.locator_params(nbins=4)  # more labels would run into one another
    for ax in list(axes.flat)[len(steps):]:
        ax.set_axis_off()
    fig.supxlabel("component 1", fontsize=10)
    fig.supylabel("component 2", fontsize=10)
    fig.colorbar(shown, ax=axes, shrink=0.8, label="position")
    return fig


def position_norms(positions: pd.DataFrame, most=6) -> Figure:
    """The norm of each position's embedding along the context, a line a checkpoint of at most so
    many (C.2.1)."""
    fig, ax = figure(height=3.4)
    for step, colour in zip(thin(sorted(positions.step.unique()), most), COLOURS, strict=False):
        path = positions[positions.step == step].sort_values("position")
        ax.plot(path.position, path.norm, color=colour, lw=1, label=f"step {step:,}")
    ax.set_xlabel("position (tokens before it)")
    ax.set_ylabel("norm (no unit)")
    ax.legend(fontsize=8, ncols=3, loc="upper center")  # both ends of the context are high
    return fig


def curve_style(number) -> dict:
    """Colour and dash of a panel's curve, by its number."""
    return {"color": COLOURS[number % len(COLOURS)],
            "ls": DASHES[number // len(COLOURS) % len(DASHES)]}


def _fewer_ticks(ax, columns, linear=False):
    """Every second decade where panels are narrow and the run is long; by linear time, a few."""
    if linear:
        ax.locator_params(axis="x", nbins=5 if columns == 1 else 3)
    elif columns > 1 and len(ax.get_xticks()) > 4:
        ax.set_xticks([tick for tick in ax.get_xticks() if tick not in (10, 1_000, 100_000)])
    ax.tick_params(labelsize=8)
