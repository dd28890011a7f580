"""How each claim about the language models is read off their tables: one function a claim
(companion.claims.measures)."""

import numpy as np

from companion.claims.interval import Reading
from companion.claims.paired import change
from companion.claims.registry import llc_change, measures, spacing
from companion.claims.table_rows import brownian_share
from companion.claims.verdicts import first_to_make, onset
from companion.health import ill
from devlib.steps import at, nearest

TWO, ONE = "language-2layer", "language-1layer"


def least_bigram(run, kind=TWO):
    """The checkpoint whose bigram score is least."""
    behaviour = run[kind]["behaviour"]
    return behaviour.loc[behaviour.bigram.idxmin()]


def when(step, steps) -> Reading:
    """A step at which something was seen, no more sharply than checkpoints are spaced."""
    return Reading(float(step), blind=spacing(steps, step))


def after(later, earlier, steps) -> Reading:
    """By how much one step is after another, in the log of their ratio, both counted from 1."""
    return Reading(float(np.log1p(later) - np.log1p(earlier)),
                   blind=max(spacing(steps, later), spacing(steps, earlier)))


def half_way(values, steps, run) -> float:
    """The step at which half of the way from the bigram minimum to the last value is made."""
    return first_to_make(0.5, values, steps, least_bigram(run).step)


def trigrams_begin(run) -> int:
    """The step at which trigrams have made a tenth of their gain."""
    behaviour = run[TWO]["behaviour"]
    return onset(behaviour.ngram_3, behaviour.step, start=1)


@measures("LM-1")
def bigram_score(run, of, step=None):
    """The bigram score's minimum: where, how low, and what follows."""
    behaviour, least = run[TWO]["behaviour"], least_bigram(run)
    if of == "level":
        found = at(behaviour, step)
        return Reading(found.bigram_excess, found.bigram_excess_se)
    if of == "rise":  # from the least score to the last
        return change(behaviour, least.step, run.last(TWO), "bigram_excess", run.blocks(TWO), "LM")
    if of == "boundary":
        boundaries = run.stages(TWO)[1]
        if not boundaries:
            return Reading(np.nan)
        return Reading(least.step / boundaries[0], blind=spacing(behaviour.step, least.step),
                       ill=ill(run[TWO], boundaries[0]))
    return (when(least.step, behaviour.step) if of == "step" else
            Reading(least.bigram_excess, least.bigram_excess_se))


@measures("LM-2")
def positional_ablation(run, of, step=None):
    """What positions are worth."""
    behaviour = run[TWO]["behaviour"]
    end = behaviour.iloc[-1]
    begins = onset(behaviour.ablation, behaviour.step)
    if of == "when":
        return when(begins, behaviour.step)
    if of == "order":
        return after(begins, least_bigram(run).step, behaviour.step)
    found = end if step is None else at(behaviour, step)
    if of == "share":  # of the last gap, at the bigram minimum
        if not end.ablation:
            return Reading(np.nan)
        found = least_bigram(run)
        return Reading(found.ablation / end.ablation, found.ablation_se / abs(end.ablation))
    return Reading(found.ablation, found.ablation_se)


@measures("LM-3")
def ngram_scores(run, of, n, step=None):
    """The n-gram scores, and when they have made a tenth of their gain."""
    behaviour = run[TWO]["behaviour"]
    begins = onset(behaviour[f"ngram_{n}"], behaviour.step, start=1)
    if of == "when":
        return when(begins, behaviour.step)
    if of == "order":
        return after(begins, least_bigram(run).step, behaviour.step)
    found = behaviour.iloc[-1] if step is None else at(behaviour, step)
    return Reading(found[f"ngram_{n}"], found[f"ngram_{n}_se"])


def best_head(run, layer, column):
    """The table over training of the head of a layer whose score is highest at the end."""
    heads = run[TWO]["heads"]
    heads = heads[heads.layer == layer]
    end = heads[heads.step == heads.step.max()]
    best = end.loc[end[column].idxmax()]
    return heads[heads["head"] == best["head"]].sort_values("step").reset_index(drop=True)


def _heads(run, layer, column, of, step=None):
    """A head's score; its score over the mean of untrained heads; or when it has made half of its
    way, as a step or after trigrams have begun."""
    best, heads = best_head(run, layer, column), run[TWO]["heads"]
    half = half_way(best[column], best.step, run)
    if of == "when":
        return when(half, best.step)
    if of == "order":
        return after(half, trigrams_begin(run), best.step)
    found = best.iloc[-1] if step is None else at(best, step)
    unit = heads[column][heads.step == heads.step.min()].mean() if of == "times" else 1.0
    return Reading(found[column] / unit, found[f"{column}_se"] / unit)


@measures("LM-4")
def previous_token_heads(run, **row):
    """The best previous-token head."""
    return _heads(run, 1, "previous", **row)


@measures("LM-5")
def prefix_matching_heads(run, **row):
    """The best prefix-matching head."""
    return _heads(run, 2, "prefix", **row)


@measures("LM-6")
def icl_score(run, of, step=None, start=None):
    """The ICL score."""
    behaviour = run[TWO]["behaviour"]
    half = half_way(behaviour.icl, behaviour.step, run)
    if of == "when":
        return when(half, behaviour.step)
    if of == "order":
        return after(half, trigrams_begin(run), behaviour.step)
    if of == "drop":
        return change(behaviour, least_bigram(run).step, run.last(TWO), "icl", run.blocks(TWO),
                      "LM")
    if of == "change":
        return change(behaviour, start, step, "icl", run.blocks(TWO), "LM")
    found = behaviour.iloc[-1] if step is None else at(behaviour, step)
    return Reading(found.icl, found.icl_se)


@measures("LM-7")
def k_composition(run, of, step=None):
    """K-composition of the induction circuit's pair, the best previous-token head with the best
    prefix-matching head, over the mean of all pairs at the same step."""
    composition = run[TWO]["composition"]
    earlier, later = (best_head(run, layer, column)["head"][0]
                      for layer, column in ((1, "previous"), (2, "prefix")))
    pair = composition[(composition.earlier_head == earlier)
                       & (composition.later_head == later)].set_index("step").k.sort_index()
    ratio = pair / composition.groupby("step").k.mean()
    half = half_way(ratio.to_numpy(), ratio.index.to_numpy(), run)
    if of == "when":
        return when(half, ratio.index)
    if of == "order":  # the attention pattern's half after it
        head = best_head(run, 1, "previous")
        return after(half_way(head.previous, head.step, run), half, ratio.index)
    return Reading(ratio.iloc[-1] if step is None else ratio[nearest(ratio.index, step)])


@measures("LM-8")
def position_component(run, of, step=None):
    """Variance explained by the first component of W_pos."""
    structure = run[TWO]["structure"]
    found = structure.iloc[-1] if step is None else at(structure, step)
    less = brownian_share(run.scale.language.model.context) if of == "excess" else 0.0
    return Reading(found.position_pc_1 - less)


@measures("LM-9")
def language_loss(run, of, step=None, layers=2):
    """The test loss of a language model."""
    tables = run[TWO if layers == 2 else ONE]
    found = tables["behaviour"].iloc[-1] if step is None else at(tables["behaviour"], step)
    below = float(tables["corpus"].iloc[-1].bigram_loss) if of == "below bigrams" else 0.0
    return Reading(found.loss - below, found.loss_se)


@measures("LM-10")
def one_layer(run, of):
    """The one-layer model's events, in steps or beside its bigram minimum."""
    behaviour, least = run[ONE]["behaviour"], least_bigram(run, ONE)
    if of == "bigrams":
        return when(least.step, behaviour.step)
    if of == "positions":
        other = onset(behaviour.ablation, behaviour.step)
    elif of == "trigrams":
        other = onset(behaviour.ngram_3, behaviour.step, start=1)
    elif of == "two layers":
        two = run[TWO]["behaviour"]
        two = two[two.step <= run.last(ONE)]
        other = two.step[two.bigram.idxmin()]
    else:
        boundaries = run.stages(ONE)[1]
        other = boundaries[1] if len(boundaries) > 1 else np.nan  # the second one, says E
    return Reading((other + 1) / (least.step + 1), blind=spacing(behaviour.step, least.step),
                   ill=ill(run[ONE], *run.stages(ONE)[1]) if of == "boundary" else "")


@measures("LM-13")
def one_layer_drop(run, of, start, end):
    """What the one-layer model's LLC does between two steps, or how far its loss rises there from
    the least it had had: a bump."""
    tables = run[ONE]
    if of == "llc":
        return llc_change(tables["llc"], start, end, ill(tables, start, end))
    behaviour = tables["behaviour"]
    part = behaviour[behaviour.step.between(start, end)]
    rise = part.loss - part.loss.cummin()
    top, low = part.loc[rise.idxmax()], part.loss.loc[:rise.idxmax()].idxmin()
    return Reading(rise.max(), float(np.hypot(top.loss_se, part.loss_se[low])))


@measures("LM-11")
def language_llc(run, of, step=None):
    """The two-layer model's LLC at a step, and its change from the bigram minimum on."""
    tables = run[TWO]
    if of == "climb":
        start, end = least_bigram(run).step, run.last(TWO)
        return llc_change(tables["llc"], start, end, ill(tables, start, end))
    found = at(tables["llc"], step)
    return Reading(found.llc, found.mcse, ill=ill(tables, step))
