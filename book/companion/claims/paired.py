"""The error of a change between two checkpoints that were measured on the same contexts: from block
means of those contexts at both, so that what they do to both ends alike drops out (companion.
checkpoint_rows.block_rows)."""

import math

import numpy as np

from companion.claims.interval import Reading
from devlib.stages import PAPER_STAGE_ENDS
from devlib.steps import apart, at, nearest

NEAR = math.log(1.03)  # a kept checkpoint as near as this stands for a step of the same stage
PAIRED, UNPAIRED = "paired", "unpaired, an upper bound"


def change(table, start, end, column, blocks=None, prefix="LR") -> Reading:
    """How much a column of a table changes between two steps. `blocks` has one row a metric and
    checkpoint (None: of such a run there are none); the error is that of the difference of its
    block means at the kept checkpoints that stand for the two steps. Where there are none, it is
    that of both ends as if independent, which is an upper bound, and the reading says so."""
    first, last = at(table, start), at(table, end)
    value = last[column] - first[column]
    error = None if blocks is None else paired_error(blocks, column, first.step, last.step, prefix)
    if error is not None:
        return Reading(value, error, about=PAIRED)
    ends = float(np.hypot(first[f"{column}_se"], last[f"{column}_se"]))
    return Reading(value, ends, about=UNPAIRED)


def paired_error(blocks, column, start, end, prefix) -> float | None:
    """The standard error of the mean of the blocks' differences; None where a step has no kept
    checkpoint that stands for it, or both have the same."""
    mine = blocks[blocks.metric == column].set_index("step").drop(columns="metric")
    kept = [standing_for(step, mine.index, prefix) for step in (start, end)]
    if None in kept or kept[0] == kept[1]:
        return None
    apart_by = (mine.loc[kept[1]] - mine.loc[kept[0]]).dropna().astype(float)
    return float(apart_by.std(ddof=1)) / len(apart_by) ** 0.5


def standing_for(step, kept, prefix) -> int | None:
    """The kept step nearest to this one, if it is within three per cent of it and in the same of
    the paper's stages."""
    near = nearest(kept, step, log=True)
    ends = PAPER_STAGE_ENDS[prefix].values()
    return near if apart(near, step) <= NEAR and not any(
        min(near, step) < stage_end < max(near, step) for stage_end in ends) else None
