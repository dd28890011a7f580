"""How claims of Appendix D about the regression model are read off its tables: one function a claim
(companion.claims.measures)."""

import numpy as np

from companion.claims.interval import Reading
from companion.claims.paired import change
from companion.claims.registry import measures, spacing
from companion.claims.table_rows import classify
from companion.claims.verdicts import first_to_make
from devlib.steps import at

LR1_END = 984  # the paper's 1k, at its own checkpoint
LOW_NOISE = 0.125 - 0.125**2  # what the released evaluation's target variance lacks


@measures("LR-5")
def early_icl(run, of, step=None, start=None):
    """The early ICL score, with the noise of the released evaluation."""
    behaviour = run["development"]["behaviour"]
    if of == "level":
        found = at(behaviour, step)
        return Reading(found.icl_early_slip, found.icl_early_slip_se)
    if of == "half":
        half = first_to_make(0.5, behaviour.icl_early_slip, behaviour.step, LR1_END)
        return Reading(half, blind=spacing(behaviour.step, half))
    return change(behaviour, start, step, "icl_early_slip", run.blocks("development"))


@measures("LR-6")
def late_icl(run, of, step=None):
    """The late ICL score, with the noise of the released evaluation."""
    behaviour = run["development"]["behaviour"]
    late = behaviour.icl_late_slip
    if of == "level":
        found = at(behaviour, step)
        return Reading(found.icl_late_slip, found.icl_late_slip_se)
    if of == "settled":  # within a tenth of its way of its last value, from this step on
        way = (late - late.iloc[-1]).abs() > 0.1 * abs(late.iloc[-1] - late.iloc[0])
        last = way[way].index[-1] if way.any() else 0
        settled = float(behaviour.step[last + 1]) if last + 1 < len(late) else np.nan
        return Reading(settled, blind=spacing(behaviour.step, settled))
    top = behaviour.loc[late[behaviour.step <= step].idxmax()]
    return change(behaviour, 0, top.step, "icl_late_slip", run.blocks("development"))


def _out_of_distribution(run, family, step, gain, start=None):
    """A level with the target noise of the released evaluation, or a change."""
    behaviour, name = run["development"]["behaviour"], f"ood_{family}_{gain:g}"
    if start is not None:
        return change(behaviour, start, step, name, run.blocks("development"))
    found = at(behaviour, step)
    return Reading(found[name] - LOW_NOISE / gain**2, found[f"{name}_se"])


@measures("LR-7")
def scaled_inputs(run, **row):
    """Normalised error on scaled inputs."""
    return _out_of_distribution(run, "input", **row)


@measures("LR-8")
def scaled_tasks(run, **row):
    """Normalised error on scaled tasks."""
    return _out_of_distribution(run, "task", **row)


@measures("LR-9")
def embedding_share(run, of, step):
    """Shares of the embedding's components."""
    found = at(run["development"]["structure"], step)
    if of == "fifth":
        return Reading(found.embed_5)
    others = [found[f"embed_{i}"] for i in range(1, 5)]
    return Reading({"least": min, "greatest": max}[of](others))


@measures("LR-10")
def unembedding_collapse(run, of, step=None, start=None):
    """Share of the last LayerNorm's weights that collapsed; how far its biases spread before they
    return, over their last spread; how far the means stray, in units of their own spread."""
    structure = run["development"]["structure"]
    if of == "share":
        return Reading(at(structure, step).unembed_ln_collapsed)
    if of == "gain":
        return Reading(at(structure, step).unembed_ln_collapsed
                       - at(structure, start).unembed_ln_collapsed)
    if of == "swell":
        sd = structure.unembed_ln_bias_sd
        return Reading(sd.max() / sd.iloc[-1] if sd.iloc[-1] else np.nan)
    strays = [(structure[f"{name}_mean"].abs() / structure[f"{name}_sd"].max()).max()
              for name in ("unembed_ln_bias", "effective")]
    return Reading(max(strays))


NORMS = {"attention 1": "blocks.0.ln1", "MLP 1": "blocks.0.ln2", "attention 2": "blocks.1.ln1",
         "MLP 2": "blocks.1.ln2"}


@measures("LR-11")
def other_layer_norms(run, of, norm=None):
    """The same of the other LayerNorms at the end, and how far their biases' means stray."""
    structure = run["development"]["structure"]
    if of == "share":
        return Reading(structure.iloc[-1][f"{NORMS[norm]}_collapsed"])
    strays = [(structure[f"{name}_bias_mean"].abs() / structure[f"{name}_bias_sd"].max()).max()
              for name in NORMS.values()]
    return Reading(max(strays))


@measures("LR-14")
def hard_heads(run):
    """How many kinds of hard, constant heads there are."""
    heads = run["development"]["heads"]
    final = heads[heads.step == heads.step.max()]
    kinds = {classify(row, run.scale.metrics) for _, row in final.iterrows()}
    return Reading(len(kinds - {"-"}))


@measures("LR-19")
def task_prior(run, tasks=None):
    """By how much the predictions of a run on so many tasks come closer to the task prior than
    to zero, of the distance to zero."""
    distances = run["task-sets"]["distances"]
    found = distances[distances.tasks == tasks]
    if found.empty:
        return None
    zero, prior = (found.loc[found[name].idxmin()] for name in ("zero", "prior"))
    return Reading(1 - prior.prior / zero.zero,
                   float(np.hypot(prior.prior_se, zero.zero_se * prior.prior / zero.zero))
                   / zero.zero)


@measures("LR-20")
def alignment(run, of, start, end):
    """How the mean cosine between the column spaces of the embedding and the positions changes,
    and the share of the positions' variance in their five leading directions."""
    structure = run["development"]["structure"]
    name = {"cosine": "cosine", "share": "position"}[of]
    first, last = (at(structure, step)[[f"{name}_{i}" for i in range(1, 6)]].astype(float)
                   for step in (start, end))
    change = last - first
    return Reading(change.mean() if of == "cosine" else change.sum())
