"""Whether the LLCs of a curve are measurements: the one rule of pages, open markers and claims,
read off rows, so that tables from before rows had such a column have it too. Needs no torch."""

import math
import warnings

import pandas as pd

from devlib.errors import UnsoundPoints
from devlib.settings import MIN_ESS, RELAXATIONS, TEST_RHAT, LLCSettings
from devlib.stages import IMPRECISE, find_stages
from devlib.steps import at

SETTLED = 2  # relaxations that a burn-in must last, so that 14% of the start is left at most
FORGOTTEN = 0.03  # share of the untrained chains' loss within which the model is forgotten
SLOW = 2.6  # LLC: root mean square of what shorter ones are off where long ones settle (page 16)


def row_health(row, llc: LLCSettings, untrained=None) -> str:
    """What is wrong with an estimate, in a few words; empty where nothing is. From what every row
    of an LLC table holds and the settings of its chains. In order:

    - chains that escaped or diverged;
    - a burn-in, found from the trace, that ends on its bound, half of the draws;
    - R-hat above the limit of `estimate_to_precision`;
    - with `untrained`, the mean loss of chains from untrained weights (`untrained_loss`): a burn-in
      below two relaxations of the spring, 2 / (eps gamma) draws each, of chains that still know the
      model. They may still be on their way, and the LLC then depends on their length: at step
      95,959 of the regression run it is 161 +- 1 after 195 draws and 164 +- 1 after 250. Chains
      whose own loss L(w0) + LLC / nbeta is that of untrained ones have nothing left to forget,
      but their slow directions still move: up to step 40,404 of that run such estimates are 4 off
      at most where long chains settle (page 16), at quoted errors of 1; see `slow_error`.

    Where none of these fails but the precision asked for was not reached, or the ESS is below 200
    where none was, it begins with "imprecise" (devlib.stages).
    """
    unmet = [f"{row[name]:.0f} {name}" for name in ("escaping", "diverged") if row[name]]
    if llc.burn_in is None and row["burn_in"] >= row["draws"] // 2:
        unmet.append("burn-in at its bound")
    if not (row["rhat"] <= TEST_RHAT or row["mcse"] == 0):
        unmet.append(f"R-hat {row['rhat']:.2f}")
    if untrained is not None and row["burn_in"] < SETTLED * relaxation(llc) * (1 - 1e-9):
        loss = chain_loss(row, llc)
        if not loss >= (1 - FORGOTTEN) * untrained:
            unmet.append(f"the chains still know the model (their loss {loss:.2f}, that of chains "
                         f"from untrained weights {untrained:.2f}) after a burn-in of "
                         f"{row['burn_in']:,.0f} draws, and the spring relaxes in "
                         f"{relaxation(llc):,.0f}")
    if llc.precision is not None and not row["mcse"] <= llc.precision * abs(row["llc"]):
        unmet.append(f"{IMPRECISE}: error {row['mcse'] / (abs(row['llc']) or math.nan):.1%}")
    elif not (row["ess"] >= MIN_ESS or row["mcse"] == 0):
        unmet.append(f"{IMPRECISE}: ESS {row['ess']:.0f}")
    return ", ".join(unmet)


def find_stages_quietly(*args):
    """`devlib.stages.find_stages` without its warning: pages and claims say themselves which
    boundaries rest on estimates that are not sound (`say_health`, `ill`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnsoundPoints)
        return find_stages(*args)


def relaxation(llc: LLCSettings) -> float:
    """Draws in which the spring alone forgets the start by a factor e (SGLD.relaxation)."""
    return 2 / (llc.eps * llc.gamma) if llc.gamma else math.inf


def slow_error(row, llc: LLCSettings) -> float:
    """An error that no row quotes, for it is computed from draws that were taken: of directions
    that chains shorter than RELAXATIONS of the spring have hardly moved in."""
    return 0.0 if row["draws"] >= RELAXATIONS * relaxation(llc) * (1 - 1e-9) else SLOW


def chain_loss(row, llc: LLCSettings) -> float:
    """The mean loss of a row's chains, L(w0) + LLC / nbeta."""
    return row["init_loss"] + row["llc"] / llc.nbeta


def untrained_loss(table: pd.DataFrame, llc: LLCSettings) -> float:
    """That of the row of step 0; infinite, so that no chains count as having forgotten the model,
    where a table has none."""
    first = table[table.step == 0]
    return math.inf if first.empty else chain_loss(first.iloc[0], llc)


def curve_health(table: pd.DataFrame, llc: LLCSettings) -> pd.Series:
    """The `row_health` of each row of an LLC table, held against untrained chains."""
    untrained = untrained_loss(table, llc)
    return pd.Series([row_health(row, llc, untrained) for row in table.to_dict("records")],
                     table.index, dtype=str)


def ill(results, *steps) -> str:
    """Why the first of the LLCs at these steps that is no measurement is none; empty if all are.
    `results` are a run's tables with their manifest. One that is merely imprecise is a measurement:
    its error says so."""
    table, llc = results["llc"], LLCSettings(**results.manifest["settings"]["llc"])
    untrained = untrained_loss(table, llc)
    for step in steps:
        row = at(table, step)
        why = row_health(row, llc, untrained)
        if why and not why.startswith(IMPRECISE):
            return f"step {row.step:,.0f}: {why}"
    return ""


def withdrawn(llc: pd.DataFrame, loss: pd.DataFrame, chains: LLCSettings, rule) -> list[int]:
    """The boundaries that go when the estimates that are not sound are left out (`find_stages`)."""
    llc = llc.assign(health=curve_health(llc, chains))
    return [step for warning in _unsound(llc, loss, rule) for step in warning.gone]


def _unsound(llc, loss, rule):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        find_stages(llc, loss, rule)
    return [one.message for one in said if one.category is UnsoundPoints]


def say_health(llc: pd.DataFrame, loss: pd.DataFrame, chains: LLCSettings, rule) -> list[str]:
    """What a page says of the health of its curve, in lines: how many estimates are not sound and
    which boundaries rest on them (`find_stages`, with the stage settings `rule`), how many are
    imprecise, and how long the chains are beside the spring's relaxation."""
    llc = llc.assign(health=curve_health(llc, chains))
    lines = [str(warning) for warning in _unsound(llc, loss, rule)]
    lines = lines or [f"all {len(llc)} estimates are sound"]
    if imprecise := llc.health.str.startswith(IMPRECISE).sum():
        lines.append(f"{imprecise} of the sound ones are imprecise: their errors are above the "
                     "precision asked for, or of few effective draws")
    spring = relaxation(chains)
    ends = sorted({f"{draws / spring:.1f}" for draws in (llc.draws.min(), llc.draws.max())})
    if llc.draws.min() < RELAXATIONS * spring < math.inf:
        lines.append(f"the spring alone relaxes in {spring:,.0f} draws: these chains have "
                     f"{' to '.join(ends)} times as many, and directions that the loss ignores "
                     f"need {RELAXATIONS} times as many")
    return lines
