"""Which function measures which claim of data/claims.yaml, and the error of a change of the LLC."""

import re

import numpy as np
from scipy.special import stdtrit

from companion.claims.interval import TAIL, Reading, Z
from devlib.steps import at

MEASURES = {}


def measures(claim):
    """Registers a claim's measurement."""
    def register(function):
        MEASURES[claim] = function
        return function
    return register


def llc_change(llc, start, end, ill="") -> Reading:
    """How much the LLC changes between two steps of a table, with the error of the difference:
    chain k has the same batches and noise at every checkpoint (A.5.2), so that the chains'
    differences are what varies. The error is widened by Student's t for the few chains that there
    are. With fewer than three chains that both ends have, the ends' errors are taken together."""
    first, last = at(llc, start), at(llc, end)
    chains = [name for name in llc if re.fullmatch(r"chain_\d+", name)]
    apart = (last[chains].astype(float) - first[chains].astype(float)).dropna()
    change = last.llc - first.llc
    if len(apart) < 3:
        return Reading(change, float(np.hypot(first.mcse, last.mcse)), ill=ill)
    widened = float(stdtrit(len(apart) - 1, TAIL)) / Z
    return Reading(change, float(apart.std(ddof=1)) / len(apart) ** 0.5 * widened, ill=ill)


def spacing(steps, step) -> float:
    """How far from a step, in the log of a factor, its next checkpoint is: an event that is seen
    there may have been anywhere up to that."""
    logs = np.log1p(np.sort(np.unique(np.asarray(steps, float))))
    if len(logs) < 2 or not np.isfinite(step):
        return 0.0
    place = int(np.abs(logs - np.log1p(step)).argmin())
    return float(np.diff(logs)[max(0, place - 1):place + 1].max())
