"""Figures of the calibration page, from its tables, in the style of companion.figures."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from companion.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure, log_steps

SYMBOLS = {"diverged": ("x", "diverged"), "escaping": ("v", "escaping"),
           "not converged": ("o", "not converged"), "too noisy": ("s", "too noisy"),
           "biased": ("^", "biased"), "too slow": ("+", "too slow")}
GREY = "#D0D0D0"
PAIR = (VERMILLION, BLUE)  # the last checkpoint, the earlier one


def heat_maps(sweep, curvature):
    """Fig. A.4: a row a checkpoint, a column a step size; LLC over eps nbeta / 2 and
    eps gamma / 2, failures marked, the stability bound of the greatest curvature dashed. Colours
    end at ten times the greatest sound LLC within the bound: what is beyond has exploded."""
    steps, sizes = sorted(sweep.step.unique()), sorted(sweep.eps.unique())
    top = sweep.step.map(curvature.set_index("step").top)
    stable = sweep.eps * (sweep.nbeta * top + sweep.gamma) < 4
    positive = sweep.llc[(sweep.llc > 0) & stable]
    low = max(positive.min(), 1.0) if len(positive) else 1.0
    norm = LogNorm(low, max(10 * positive.max(), 10 * low) if len(positive) else 1e3)
    columns = min(3, len(sizes))
    bands = -(-len(sizes) // columns)
    fig, axes = figure(bands * len(steps), columns, height=2.35 * bands * len(steps) + 0.9,
                       sharex=True, sharey=True, squeeze=False)
    mesh = None
    places = [(step, size) for step in steps for size in sizes]
    for number, (step, size) in enumerate(places):
        row, column = divmod(number % len(sizes), columns)
        ax = axes[steps.index(step) * bands + row, column]
        part = sweep[(sweep.step == step) & (sweep.eps == size)].assign(
            x=lambda table: table.eps * table.nbeta / 2, y=lambda t: t.eps * t.gamma / 2)
        x, y = (_unique(part[name]) for name in "xy")
        values = np.full((len(y), len(x)), np.nan)
        ax.set_facecolor(GREY)
        for line in part.itertuples():
            i, j = np.abs(np.log(y / line.y)).argmin(), np.abs(np.log(x / line.x)).argmin()
            if line.status != "diverged" and line.llc > 0:
                values[i, j] = line.llc
            if line.status in SYMBOLS:
                marker = SYMBOLS[line.status][0]
                ax.plot(j, i, marker, color=BLACK, ms=8, mfc="white", mew=1.3)
        mesh = ax.pcolormesh(np.arange(len(x) + 1) - 0.5, np.arange(len(y) + 1) - 0.5, values,
                             norm=norm, cmap="viridis", edgecolors="white", lw=0.6)
        ax.set_xlim(-0.5, len(x) - 0.5)
        ax.set_ylim(-0.5, len(y) - 0.5)
        _bound(ax, x, y, float(curvature.top[curvature.step == step].iloc[0]))
        ax.set_title(f"step {step:,}, $\\epsilon$ = {size:g}", fontsize=9)
        ax.set_xticks(range(len(x)), [f"{value:.0e}".replace("e-0", "e-") for value in x],
                      rotation=45, fontsize=8)
        ax.set_yticks(range(len(y)), [_short(value) for value in y], fontsize=8)
        ax.grid(False)
    fig.supxlabel(r"$\epsilon\, n\beta / 2$", fontsize=10)
    fig.supylabel(r"$\epsilon\, \gamma / 2$", fontsize=10)
    fig.colorbar(mesh, ax=axes, label="LLC (no unit)", shrink=0.8, extend="max")
    found = [status for status in SYMBOLS if (sweep.status == status).any()]
    handles = [Line2D([], [], marker=SYMBOLS[status][0], color=BLACK, mfc="white", ls="",
                      label=SYMBOLS[status][1]) for status in found]
    handles += [Patch(color=GREY, label="no number, or below 0"),
                Line2D([], [], color=VERMILLION, ls="--", label="stability bound")]
    fig.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    return fig


def _bound(ax, x, y, top):
    """eps kappa = 4, that is x h + y = 2, in the maps' cell coordinates."""
    line = np.geomspace(x[0] / 10, x[-1] * 10, 2000)
    line = line[line * top < 2 * (1 - 1e-6)]
    if not len(line):
        return
    if line[-1] < x[-1]:  # down to no spring at all
        line = np.append(line, 2 * (1 - 1e-6) / top)
    ax.set_autoscale_on(False)
    ax.plot(_cells(line, x), _cells(2 - line * top, y), color=VERMILLION, ls="--", lw=1.8)


def _cells(values, ticks):
    """Positions among the cells, going on with the end spacing beyond them."""
    logs, ticks = np.log(values), np.log(ticks)
    inside = np.interp(logs, ticks, np.arange(len(ticks)))
    low, high = ticks[1] - ticks[0], ticks[-1] - ticks[-2]
    return (inside + np.minimum(logs - ticks[0], 0) / low
            + np.maximum(logs - ticks[-1], 0) / high)


def _unique(values):
    """Sorted values that differ by more than rounding."""
    values = np.sort(np.unique(values))
    return values[np.append(True, np.diff(np.log(values)) > 1e-3)]


def _short(value):
    return f"{value:g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")


def baselines(runs):
    """MCSE and ESS of the same draws with the two baselines, over checkpoints."""
    fig, (left, right) = figure(1, 2, height=3.4)
    for column, colour, name, marker in (("", BLUE, "same batch", "o"),
                                         ("_whole", VERMILLION, "whole set", "s")):
        left.plot(runs.step, runs["mcse" + column], color=colour, marker=marker, ms=4, label=name)
        right.plot(runs.step, runs["ess" + column], color=colour, marker=marker, ms=4, label=name)
    left.set_ylabel("standard error of the LLC")
    right.set_ylabel("effective draws")
    for ax in (left, right):
        _steps(ax, runs.step)
        ax.set_ylim(0)
        ax.legend(fontsize=9)
    return fig


def seeded_curves(seeded, unseeded):
    """Fig. A.3: the LLC over checkpoints with common batches and noise, and with their own."""
    fig, (left, right) = figure(1, 2, height=3.8)
    for table, colour, name, shift in ((seeded, BLUE, "common noise", 0),
                                       (unseeded, VERMILLION, "noise of its own", 0)):
        left.errorbar(table.step + shift, table.llc, 2 * table.mcse, color=colour, fmt="o-", ms=3.5,
                      lw=1.2, capsize=2, label=name)
        chains = table.filter(regex=r"^chain_\d+$")
        for number, values in enumerate((chains.sub(chains.mean(axis=1), axis=0)).T.values):
            right.plot(table.step, values, color=colour, lw=1, marker="o", ms=3,
                       ls="-" if colour == BLUE else "--",
                       label=name if number == 0 else None)
    left.set_ylabel("LLC, 2 standard errors")
    right.set_ylabel("a chain's LLC minus the chains' mean")
    for ax in (left, right):
        _steps(ax, seeded.step)
        ax.legend(fontsize=8)
    return fig


def traces(table, names):
    """Fig. A.5: for each name a panel of per-draw values, faint, and the running estimate, bold,
    a colour a chain. The limits leave out the first tenth of the running estimates."""
    rows = -(-len(names) // 2)
    fig, axes = figure(rows, 2, height=2.7 * rows, squeeze=False)
    for ax, (name, title) in zip(axes.flat, names.items(), strict=False):
        part = table[table.name == name]
        for (_, chain), colour in zip(part.groupby("chain"), (BLUE, VERMILLION, GREEN, ORANGE),
                                      strict=False):
            ax.plot(chain.draw, chain.value, color=colour, lw=0.6, alpha=0.45)
            ax.plot(chain.draw, chain.online, color=colour, lw=2)
        mean = part.groupby("draw").online.mean()
        ax.plot(mean.index, mean, color=BLACK, lw=1.4, ls="--")
        if part.value.abs().max() > 1e6:  # it explodes
            ax.set_yscale("symlog", linthresh=100)
            power = np.log10(part.value.abs().max())
            ax.set_yticks([0, *10.0 ** np.linspace(power / 4, power, 4).round()])
            ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_title(title, fontsize=9)
    fig.supxlabel("SGLD steps", fontsize=10)
    fig.supylabel("LLC: each draw (faint), running estimate (bold)", fontsize=10)
    fig.legend(handles=[Line2D([], [], color=BLACK, ls="--", label="running estimate, chains "
                               "averaged (A.5.4)")], loc="outside upper center", fontsize=8)
    for ax in axes.flat[len(names):]:
        ax.set_axis_off()
    return fig


def acceptance(runs, eps):
    """Acceptance of Metropolis-adjusted steps against eps; the setting in use dotted."""
    fig, ax = figure(height=3.3)
    for step, colour in zip(sorted(runs.step.unique(), reverse=True), PAIR, strict=False):
        part = runs[runs.step == step].sort_values("eps")
        ax.errorbar(part.eps, part.acceptance, 2 * part.acceptance_mcse, color=colour, fmt="o-",
                    ms=4, lw=1.2, capsize=2, label=f"step {step:,}")
    ax.axvline(eps, color=BLACK, ls=":", lw=1.2, label=f"in use, {eps:g}")
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.05)
    ax.set_xlabel(r"step size $\epsilon$")
    ax.set_ylabel("acceptance probability")
    ax.legend(fontsize=9)
    return fig


def two_losses(lines, loss, likelihood):
    """Fig. A.6: running estimates of both losses at some checkpoints, and one against the other."""
    fig, (left, right) = figure(1, 2, height=3.8)
    colours = dict(zip(likelihood.step, (BLUE, GREEN, ORANGE, VERMILLION, PURPLE, BLACK) * 4,
                       strict=False))
    for step, colour in colours.items():
        for part, dash in (("seeded", "-"), ("likelihood", "--")):
            mean = lines[(lines.step == step) & (lines.part == part)].groupby("draw").online.mean()
            left.plot(mean.index, mean, color=colour, ls=dash,
                      label=f"step {step:,}" if dash == "-" else None)
    left.set_xlabel("SGLD steps")
    left.set_ylabel("running estimate of the LLC")
    left.legend(fontsize=8, title="solid: loss, dashed: likelihood", title_fontsize=8)
    both = loss.set_index("step").loc[likelihood.step]
    for x, y, xe, ye, step in zip(both.llc, likelihood.llc, both.mcse, likelihood.mcse,
                                  likelihood.step, strict=True):
        right.errorbar(x, y, 2 * ye, 2 * xe, fmt="o", ms=4, capsize=2, color=colours[step])
    ends = [min(both.llc.min(), likelihood.llc.min()), max(both.llc.max(), likelihood.llc.max())]
    right.plot(ends, ends, color=BLACK, lw=1, ls=":")
    right.set_xlabel("LLC from the loss (eq. 2)")
    right.set_ylabel("LLC from the likelihood (eq. 13)")
    return fig


def away_from_minima(curve, descent, sweep):
    """A.7: the LLC beside what descent alone gains within the same steps, over checkpoints; and
    the LLC against the localisation."""
    fig, (left, right) = figure(1, 2, height=3.8)
    left.errorbar(curve.step, curve.llc, 2 * curve.mcse, color=BLUE, fmt="o-", ms=4, lw=1.2,
                  capsize=2, label="LLC")
    left.plot(descent.step, descent.llc, color=VERMILLION, marker="s", ms=4, lw=1.2, ls="--",
              label="without Langevin noise")
    left.axhline(0, color=BLACK, lw=0.8)
    left.set_ylabel(r"$n\beta\, (\mathrm{mean\ loss} - L(w_0))$")
    _steps(left, curve.step)
    for step, colour in zip(sorted(sweep.step.unique(), reverse=True), PAIR, strict=False):
        part = sweep[(sweep.step == step) & sweep.llc.notna()].sort_values("gamma")
        right.errorbar(part.gamma, part.llc, 2 * part.mcse, color=colour, fmt="o-", ms=4, lw=1.2,
                       capsize=2, label=f"step {step:,}")
    right.set_xscale("log")
    right.set_yscale("symlog", linthresh=10) if (sweep.llc <= 0).any() else right.set_yscale("log")
    right.set_xlabel(r"localisation $\gamma$")
    right.set_ylabel("LLC")
    for ax in (left, right):
        ax.legend(fontsize=8)
    return fig


def temperature(runs, nbeta, default):
    """LLC against nbeta; the one in use and m / ln m dotted."""
    fig, ax = figure(height=3.5)
    for step, colour in zip(sorted(runs.step.unique(), reverse=True), PAIR, strict=False):
        part = runs[(runs.step == step) & (runs.llc > 0)].sort_values("nbeta")
        ax.errorbar(part.nbeta, part.llc, 2 * part.mcse, color=colour, fmt="o-", ms=4, lw=1.2,
                    capsize=2, label=f"step {step:,}")
    ax.axvline(nbeta, color=BLACK, ls=":", lw=1.2, label=f"in use, {nbeta:.1f}")
    ax.axvline(default, color=GREEN, ls="--", lw=1.2, label=f"m / ln m, {default:.1f}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(r"$n\beta$")
    ax.set_ylabel("LLC")
    ax.legend(fontsize=8)
    return fig


def trials(table, proposal=None):
    """What `calibrate` tried: LLC against eps, a colour a gamma, failures marked, the proposal
    (eps, gamma) ringed."""
    fig, ax = figure(height=3.5)
    for (gamma, part), colour in zip(table.groupby("gamma"), (BLUE, ORANGE, GREEN, PURPLE),
                                     strict=False):
        finite = part[part.llc.notna()].sort_values("eps")
        ax.errorbar(finite.eps, finite.llc, 2 * finite.mcse, color=colour, fmt="o-", ms=4, lw=1.2,
                    capsize=2, label=rf"$\gamma$ = {gamma:g}")
    for status, part in table[table.status != "ok"].groupby("status"):
        look = {"color": BLACK, "mfc": "none", "ms": 10, "ls": "", "label": status,
                "marker": SYMBOLS[status][0]}
        lost = part.llc.isna()
        if lost.any():  # no number: at the upper edge
            ax.plot(part.eps[lost], np.full(lost.sum(), 0.96),
                    transform=ax.get_xaxis_transform(), **look)
            look["label"] = None
        ax.plot(part.eps[~lost], part.llc[~lost], **look)
    if proposal is not None:
        chosen = table[np.isclose(table.eps, proposal[0]) & np.isclose(table.gamma, proposal[1])]
        ax.plot(chosen.eps, chosen.llc, "D", ms=16, mfc="none", mec=VERMILLION, mew=2,
                label="proposed")
    ax.set_xscale("log")
    ax.margins(y=0.15)
    ax.set_xlabel(r"step size $\epsilon$")
    ax.set_ylabel("LLC, 2 standard errors")
    ax.legend(fontsize=8, markerscale=0.6)
    return fig


def _steps(ax, steps):
    """Checkpoints of less than two decades, or more, on the book's axis."""
    steps = np.asarray(steps)
    low, high = steps.min() / 1.15, steps.max() * 1.1
    ax.set_xlim(low, high)
    log_steps(ax)
    ticks = [base * 10**power for power in range(7) for base in (1, 2, 5)
             if low <= base * 10**power <= high]
    ax.set_xticks(ticks if len(ticks) < 7 else [t for t in ticks if str(t)[0] == "1"])
    ax.set_xlim(low, high)
