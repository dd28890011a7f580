"""The LLC by chains as long as the paper's, read off the tables "protocols" of a run (needs no
torch; companion.protocols runs them)."""

import numpy as np
import pandas as pd

from companion.seeds import near

AS_PUBLISHED = "as published"  # from w0, every draw averaged, as the released LLC is
FROM_PRIOR = "long from the prior"


def left_out(chosen) -> int:
    """How many first draws of the long chains are left out where they are to have settled: a fifth,
    which by the paper's numbers is one relaxation of the spring. `chosen`: ProtocolSettings."""
    return chosen.long_draws // 5


def scatter_error(rows):
    """The error of estimates: their MCSE, or the scatter of the chains' means where that is more.
    An average over a climb has no MCSE."""
    return np.maximum(rows.mcse, rows.chain_sd / rows.chains**0.5)


def as_published(estimates: pd.DataFrame) -> pd.DataFrame:
    """The rows of such chains, with their `error`."""
    rows = estimates[estimates.protocol == AS_PUBLISHED]
    return rows.assign(error=scatter_error(rows))


def as_published_at(estimates: pd.DataFrame, step):
    """The row of such chains at a step, within a hundredth of it; None if none ran there."""
    rows = as_published(estimates)
    return None if rows.empty else near(rows, step)
