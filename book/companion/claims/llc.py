"""The LLC of a regression run at a step, and its change between two, as every claim reads them: of
chains as long as the paper's where the run has them, else of its curve's."""

import numpy as np

from companion.claims.interval import Reading
from companion.health import ill, slow_error
from companion.long_chains import as_published_at
from devlib.settings import LLCSettings
from devlib.steps import at


def llc_at(run, step) -> Reading:
    """The LLC at a step as it was released, by chains of the paper's length, every draw averaged;
    where the run has none there, its curve's, whose error is joined with what shorter chains are
    off (companion.health.slow_error)."""
    tables, beside = run["regression"], run.beside("protocols")
    step = at(tables["evaluation"], step).step  # of the nearest checkpoint
    if beside and (long := as_published_at(beside["estimates"], step)) is not None:
        return Reading(long.llc, long.error, ill=(
            f"step {long.step:,.0f}: {long.diverged:.0f} diverged" if long.diverged else ""))
    found = at(tables["llc"], step)
    slow = slow_error(found, LLCSettings(**tables.manifest["settings"]["llc"]))
    return Reading(found.llc, float(np.hypot(found.mcse, slow)), ill=ill(tables, step))


def llc_between(run, start, end) -> Reading:
    """How much the LLC changes between two steps. Its error is both ends', as if they were
    independent: all checkpoints share their chains' batches and noise, so that it is an upper
    bound where both ends are of chains of one length."""
    first, last = llc_at(run, start), llc_at(run, end)
    return Reading(last.value - first.value, float(np.hypot(first.error, last.error)),
                   ill=first.ill or last.ill)
