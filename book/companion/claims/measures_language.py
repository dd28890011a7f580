"""How each claim about the language models is read off their tables: one function a claim
(companion.claims.measures)."""

import numpy as np

from companion.claims.registry import measures
from companion.claims.table_rows import brownian_share, composition_baseline
from companion.claims.verdicts import onset
from devlib.steps import at, nearest

TWO, ONE = "language-2layer", "language-1layer"


def least_bigram(run, kind=TWO):
    """The checkpoint whose bigram score is least."""
    behaviour = run[kind]["behaviour"]
    return behaviour.loc[behaviour.bigram.idxmin()]


@measures("LM-1", TWO)
def bigram_score(run, of, step=None):
    """The bigram score's minimum."""
    behaviour, least = run[TWO]["behaviour"], least_bigram(run)
    if of == "level":
        found = at(behaviour, step)
        return found.bigram_excess, found.bigram_excess_se
    if of == "rise":  # from the least score to the last
        if least.step == 0:
            return np.nan, None
        return behaviour.iloc[-1].bigram_excess - least.bigram_excess, least.bigram_excess_se
    if of == "boundary":
        boundaries = run.stages(TWO)[1]
        return (least.step / boundaries[0] if boundaries else np.nan), None
    return least.bigram_excess, least.bigram_excess_se


@measures("LM-2", TWO)
def positional_ablation(run, of, step=None):
    """What positions are worth."""
    behaviour = run[TWO]["behaviour"]
    end = behaviour.iloc[-1]
    if of == "share":  # of the last gap, at the bigram minimum
        found = at(behaviour, least_bigram(run).step)
        if not end.ablation:
            return np.nan, None
        return found.ablation / end.ablation, found.ablation_se / abs(end.ablation)
    found = end if step is None else at(behaviour, step)
    return found.ablation, found.ablation_se


@measures("LM-3", TWO)
def ngram_scores(run, of, n=None, step=None):
    """The n-gram scores."""
    behaviour = run[TWO]["behaviour"]
    if of == "level":
        found = at(behaviour, step)
        return found[f"ngram_{n}"], found[f"ngram_{n}_se"]
    first, end = at(behaviour, least_bigram(run).step), behaviour.iloc[-1]
    gain = {n: end[f"ngram_{n}"] / first[f"ngram_{n}"] for n in (2, 3, 4)}
    return min(gain[3], gain[4]) / gain[2], None


def _heads(run, layer, column, of, step):
    """The highest score of a layer's heads, or its ratio to the mean of untrained heads."""
    heads = run[TWO]["heads"]
    now = heads[(heads.step == (heads.step.max() if step is None else at(heads, step).step))
                & (heads.layer == layer)]
    best = now.loc[now[column].idxmax()]
    unit = heads[column][heads.step == 0].mean() if of == "times" else 1.0
    return best[column] / unit, best[f"{column}_se"] / unit


@measures("LM-4", TWO)
def previous_token_heads(run, of, step=None):
    """The best previous-token scores."""
    return _heads(run, 1, "previous", of, step)


@measures("LM-5", TWO)
def prefix_matching_heads(run, of, step=None):
    """The best prefix-matching scores."""
    return _heads(run, 2, "prefix", of, step)


@measures("LM-6", TWO)
def icl_score(run, step=None):
    """The ICL score."""
    behaviour = run[TWO]["behaviour"]
    found = behaviour.iloc[-1] if step is None else at(behaviour, step)
    return found.icl, found.icl_se


@measures("LM-7", TWO)
def k_composition(run):
    """K-composition beside that of untrained weights."""
    composition = run[TWO]["composition"]
    halfway = (least_bigram(run).step + run.last(TWO)) / 2
    step = at(composition, halfway).step
    return (composition.k[composition.step == step].max()
            / composition_baseline(composition).k), None


@measures("LM-8", TWO)
def position_component(run, of, step=None):
    """Variance explained by the first component of W_pos."""
    structure = run[TWO]["structure"]
    if of == "level":
        return at(structure, step).position_pc_1, None
    return structure.position_pc_1.max() - brownian_share(run.scale.language.model.context), None


@measures("LM-9", TWO, ONE)
def language_loss(run, of, step=None, layers=2):
    """The test loss of a language model."""
    tables = run[TWO if layers == 2 else ONE]
    found = tables["behaviour"].iloc[-1] if step is None else at(tables["behaviour"], step)
    below = float(tables["corpus"].iloc[-1].bigram_loss) if of == "below bigrams" else 0.0
    return found.loss - below, found.loss_se


@measures("LM-10", ONE, TWO)
def one_layer(run, of):
    """The one-layer model's events at its second boundary."""
    behaviour, least = run[ONE]["behaviour"], least_bigram(run, ONE)
    if of == "drop":
        return _drop(run[ONE]["llc"], least.step), None
    if of == "two layers":
        two = run[TWO]["behaviour"]
        two = two[two.step <= run.last(ONE)]
        other = two.step[two.bigram.idxmin()]
    elif of == "boundary":
        other = nearest(run.stages(ONE)[1], least.step, log=True)
    elif of == "positions":
        other = onset(behaviour.ablation, behaviour.step)
    else:
        other = onset(behaviour.ngram_3, behaviour.step, start=1)
    return (other + 1) / (least.step + 1), None


def _drop(llc, step):
    """How far the LLC falls, in standard errors, from its highest before twice a step to its least
    between there and four times the step."""
    before = llc[llc.step <= 2 * step]
    top = before.loc[before.llc.idxmax()]
    after = llc[(llc.step >= top.step) & (llc.step <= 4 * step)]
    low = after.loc[after.llc.idxmin()]
    return (top.llc - low.llc) / np.hypot(top.mcse, low.mcse)
