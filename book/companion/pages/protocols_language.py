"""What the page on the language LLC by other samplers works out and draws."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import chi2

from companion import presets, results_language
from companion.claims.table_rows import MATCH, matched
from companion.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure, log_steps
from companion.health import find_stages_quietly
from companion.pages.curve_figures import STARTS
from companion.results import Results

SEED_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)
SMALL = ("smoke", "laptop")


def compared(target: pd.DataFrame) -> pd.DataFrame:
    """The rows by which batches are compared: from the prior, the same draws of each."""
    return target[(target.start == "prior") & (target.draws == target.draws.min())]


def by_batch(target: pd.DataFrame) -> pd.DataFrame:
    """A row a checkpoint: the LLC from the prior by each batch with its error, the largest batch's
    less the smallest's, with the error of that."""
    rows = []
    for step, part in compared(target).groupby("step"):
        part = part.sort_values("batch")
        first, last = part.iloc[0], part.iloc[-1]
        rows.append({"step": step, **{f"batch {row.batch}": f"{row.llc:.1f} ± {row.mcse:.1f}"
                                      for row in part.itertuples()},
                     "difference": last.llc - first.llc,
                     "its error": np.hypot(first.mcse, last.mcse)})
    return pd.DataFrame(rows)


def joint_p(target: pd.DataFrame) -> float:
    """The chance of batches that differ as much as these if their size had no effect: of each
    checkpoint the weighted squares about the weighted mean, chi-squared together. NaN where fewer
    than two of each have an error."""
    statistic, degrees = 0.0, 0
    for _, part in compared(target).groupby("step"):
        part = part[part.mcse > 0]
        if len(part) < 2:
            continue
        weight = part.mcse**-2
        statistic += float((weight * (part.llc - np.average(part.llc, weights=weight))**2).sum())
        degrees += len(part) - 1
    return float(chi2.sf(statistic, degrees)) if degrees else float("nan")


def batches(target: pd.DataFrame) -> Figure:
    """The LLC at each checkpoint, a mark a batch, errors of two standard errors."""
    fig, ax = figure()
    steps, rows = sorted(target.step.unique()), compared(target)
    for place, (batch, colour) in enumerate(zip(sorted(rows.batch.unique()), SEED_COLOURS,
                                                strict=False)):
        part = rows[rows.batch == batch].set_index("step")
        ax.errorbar(np.arange(len(steps)) + 0.1 * (place - 1), part.llc[steps],
                    2 * part.mcse[steps], fmt="o", ms=5, lw=1.2, color=colour,
                    label=f"{batch} contexts a draw")
    ax.set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
    ax.set_xlim(-0.5, len(steps) - 0.5)
    ax.set_xlabel("training step")
    ax.set_ylabel("LLC (no unit)")
    ax.legend(fontsize=8)
    return fig


def climb(blocks: pd.DataFrame) -> Figure:
    """Block means of nbeta (L_m - L_m(w0)) along the long chains from each start, with the spread
    of the chains' own means; a panel a checkpoint."""
    steps = sorted(blocks.step.unique())
    fig, axes = figure(1, len(steps), height=3.4, squeeze=False)
    for ax, step in zip(axes[0], steps, strict=True):
        for start, part in blocks[blocks.step == step].groupby("start", sort=False):
            marker, colour, words = STARTS[start]
            ax.errorbar(part.draw, part.llc, part.chain_sd, fmt=f"{marker}-", ms=4, lw=1,
                        color=colour, label=words)
        ax.set_title(f"step {step:,}", fontsize=9)
        ax.set_xlabel("draw")
    axes[0, 0].set_ylabel("LLC of a block of draws (no unit)")
    axes[0, -1].legend(fontsize=8)
    return fig


def proportions(profile: pd.DataFrame) -> pd.DataFrame:
    """A row a checkpoint of the tightest spring: the LLC over nbeta at each nbeta, as shares of
    that at the smallest. All 1 where the spring alone says how far the chains go: their loss is
    then the same whatever nbeta, and the LLC nbeta times it."""
    part = profile[(profile.start == "w0") & (profile.ratio == profile.ratio.min())]
    slope = part.assign(slope=part.llc / part.nbeta).pivot(index="step", columns="nbeta",
                                                           values="slope")
    slope = slope.div(slope.iloc[:, 0], axis=0)
    return slope.rename(columns=lambda nbeta: f"nbeta {nbeta:.3g}").reset_index()


def bigram_excess(bigrams: pd.DataFrame) -> Figure:
    """Both excesses of the bigram score on all text over training, errors of two standard
    errors."""
    fig, ax = figure()
    part = bigrams[bigrams.source == "all"]
    for name, colour, words in (("excess", VERMILLION, "over the entropy of counts"),
                                ("held_out_excess", BLUE, "over a predictor, on held-out text")):
        ax.errorbar(part.step, part[name], 2 * part[f"{name}_se"], fmt="o-", ms=4, lw=1.2,
                    color=colour, label=words)
    ax.set_xlim(0, max(part.step.max(), 10))
    ax.axhline(0, color=BLACK, lw=0.8)
    log_steps(ax)
    ax.set_ylabel("excess (nats)")
    ax.legend(fontsize=8)
    return fig


def seeds_shown(preset, seed, recompute=False) -> list[Results]:
    """The two-layer runs of the preset, committed or in the runs directory, that of `seed` among
    them; of a larger preset those of the laptop's."""
    shown = preset if preset in SMALL else "laptop"
    if shown == preset:
        results_language.language(preset, seed, recompute)
    return [results_language.language(shown, number)
            for number in sorted(results_language.stored_seeds(shown))]


def boundaries_of(runs) -> dict[int, list[int]]:
    """The boundaries of each run by the rule of B.1, by its seed."""
    settings = presets.get(runs[0].manifest["preset"]).language.stages
    return {run.manifest["seed"]: find_stages_quietly(run["llc"], run["behaviour"], settings,
                                                      "LM")[1] for run in runs}


def seeds_description(runs) -> str:
    """What a figure of several seeds says of its origin."""
    preset = presets.get(runs[0].manifest["preset"])
    numbers = ", ".join(str(run.manifest["seed"]) for run in runs)
    return f"{preset.name} preset, seeds {numbers}: {preset.language_description}"


def joined(runs) -> pd.DataFrame:
    """seed, step, llc, mcse, loss of every run."""
    return pd.concat([
        run["llc"][["step", "llc", "mcse"]].merge(run["behaviour"][["step", "loss"]], on="step")
        .assign(seed=run.manifest["seed"]) for run in runs], ignore_index=True)


def spread(runs) -> pd.Series:
    """The standard deviation of the LLC over the seeds, by step; of one seed NaN."""
    return joined(runs).groupby("step").llc.std()


def shared(boundaries: dict) -> pd.DataFrame:
    """A row a seed: its boundaries, and with how many of the other seeds each has a partner within
    the book's factor."""
    rows = []
    for seed, steps in boundaries.items():
        others = [other for number, other in boundaries.items() if number != seed]
        partners = [sum(step in matched(other, steps) for other in others) for step in steps]
        rows.append({"seed": seed, "boundaries": ", ".join(f"{step:,}" for step in steps) or "none",
                     f"seeds with one within a factor of {MATCH:g}":
                         ", ".join(map(str, partners)) or "-"})
    return pd.DataFrame(rows)


def seeds(runs, boundaries) -> Figure:
    """LLC and loss of each seed over training, thin, their mean in black, and its boundaries."""
    fig, (top, bottom) = figure(2, 1, height=5.4, sharex=True)
    for run, colour in zip(runs, SEED_COLOURS, strict=False):
        seed, llc = run.manifest["seed"], run["llc"]
        top.plot(llc.step, llc.llc, color=colour, lw=1, label=f"seed {seed}")
        top.fill_between(llc.step, llc.llc - 2 * llc.mcse, llc.llc + 2 * llc.mcse, color=colour,
                         alpha=0.15, lw=0)
        bottom.plot(run["behaviour"].step, run["behaviour"].loss, color=colour, lw=1)
        for ax in (top, bottom):
            ax.vlines(boundaries[seed], 0.94, 1, color=colour, lw=1.6,
                      transform=ax.get_xaxis_transform())
    mean = joined(runs).groupby("step").llc.mean()
    top.plot(mean.index, mean, color=BLACK, lw=1.8, label="mean")
    bottom.set_xlim(0, max(mean.index.max(), 10))
    log_steps(top, label=False)
    log_steps(bottom)
    top.set_ylabel("LLC (no unit)")
    bottom.set_ylabel("test loss (nats)")
    top.legend(fontsize=8, ncols=2)
    return fig
