"""How claims about stages are read off tables: boundaries matched with the paper's one to one, and
those counted that the paper does not have (companion.claims.measures)."""

import numpy as np

from companion.claims.interval import Reading
from companion.claims.llc import llc_between
from companion.claims.measures_regression import BOUNDARIES
from companion.claims.registry import llc_change, measures, spacing
from companion.claims.table_rows import matched
from companion.health import ill
from devlib.essential import turning_points
from devlib.stages import PAPER_STAGE_ENDS

LANGUAGE = list(PAPER_STAGE_ENDS["LM"].values())[:-1]


def stage_reading(tables, found, wanted, of, end=None) -> Reading:
    """How many of the `wanted` boundaries are among the `found`, one to one; how many found are
    none of them; or which one is found for `end`. It rests on the LLC at every boundary."""
    near = matched(found, wanted)
    sick = ill(tables, *found, *wanted)
    if of == "matched":
        return Reading(len(near), ill=sick)
    if of == "beside":
        return Reading(len(found) - len(near), ill=sick)
    step = near.get(end, np.nan)
    return Reading(float(step), blind=spacing(tables["llc"].step, step),
                   ill=ill(tables, *([end] if np.isnan(step) else [step])))


@measures("LR-17")
def regression_stages(run, of, end=None):
    """The regression model's boundaries beside the paper's four."""
    return stage_reading(run["regression"], run.stages("regression")[1], BOUNDARIES, of, end)


@measures("LM-12")
def language_stages(run, of, start=None, end=None):
    """The language model's boundaries beside the paper's four, and the changes between those."""
    tables = run["language-2layer"]
    if of == "change":
        return llc_change(tables["llc"], start, end, ill(tables, start, end))
    found = run.stages("language-2layer")[1]
    if of == "count":
        return Reading(len(found), ill=ill(tables, *found))
    return stage_reading(tables, found, LANGUAGE, of, end)


LAST, SEEDS = 499_999, 5  # the paper's last step, which so many seeds must have reached


@measures("LR-15")
def all_seeds(run, of, start=None, end=None):
    """The mean change of the LLC over the seeds, or how many show the paper's boundaries and no
    others; of runs in the doubled stream that reached the paper's last step."""
    runs = [other for other in run.others if other.last("regression") >= LAST
            and other["regression"].manifest["settings"].get("model", {}).get(
                "residual", "doubled") == "doubled"]
    if len({other.seed for other in runs}) < SEEDS:
        return None
    if of == "shown":
        readings = [[regression_stages(other, of) for of in ("matched", "beside")]
                    for other in runs]
        return Reading(sum(near.value == len(BOUNDARIES) and not beside.value
                           for near, beside in readings),
                       ill=next((near.ill for near, _ in readings if near.ill), ""))
    changes = [llc_between(other, start, end) for other in runs]
    error = np.sqrt(sum(change.error**2 for change in changes)) / len(changes)
    return Reading(float(np.mean([change.value for change in changes])), float(error),
                   runs=len(changes), ill=next((c.ill for c in changes if c.ill), ""))


@measures("LR-22")
def essential_dynamics(run):
    """How many of the paper's boundaries the path through function space turns at, one to one."""
    path, rule = run["development"]["path"], run.regression_rule
    found = sorted({step for number in (1, 2, 3)
                    for step in turning_points(path.step, path[f"pc_{number}"], rule)})
    return Reading(len(matched(found, BOUNDARIES)))
