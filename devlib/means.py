"""Means of independent values, and how they stand in a row of a table."""

import contextlib
import contextvars

BLOCKS = 64
_kept = contextvars.ContextVar("blocks", default=None)


class Estimate(tuple):
    """(mean, standard error), with the `values` (B,) behind it."""


def mean_and_se(values):
    """Mean of independent values (B,) and its standard error, as floats."""
    found = Estimate((float(values.mean()), float(values.std() / len(values) ** 0.5)))
    found.values = values
    return found


def with_se(name, estimate):
    """An estimate (value, standard error) as two entries of a row."""
    kept = _kept.get()
    if kept is not None and isinstance(estimate, Estimate):
        parts = estimate.values.tensor_split(min(BLOCKS, len(estimate.values)))
        kept[name] = [float(part.mean()) for part in parts]
    return {name: estimate[0], f"{name}_se": estimate[1]}


@contextlib.contextmanager
def keeping_blocks():
    """Within it, what `with_se` is given of `mean_and_se` leaves the means of BLOCKS neighbouring
    parts of its values in the dictionary that this yields, by name. Of two checkpoints measured on
    the same contexts, the differences of these means are as many independent values of the change,
    without what both share."""
    kept = {}
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)
