"""Whether the estimates of a curve passed the checks that their errors rest on, read off their
rows: also for tables from before rows said so themselves."""

import math
import warnings

import pandas as pd

from devlib.errors import UnsoundPoints
from devlib.llc.precision import MIN_ESS, TEST_RHAT
from devlib.sampling.sgld import RELAXATIONS, SGLD
from devlib.settings import LLCSettings
from devlib.stages import IMPRECISE, find_stages


def row_health(row, llc: LLCSettings) -> str:
    """What is wrong with an estimate, in a few words; empty where nothing is. From what every row
    of an LLC table holds and the settings of its chains, so that tables from before there was such
    a column have it too. In order: chains that escaped or diverged; a burn-in, found from the
    trace, that ends on its bound, half of the draws; R-hat above the limit of
    `estimate_to_precision`. Where none of these fails but the precision asked for was not reached,
    or the ESS is below 200 where none was, it begins with "imprecise" (devlib.stages)."""
    unmet = [f"{row[name]:.0f} {name}" for name in ("escaping", "diverged") if row[name]]
    if llc.burn_in is None and row["burn_in"] >= row["draws"] // 2:
        unmet.append("burn-in at its bound")
    if not (row["rhat"] <= TEST_RHAT or row["mcse"] == 0):
        unmet.append(f"R-hat {row['rhat']:.2f}")
    if llc.precision is not None and not row["mcse"] <= llc.precision * abs(row["llc"]):
        unmet.append(f"{IMPRECISE}: error {row['mcse'] / (abs(row['llc']) or math.nan):.1%}")
    elif not (row["ess"] >= MIN_ESS or row["mcse"] == 0):
        unmet.append(f"{IMPRECISE}: ESS {row['ess']:.0f}")
    return ", ".join(unmet)


def curve_health(table: pd.DataFrame, llc: LLCSettings) -> pd.Series:
    """The `row_health` of each row of an LLC table."""
    return pd.Series([row_health(row, llc) for row in table.to_dict("records")], table.index,
                     dtype=str)


def say_health(llc: pd.DataFrame, loss: pd.DataFrame, chains: LLCSettings, rule) -> list[str]:
    """What a page says of the health of its curve, in lines: how many estimates are not sound and
    which boundaries rest on them (`find_stages`, with the stage settings `rule`), how many are
    imprecise, and how long the chains are beside the spring's relaxation."""
    llc = llc.assign(health=curve_health(llc, chains))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        find_stages(llc, loss, rule)
    lines = [str(one.message) for one in said if one.category is UnsoundPoints]
    lines = lines or [f"all {len(llc)} estimates are sound"]
    if imprecise := llc.health.str.startswith(IMPRECISE).sum():
        lines.append(f"{imprecise} are sound and imprecise: their errors are above the precision "
                     "asked for, or of few effective draws")
    relaxation = SGLD(chains.eps, chains.nbeta, chains.gamma).relaxation()
    ends = sorted({f"{draws / relaxation:.1f}" for draws in (llc.draws.min(), llc.draws.max())})
    if llc.draws.min() < RELAXATIONS * relaxation < math.inf:
        lines.append(f"the spring alone relaxes in {relaxation:,.0f} draws: these chains have "
                     f"{' to '.join(ends)} times as many, and a direction that the loss leaves to "
                     f"it needs {RELAXATIONS}")
    return lines
