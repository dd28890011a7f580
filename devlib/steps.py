"""Steps of training: which of them leave a checkpoint, and which is nearest to another."""

import numpy as np


def schedule(steps, log_count, linear_count, stop=None) -> list[int]:
    """The paper's checkpoint steps: {int(s) for s in logspace(0, log10 T)} and
    {int(s) for s in linspace(0, T)}, at the numbers of the preset (F.2, code).

    The last step of a run of T updates is T - 1. A run that ends at `stop` keeps those before it
    and its own last step.
    """
    stop = steps if stop is None else stop
    spaced = np.concatenate([np.logspace(0, np.log10(steps), log_count),
                             np.linspace(0, steps, linear_count)])
    return sorted({min(int(s), steps - 1) for s in spaced if int(s) < stop} | {stop - 1})


def thin(steps: list[int], count: int) -> list[int]:
    """At most `count` of the steps, spread evenly over log(step + 1) and the two ends kept."""
    if len(steps) <= count:
        return list(steps)
    position = np.log1p(steps)
    chosen, left = {steps[0], steps[-1]}, dict(zip(steps[1:-1], position[1:-1], strict=True))
    # Fill the widest gaps first: where checkpoints are dense in log time, few are needed.
    while len(chosen) < count:
        taken = np.log1p(sorted(chosen))
        best = max(left, key=lambda step: np.abs(taken - left[step]).min())
        chosen.add(best)
        del left[best]
    return sorted(chosen)


def apart(step, other) -> float:
    """How far apart two steps are in log(step + 1): the log of the factor between them."""
    return abs(np.log1p(step) - np.log1p(other))


def nearest(steps, step, *, log=False):
    """The one of `steps` nearest to `step`, with `log` in log(step + 1); of two as near the first.
    Not a number (NaN) if there is none."""
    return min(steps, key=lambda other: apart(other, step) if log else abs(other - step),
               default=np.nan)


def nearest_each(steps, wanted) -> list[int]:
    """The step nearest to each wanted one, each once, in order."""
    return sorted({nearest(steps, step) for step in wanted})


def at(table, step):
    """The row of a table with a column `step` whose step is nearest to this one."""
    return table.iloc[(table.step - step).abs().argmin()]
