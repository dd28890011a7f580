"""Which function measures which claim of data/claims.yaml, and the tables that it reads."""

import numpy as np

from devlib.steps import at

MEASURES, NEEDS = {}, {}


def measures(claim, *kinds):
    """Registers a claim's measurement. The first kind of tables decides which run is taken and how
    far it went; without the others, rows that read them are not run."""
    def register(function):
        MEASURES[claim], NEEDS[claim] = function, kinds
        return function
    return register


def change(table, start, end, column, error):
    """(change, standard error) between two steps, their errors combined."""
    first, last = at(table, start), at(table, end)
    return last[column] - first[column], np.hypot(first[error], last[error])
