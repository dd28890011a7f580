"""The words in which the ledger and the pages say whether something holds in a run, and the step at
which something sets in."""

import textwrap

import numpy as np

REPRODUCED, DIFFERS, COARSE, ILL, NOT_REACHED, NOT_RUN = VERDICTS = (
    "reproduced", "differs", "too coarse to tell", "not a measurement", "not reached", "not run")


def verdict(holds: bool, *, reached: bool) -> str:
    """"reproduced" or "differs", or that this run stops before it can be seen: for what has no
    number that could be coarse."""
    if not reached:
        return NOT_REACHED
    return REPRODUCED if holds else DIFFERS


def say(*parts, width=86):
    """Prints, as `print` does, in lines that a page shows without scrolling."""
    print(textwrap.fill(" ".join(map(str, parts)), width, subsequent_indent="  "))


def onset(values, steps, share=0.1, start=None) -> int:
    """The first step after its least value at which a curve has made so much of its way from
    there, or from `start`, to its last."""
    values = np.asarray(values)
    least = values.argmin()
    way = values[least:] - (values[least] if start is None else start)
    return int(np.asarray(steps)[least + (way >= share * way[-1]).argmax()])


def first_to_make(share, values, steps, after) -> float:
    """The first step from `after` on at which a curve has made this share of its way from there to
    its last value; NaN where it goes nowhere."""
    steps, values = np.asarray(steps), np.asarray(values, float)
    kept = steps >= after
    way = values[kept] - values[kept][0]
    return float(steps[kept][(way / way[-1] >= share).argmax()]) if way[-1] else np.nan
