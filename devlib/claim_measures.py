"""How each claim of data/claims.yaml is read off result tables: one function a claim.

A measurement takes a `Run` (devlib.claims) and what the row's `at` says; `of` names which of
several quantities is asked for. It returns (value, standard error or None); a value that is not
finite where it looked and found nothing; or None if this run cannot tell.
"""

import numpy as np

from devlib.steps import at, nearest
from devlib.table_rows import (
    HESSIAN_ERRORS,
    brownian_share,
    classify,
    composition_baseline,
    near,
    plateaus_on,
    reversed_pairs,
)
from devlib.verdicts import onset

MEASURES, NEEDS = {}, {}
TWO, ONE = "language-2layer", "language-1layer"


def measures(claim, *kinds):
    """Registers a claim's measurement. The first kind of tables decides which run is taken and how
    far it went; without the others, rows that read them are not run."""
    def register(function):
        MEASURES[claim], NEEDS[claim] = function, kinds
        return function
    return register


def change(table, start, end, column, error):
    """(change, standard error) between two steps, their errors combined."""
    first, last = at(table, start), at(table, end)
    return last[column] - first[column], np.hypot(first[error], last[error])


# ----------------------------------------------------------------------------------- regression


@measures("LR-1", "regression")
def llc_at_steps(run, step):
    """The LLC at a step."""
    found = at(run["regression"]["llc"], step)
    return found.llc, found.mcse


@measures("LR-2", "regression")
def stage_changes(run, of, start=None, end=None):
    """What a stage changes, or the boundary nearest to its end."""
    tables = run["regression"]
    if of == "boundary":
        return nearest(run.stages("regression")[1], end, log=True), None
    if of == "loss":
        return change(tables["evaluation"], start, end, "loss", "loss_se")
    if of == "climb":  # from one step to the run's last
        return change(tables["llc"], start, tables["llc"].step.max(), "llc", "mcse")
    return change(tables["llc"], start, end, "llc", "mcse")


@measures("LR-3", "regression")
def test_loss(run, step, above=0.0):
    """The test loss at a step, above that of another predictor."""
    found = at(run["regression"]["evaluation"], step)
    return found.loss - above, found.loss_se


@measures("LR-4", "regression")
def mean_square_prediction(run, of):
    """Least mean-square prediction, and its step."""
    evaluation = run["regression"]["evaluation"]
    lowest = evaluation.loc[evaluation.msp.idxmin()]
    return (lowest.step, None) if of == "step" else (lowest.msp, lowest.msp_se)


@measures("LR-5", "development")
def early_icl(run, of, step=None):
    """The early ICL score."""
    behaviour = run["development"]["behaviour"]
    if of == "level":  # with the noise of the released evaluation
        found = at(behaviour, step)
        return found.icl_early_slip, found.icl_early_slip_se
    end = min(step, run.last("development"))
    fall, error = change(behaviour, 984, end, "icl_early", "icl_early_se")
    return -fall, error


@measures("LR-6", "development")
def late_icl(run, of, step=None):
    """The late ICL score."""
    behaviour = run["development"]["behaviour"]
    if of == "level":
        found = at(behaviour, step)
        return found.icl_late_slip, found.icl_late_slip_se
    if of == "range":
        return np.ptp(behaviour.icl_late[behaviour.step >= step]), None
    top = behaviour.loc[behaviour.icl_late[behaviour.step <= step].idxmax()]
    return change(behaviour, 0, top.step, "icl_late", "icl_late_se")


def _out_of_distribution(run, family, step, gain):
    found, name = at(run["development"]["behaviour"], step), f"ood_{family}_{gain:g}"
    return found[name], found[f"{name}_se"]


@measures("LR-7", "development")
def scaled_inputs(run, step, gain):
    """Normalised error on scaled inputs."""
    return _out_of_distribution(run, "input", step, gain)


@measures("LR-8", "development")
def scaled_tasks(run, step, gain):
    """Normalised error on scaled tasks."""
    return _out_of_distribution(run, "task", step, gain)


@measures("LR-9", "development")
def embedding_share(run, of, step):
    """Shares of the embedding's components."""
    found = at(run["development"]["structure"], step)
    if of == "fifth":
        return found.embed_5, None
    others = [found[f"embed_{i}"] for i in range(1, 5)]
    return {"least": min, "greatest": max}[of](others), None


@measures("LR-10", "development")
def unembedding_collapse(run, step):
    """Share of the last LayerNorm's weights that collapsed."""
    return at(run["development"]["structure"], step).unembed_ln_collapsed, None


@measures("LR-11", "development")
def other_layer_norms(run, of):
    """The same of the other LayerNorms."""
    end = run["development"]["structure"].iloc[-1]
    first, *others = (end[f"blocks.{block}.ln{place}_collapsed"]
                      for block in (0, 1) for place in (1, 2))
    return (first, None) if of == "share" else (first - max(others), None)


@measures("LR-12", "regression")
def weight_norm(run, step):
    """The norm of all weights."""
    return at(run["regression"]["evaluation"], step).weight_norm, None


@measures("LR-13", "regression", "hessian")
def hessian_statistics(run, of, column, step=None):
    """Hessian statistics, and how many boundaries they find."""
    statistics = run["hessian"]["statistics"]
    if of == "level":
        found = at(statistics, step)
        return found[column], found[HESSIAN_ERRORS[column]]
    boundaries = run.stages("regression")[1]
    if not boundaries:
        return None
    found = plateaus_on(statistics[column], statistics[HESSIAN_ERRORS[column]], statistics.step,
                        run["regression"]["llc"], run.regression_rule)
    return np.mean([any(near(step, b, 1.5) for step in found) for b in boundaries]), None


@measures("LR-14", "development")
def hard_heads(run):
    """How many kinds of hard, constant heads there are."""
    heads = run["development"]["heads"]
    final = heads[heads.step == heads.step.max()]
    kinds = {classify(row, run.scale.metrics) for _, row in final.iterrows()}
    return len(kinds - {"-"}), None


SEEDS = 5  # that LR-15 speaks of


@measures("LR-15", "regression")
def all_seeds(run, of, start=None, end=None, middle=None):
    """How far every seed shows the stages."""
    runs = run.others
    if len({other.seed for other in runs}) < SEEDS or (
            min(other.last("regression") for other in runs) + 1 < 499_999):
        return None
    if of == "llc":  # of the seed that is farthest from the released ones' middle
        return max((change(other["regression"]["llc"], start, end, "llc", "mcse")
                    for other in runs), key=lambda found: abs(found[0] - middle))
    factors = [nearest(other.stages("regression")[1], end, log=True) / end for other in runs]
    return max(factors, key=lambda factor: abs(np.log(factor)) if factor > 0 else np.inf), None


@measures("LR-16", "calibration")
def two_losses(run):
    """Pairs of checkpoints that two losses order differently."""
    runs = run["calibration"]["runs"]
    likelihood = runs[runs.part == "likelihood"].reset_index(drop=True)
    loss = runs[(runs.part == "seeded") & runs.step.isin(likelihood.step)].reset_index(drop=True)
    return reversed_pairs(loss, likelihood), None


# ------------------------------------------------------------------------------ language models


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


# ---------------------------------------------------------------------------------- exact answers


def _toys(run, of, potential=None, group=None):
    found = run["primer"]["estimates"]
    if of != "estimate":
        row = found[found.potential == potential].iloc[0]
        return row[{"rule": "llc", "integral": "limit"}[of]], None
    toys = run["primer"].manifest["settings"]["toys"]
    rows = found[found.group == group]
    settled = toys["burn_in"] * toys["eps"] * toys["gamma"] >= 4  # as primer.Sampling.settled
    if not settled or rows.ess.min() < 200:
        return None
    return ((rows.estimate - rows.reference).abs() / rows.mcse).max(), None


@measures("A-1", "primer")
def exact_examples(run, **row):
    """Estimates beside exact LLCs."""
    return _toys(run, group="A.2", **row)


@measures("A-2", "primer")
def figure_2(run, **row):
    """Estimates beside the exact LLCs of Fig. 2."""
    return _toys(run, group="Fig. 2", **row)
