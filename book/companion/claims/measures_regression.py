"""How each claim about the regression model is read off its tables: one function a claim
(companion.claims.measures)."""

import numpy as np

from companion.claims.registry import change, measures
from companion.claims.table_rows import HESSIAN_ERRORS, classify, near, plateaus_on, reversed_pairs
from devlib.steps import at, nearest


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
