"""What the book's front page shows, computed from the committed tables: the headline figures, five
findings, and what is new here. Nothing is trained or sampled."""

import functools
import json
import re

import pandas as pd

from companion import figures, presets
from companion.claims import seeds
from companion.claims.table_rows import HESSIAN_ERRORS, MATCH, matched, plateaus_on
from companion.figures_released import GREY
from companion.health import curve_health, ill, withdrawn
from companion.long_chains import as_published, left_out
from companion.pages import curve
from companion.paper_stages import find_named, match, paper_ends
from companion.places import project_root
from companion.program import PROGRAM
from companion.runs import COMMITTED, MANIFEST, finished
from companion.tables import Results, load
from devlib.errors import UserError
from devlib.settings import LLCSettings, RegressionMetrics
from devlib.stages import is_unsound
from devlib.steps import at

NEAR = 40_000  # the last step at which our curve lies near the released
FIRST = 100  # the first step of the released language model after its step 0
RELEASED = project_root() / "data" / "released.json"


@functools.cache
def largest(stem) -> Results:
    """The tables of the largest preset that has any of this kind, of its lowest seed, and of the
    regression's side tables of its lowest seed that has an LLC curve. Raises UserError if there are
    none."""
    for preset in reversed(presets.PRESETS):
        keys = [key for key in finished(preset, COMMITTED) if key.stem == stem]
        if keys:
            return load(min(keys, key=lambda key: not has_curve(key)).committed)
    raise UserError(f"data/results has no tables of {stem}, which the front page shows; "
                    f"{PROGRAM} reproduce makes them")


def has_curve(key) -> bool:
    """Whether the run that tables are about has its own tables committed, the LLC among them."""
    return (key.trained.committed / MANIFEST).exists()


def others(*stems) -> list[Results]:
    """The committed tables of these kinds of the further seeds of the run that the page shows."""
    shown = regression()[0].manifest
    return [load(key.committed) for key in finished(shown["preset"], COMMITTED)
            if key.stem in stems and key.seed != shown["seed"]]


@functools.cache
def regression(tables=largest):
    """The regression run that the page shows: its tables, boundaries and named stages."""
    run = tables("regression-doubled")
    _, boundaries, stages = find_named(run["llc"], run["evaluation"], _rule(run))
    return run, boundaries, stages


def _rule(run):
    return presets.get(run.manifest["preset"]).regression.stages


@functools.cache
def released_language() -> pd.DataFrame:
    """The released two-layer language model where the paper's stages end: step, loss, llc, and
    llc_corrected, less the artefact of its first row."""
    found = json.loads(RELEASED.read_text(encoding="utf-8"))["llc_language_2layer"]
    return pd.DataFrame({"step": found["step"], "loss": found["loss"], "llc": found["llc"],
                         "llc_corrected": found["corrected"]})


def headline_language():
    """Test loss and LLC of our two-layer language model over the released one, whose LLC is less
    its artefact."""
    run = largest("language-2layer")
    settings = presets.get(run.manifest["preset"]).language
    ends = paper_ends(settings)
    _, _, stages = find_named(run["llc"], run["behaviour"], settings.stages, ends)
    fig, axes = figures.figure(1, 2, height=3.3)
    for ax, (name, table, error, unit, colour) in zip(axes, (
            ("loss", run["behaviour"], "loss_se", "test loss (nats a token)", figures.BLUE),
            ("llc", run["llc"], "mcse", "LLC (no unit)", figures.VERMILLION)), strict=True):
        theirs = seeds.curve(name, of="language-2layer")
        last = max(theirs.step.max(), table.step.max())
        ax.set_xlim(0, last)
        ax.plot(theirs.step, theirs["mean"], color=GREY, lw=1.2, zorder=3, label="released: one "
                "run" + (", artefact removed" if name == "llc" else ""))
        _ours(ax, table, name, error, colour)
        figures.stage_bands(ax, stages)
        figures.paper_ticks(ax, ends, last)
        figures.log_steps(ax)
        ax.set_ylabel(unit)
        ax.legend(fontsize=8, loc="best")
    return fig


def _ours(ax, table, name, error, colour):
    ax.plot(table.step, table[name], color=colour, lw=1.5,
            label="here, band of two standard errors")
    ax.fill_between(table.step, table[name] - 2 * table[error], table[name] + 2 * table[error],
                    color=colour, alpha=0.35, lw=0)


def _further(ax, tables, name, colour, form):
    """The same of further seeds: thin lines, or small open marks."""
    for number, table in enumerate(tables):
        ax.plot(table.step, table[name], form, color=colour, lw=0.7, ms=4, mfc="white", mew=0.8,
                zorder=3, label=None if number else "the same, further seeds")


def headline():
    """Test loss and LLC of our run over the mean and range of the released five: by log time on
    the left, by linear time on the right."""
    run, _, stages = regression()
    rule = presets.get(run.manifest["preset"]).regression
    last = run["evaluation"].step.max()
    fig, axes = figures.figure(2, 2, height=5.4, sharex="col", sharey="row")
    for row, (name, table, error, unit, colour) in zip(axes, (
            ("loss", run["evaluation"], "loss_se", "test loss\n(squared target units)",
             figures.BLUE), ("llc", run["llc"], "mcse", "LLC (no unit)", figures.VERMILLION)),
            strict=True):
        theirs = seeds.curve(name, last)
        for ax, linear in zip(row, (False, True), strict=True):
            ax.set_xlim(0, last)
            ax.fill_between(theirs.step, theirs.least, theirs.greatest, color=figures.BLACK,
                            alpha=0.25, lw=0, label="released: range of five seeds")
            ax.plot(theirs.step, theirs["mean"], color=figures.BLACK, lw=1, ls="--",
                    label="released: their mean")
            _ours(ax, table, name, error, colour)
            if name == "loss":
                _further(ax, [other["evaluation"] for other in others(
                    "evaluation-doubled", "regression-doubled")], "loss", colour, "-")
            else:
                bad = table[is_unsound(curve_health(table, rule.llc))]
                ax.plot(bad.step, bad.llc, color=colour, marker="o", ms=3, mfc="white", lw=0,
                        mew=0.8, label="no measurement: depends on the chains' length")
                long = as_published(largest("protocols-doubled")["estimates"])
                ax.plot(long.step, long.llc, "D", color=figures.GREEN, ms=4, zorder=4,
                        label="here, chains as long and averaged as the paper's")
                _further(ax, [as_published(other["estimates"]) for other in others(
                    "protocols-doubled")], "llc", figures.GREEN, "d")
            figures.stage_bands(ax, stages, label=ax in axes[0])
            figures.paper_ticks(ax, {name: end for name, end in paper_ends().items()
                                     if end < 500_000}, last)
            figures.log_steps(ax, label=ax in axes[1], linear=linear)
        row[0].set_ylabel(unit)
        row[1].legend(fontsize=8, loc="best")
    axes[1, 1].locator_params(axis="x", nbins=5)
    return fig


def findings(tables=largest) -> list[str]:
    """Five findings, a sentence or two each, in the book's Markdown. `tables` gives the results of
    a stem (default: the largest that are committed), or raises UserError if there are none."""
    return [finding(tables) for finding in (_curve, _stages, _behaviour, _hessian, _language)]


def plain(line) -> str:
    """A finding without Markdown: no marks, and no link to a page."""
    line = re.sub(r"\s*\(\[[^]]*\]\([^)]*\)\)", "", line)
    return line.replace("**", "").replace("±", "+-")


def _curve(tables):
    run, _, _ = regression(tables)
    llc, last = run["llc"], run["llc"].step.max()
    end, top = llc.iloc[-1], llc.loc[llc.llc.idxmax()]
    said = (f"**The LLC curve.** In our regression run it climbs to {top.llc:.0f} at step "
            f"{top.step:,.0f} and ends at {end.llc:.0f}"
            + (", a number that depends on how long the chains are" if ill(run, last) else
               f" ± {end.mcse:.0f}"))
    page = " ([stage boundaries](../notebooks/02_stage_boundaries))."
    if presets.get(run.manifest["preset"]).regression.model != presets.PAPER.regression.model:
        return f"{said}{page}"
    near = min(NEAR, last)
    both = llc[llc.step <= near].merge(seeds.curve("llc", near), on="step")
    theirs = at(seeds.curve("llc", last), last)
    return (f"{said}, {_beside(end.llc, 2 * end.mcse, theirs)} the {theirs.least:.0f} to "
            f"{theirs.greatest:.0f} of the five released seeds. Up to step {near:,} it is never "
            f"more than {(both.llc - both['mean']).abs().max():.0f} from their mean{page}")


def _beside(value, error, theirs):
    return ("below" if value + error < theirs.least else
            "above" if value - error > theirs.greatest else "within")


def _stages(tables):
    run, boundaries, stages = regression(tables)
    inner = {name: end for name, end in paper_ends().items()
             if end < min(500_000, stages.end.iloc[-1])}
    found = match(boundaries, inner)
    if not inner:
        return (f"**Its stages.** Boundaries found: {len(boundaries)}. The run ends before the "
                "paper's first.")
    chains = LLCSettings(**run.manifest["settings"]["llc"])
    gone = withdrawn(run["llc"], run["evaluation"], chains, _rule(run))
    unsound = (f" {len(gone)} of the {len(boundaries)} go when the LLC estimates that failed their "
               "checks are left out." if gone else "")
    return (f"**Its stages.** {len(found)} of the paper's {len(inner)} boundaries are among our "
            f"{len(boundaries)}, each within a factor of {MATCH:g}. The paper does not have the "
            f"other {len(boundaries) - len(found)}.{unsound} How many there are depends on the "
            "rule ([how much](../notebooks/02_stage_boundaries)).")


def _behaviour(tables):
    run, limit = tables("development-doubled"), RegressionMetrics().collapse
    behaviour, collapsed = run["behaviour"], run["structure"].unembed_ln_collapsed
    least = behaviour.loc[behaviour.icl_early.idxmin()]
    learns = "learns" if least.icl_early < -2 * least.icl_early_se else "does not learn"
    falls = "collapses" if collapsed.iloc[-1] > 0.5 > collapsed.iloc[0] else "does not collapse"
    return (f"**What the model does.** It {learns} in context: the early ICL score comes to "
            f"{least.icl_early:.2f} ± {least.icl_early_se:.2f}. Then its read-out {falls}: at "
            f"the end {collapsed.iloc[-1]:.0%} of the last LayerNorm's weights are below {limit:g} "
            f"in size, at the start {collapsed.iloc[0]:.0%} "
            "([regression stages](../notebooks/06_regression_stages)).")


def _hessian(tables):
    run, boundaries, _ = regression(tables)
    statistics = tables("hessian-doubled")["statistics"]
    rule = _rule(run)
    found = {column: len(matched(plateaus_on(
        statistics[column], statistics[HESSIAN_ERRORS[column]], statistics.step, run["llc"],
        rule), boundaries)) for column in ("trace", "eig_1")}
    return (f"**Curvature.** By the same rule the Hessian's trace finds {found['trace']} "
            f"of the LLC's {len(boundaries)} boundaries and its largest eigenvalue "
            f"{found['eig_1']} ([Hessian comparison](../notebooks/08_hessian_comparison)).")


def _language(tables):
    run = tables("language-2layer")
    behaviour, heads = run["behaviour"], run["heads"]
    least, end = behaviour.loc[behaviour.bigram.idxmin()], behaviour.iloc[-1]
    last, first = heads[heads.step == heads.step.max()], heads[heads.step == 0]
    return (f"**A language model, on other text.** {_language_curve(run)}Bigrams are best at step "
            f"{least.step:,.0f}. At step {end.step:,.0f} the best prefix-matching head scores "
            f"{last.prefix.max():.2f} (untrained: {first.prefix.mean():.2f}), and the ICL score is "
            f"{end.icl:.2f} ± {end.icl_se:.2f} nats "
            "([language stages](../notebooks/10_language_stages)).")


def _language_curve(run):
    """How far the LLC is from the released one, where a run's steps are the paper's."""
    if not paper_ends(presets.get(run.manifest["preset"]).language):
        return ""
    llc = run["llc"]
    apart = [row.llc - seeds.released_at("llc", row.step, "language-2layer")
             for row in llc[llc.step >= FIRST].itertuples()]
    return (f"By the paper's optimiser its LLC lies {min(apart):+.0f} to {max(apart):+.0f} from "
            f"the released one at steps {FIRST} to {llc.step.max():,}. ")


def news() -> list[str]:
    """What this book adds to the paper, a sentence or two each, in the book's Markdown."""
    examples, (run, _, _) = largest("primer")["estimates"], regression()
    llc = run["llc"]
    off = ((examples.estimate - examples.reference) / examples.mcse).abs().max()
    language = released_language().iloc[0]
    return [
        _what_the_curve_measures(),
        f"**The health of each estimate.** The estimator is held against {len(examples)} losses "
        f"whose answer is known, and is at most {off:.1f} standard errors off "
        "([primer](../notebooks/03_primer)). Every LLC has a standard error, an effective sample "
        f"size and R-hat. On the curve above the error is at most 2% at "
        f"{(llc.mcse <= 0.02 * llc.llc.abs()).mean():.0%} of {len(llc)} checkpoints; "
        f"{llc.diverged.sum():.0f} chains diverged "
        "([by which sampler](../notebooks/02_stage_boundaries)). At "
        f"{sum(bool(ill(run, step)) for step in llc.step)} of the checkpoints the estimate "
        "depends on how long the chains are, or they disagree: the [claims](claims) take it for no "
        "measurement.",
        f"**Corrections.** Paper, code and released results differ in places, each of which is "
        f"measured. The released LLC of the language model is {language.llc:.0f} at step 0; "
        f"without an artefact of the released code it would be {language.llc_corrected:.0f} "
        "([where they differ](../notebooks/13_fidelity))."]


def _what_the_curve_measures():
    table, run = curve.released_plateaus(), largest("protocols-doubled")
    least = table.value[table.curve == "correlation to 40404"].min()
    chosen = presets.get(run.manifest["preset"]).protocols
    long = curve.long_starts(run["estimates"], run["climb"], left_out(chosen))
    last = long[long.step == long.step.max()].set_index("start").llc
    beside = curve.beside_seeds(as_published(run["estimates"]), regression()[0]["evaluation"])
    return ("**What the curve measures.** Up to step 40,404 the LLC at the paper's settings is "
            f"the test loss upside down, with r = {least:.5f} or more in each of the five released "
            "seeds: its chains unlearn the task. Later it depends on where a chain starts. At step "
            f"{long.step.max():,} chains from the checkpoint say {last.w0:.0f}, chains from "
            f"the prior {last.prior:.0f}. Run for as long as the paper's and averaged in the same "
            f"way, our chains lie within the 95% interval of its seeds at {beside.within.sum()} of "
            f"{len(beside)} checkpoints; early and late it is too wide to tell much "
            "([what the curve measures](../notebooks/16_what_the_curve_measures)).")
