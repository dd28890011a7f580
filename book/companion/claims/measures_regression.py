"""How claims about the regression model's LLC, loss and weights are read off its tables: one
function a claim (companion.claims.measures)."""

import numpy as np

from companion.claims.interval import Reading
from companion.claims.llc import llc_at, llc_between
from companion.claims.paired import change
from companion.claims.registry import measures, spacing
from companion.claims.table_rows import HESSIAN_ERRORS, matched, plateaus_on, told_apart
from devlib.stages import PAPER_STAGE_ENDS
from devlib.steps import at

BOUNDARIES = list(PAPER_STAGE_ENDS["LR"].values())[:-1]
CONTEXT_FREE, RIDGE = 4.125, 1.669  # expected losses of zero and of the ridge predictor (F.2)


@measures("LR-1")
def llc_at_steps(run, step):
    """The LLC at a step."""
    return llc_at(run, step)


@measures("LR-2")
def stage_changes(run, of, start, end):
    """What changes between two steps."""
    if of == "loss":
        return change(run["regression"]["evaluation"], start, end, "loss",
                      run.blocks("regression"))
    return llc_between(run, start, end)


@measures("LR-3")
def test_loss(run, step, of="level"):
    """The test loss at a step; or how much of what the context can give is still missing."""
    found = at(run["regression"]["evaluation"], step)
    if of == "missing":
        gives = CONTEXT_FREE - RIDGE
        return Reading((found.loss - RIDGE) / gives, found.loss_se / gives)
    return Reading(found.loss, found.loss_se)


@measures("LR-4")
def mean_square_prediction(run, of):
    """Least mean-square prediction, and its step."""
    evaluation = run["regression"]["evaluation"]
    lowest = evaluation.loc[evaluation.msp.idxmin()]
    if of == "step":
        return Reading(lowest.step, blind=spacing(evaluation.step, lowest.step))
    return Reading(lowest.msp, lowest.msp_se)


@measures("LR-12")
def weight_norm(run, step):
    """The norm of all weights."""
    return Reading(at(run["regression"]["evaluation"], step).weight_norm)


@measures("LR-13")
def hessian_statistics(run, of, column, step=None):
    """Hessian statistics, and which of the paper's boundaries the plateau rule finds on them."""
    statistics = run["hessian"]["statistics"]
    if of == "level":
        found = at(statistics, step)
        return Reading(found[column], found[HESSIAN_ERRORS[column]])
    found = plateaus_on(statistics[column], statistics[HESSIAN_ERRORS[column]], statistics.step,
                        run["regression"]["llc"], run.regression_rule)
    near = matched(found, BOUNDARIES)
    return Reading(len(near) if of == "found" else len(found) - len(near))


@measures("LR-18")
def turning_points(run, of, column):
    """Where a Hessian statistic is highest, and where it is lowest after that; or what the LLC
    does from the one step to the end of LR2, and from the other on."""
    statistics = run["hessian"]["statistics"]
    top = statistics[column].idxmax()
    low = statistics[column].loc[top:].idxmin()
    step = statistics.step[top if of in ("highest", "still climbing") else low]
    if of == "still climbing":
        return llc_between(run, step, BOUNDARIES[1])
    return Reading(float(step), blind=spacing(statistics.step, step))


ENOUGH = 0.75  # share of the pairs that must be told apart for their order to mean something


@measures("LR-16")
def two_losses(run):
    """Of the pairs of checkpoints that two losses both tell apart, the share in the same order."""
    runs = run["calibration"]["runs"]
    likelihood = runs[runs.part == "likelihood"].reset_index(drop=True)
    loss = runs[(runs.part == "seeded") & runs.step.isin(likelihood.step)].reset_index(drop=True)
    swapped, told, pairs = told_apart(loss, likelihood)
    return Reading(1 - swapped / told if told else np.nan, blind=float(told < ENOUGH * pairs))


@measures("LR-21")
def common_noise(run, step):
    """The LLC with the same noise at every checkpoint, less that with noise of its own."""
    runs = run["calibration"]["runs"]
    same, own = (at(runs[runs.part == part], step) for part in ("seeded", "unseeded"))
    return Reading(same.llc - own.llc, float(np.hypot(same.mcse, own.mcse)))
