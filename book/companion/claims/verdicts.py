"""The words in which a page says whether a claim of the paper holds in its run, and the step at
which something sets in."""

import textwrap

import numpy as np


def verdict(holds: bool, *, reached: bool) -> str:
    """"agrees" or "differs", or that this run stops before the claim can be seen."""
    if not reached:
        return "not reached at this scale"
    return "agrees" if holds else "differs"


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
