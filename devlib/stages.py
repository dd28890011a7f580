"""Stages: plateaus of the smoothed LLC curve (Section 5, B.1).

The curve is smoothed by a Gaussian process in log(step + 1), its slope taken numerically at the
checkpoints, and a boundary is a local minimum of |slope| below a tolerance.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from devlib.errors import UserError
from devlib.process import LEAST_NOISE, Kernel, fit, mean_and_sd
from devlib.settings import StageSettings

# Stage ends of the paper (Fig. 1), for comparison only.
PAPER_STAGE_ENDS = {
    "LR": {"LR1": 1_000, "LR2": 40_000, "LR3": 126_000, "LR4": 320_000, "LR5": 500_000},
    "LM": {"LM1": 900, "LM2": 6_500, "LM3": 8_500, "LM4": 17_000, "LM5": 50_000}}


@dataclass(frozen=True)
class SmoothCurve:
    """A curve over training, smoothed. All (S,), S checkpoints; slopes are per unit of
    log(step + 1)."""

    steps: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    slope: np.ndarray
    kernel: Kernel  # as fitted, to smooth another curve in the same way


def smooth(steps, values, settings: StageSettings = StageSettings(), errors=None,
           fit_noise=False, kernel=None, seed=0) -> SmoothCurve:
    """Gaussian-process mean of a curve in log(step + 1), and its slope (B.1).

    The kernel is C * RBF within the authors' bounds. `errors` (S,) are standard errors of the
    values and become the process's noise; None is the authors' choice of no noise, which is the
    least that scikit-learn puts in (`process.LEAST_NOISE`). `fit_noise` adds noise of one level,
    fitted with the kernel between the same bounds as the amplitude. A `kernel` fitted before
    (SmoothCurve.kernel) is taken as it is. `sd` is that of the process's mean. Raises UserError
    for fewer than four checkpoints.
    """
    steps, values = np.asarray(steps), np.asarray(values, float)
    if len(steps) < 4:
        raise UserError(f"stages need at least 4 checkpoints, not {len(steps)}")
    if not np.isfinite(values).all():
        raise UserError(f"the curve is not finite at step {steps[~np.isfinite(values)][0]}")
    noise = (np.full(len(steps), LEAST_NOISE) if errors is None
             else np.maximum(np.asarray(errors, float) ** 2, LEAST_NOISE))
    kernel = kernel or fit(steps, values, noise, settings, fit_noise, seed)
    mean, sd = mean_and_sd(steps, values, noise, kernel)
    return SmoothCurve(steps, mean, sd, slope(steps, mean), kernel)


def slope(steps, values, log=True) -> np.ndarray:
    """d value / d log(step + 1) at each checkpoint, or d value / d step: the mean of the
    differences to the left and to the right (one of them at the ends). (S,)"""
    steps, values = np.asarray(steps, float), np.asarray(values)
    between = np.diff(values) / np.diff(np.log1p(steps) if log else steps)
    return (np.append(between[:1], between) + np.append(between, between[-1:])) / 2


def plateaus(curve: SmoothCurve, tolerance) -> list[int]:
    """Boundary steps of a curve: `local_plateaus` of its slope."""
    return local_plateaus(curve.steps, curve.slope, tolerance, moved(curve, tolerance))


def moved(curve: SmoothCurve, tolerance) -> np.ndarray:
    """Whether the curve, at each checkpoint, is as far from where it began as the tolerance
    carries it in one unit of log(step + 1). (S,)"""
    return np.abs(curve.mean - curve.mean[0]) >= tolerance


def local_plateaus(steps, slopes, tolerance, moved) -> list[int]:
    """Checkpoints whose |slope| is a local minimum and below the tolerance.

    The run's two ends are stage ends anyway and are left out, and so is the plateau that the
    curve begins on: no stage has ended before the curve was first steeper than the tolerance, or
    has `moved` (S,) away from its start at a gentler slope.
    """
    steep = np.abs(slopes)
    begun = np.flatnonzero((steep >= tolerance) | moved)
    first = begun[0] if len(begun) else len(steep)
    inner = range(max(1, first), len(steep) - 1)
    return [int(steps[i]) for i in inner
            if steep[i] < tolerance and steep[i - 1] >= steep[i] < steep[i + 1]]


def stage_table(boundaries, curve: SmoothCurve, loss: pd.DataFrame, llc: pd.DataFrame,
                prefix="LR") -> pd.DataFrame:
    """One row a stage, as Table 1: start, end, and the change of loss and LLC over it with the
    standard errors of both ends combined.

    `loss` has columns step, loss, loss_se; `llc` has step, llc, mcse.
    """
    ends = [int(curve.steps[0]), *boundaries, int(curve.steps[-1])]
    loss, llc = loss.set_index("step"), llc.set_index("step")
    rows = []
    for number, (start, end) in enumerate(pairwise(ends), 1):
        rows.append({
            "stage": f"{prefix}{number}", "start": start, "end": end,
            **dict(zip(("loss_change", "loss_se"),
                       change(loss, "loss", "loss_se", start, end), strict=True)),
            **dict(zip(("llc_change", "llc_se"),
                       change(llc, "llc", "mcse", start, end), strict=True))})
    return pd.DataFrame(rows)


def change(table: pd.DataFrame, value, error, start, end) -> tuple[float, float]:
    """How much a column of a table, indexed by step, changes from one step to another, and the
    standard errors of both ends combined."""
    return (table[value][end] - table[value][start],
            np.hypot(table[error][end], table[error][start]))


def find_stages(llc: pd.DataFrame, loss: pd.DataFrame, settings: StageSettings = StageSettings(),
                prefix="LR"):
    """(smoothed curve, boundaries, stage table) of a run from its LLC and loss tables, with the
    estimates' own errors as the process's noise."""
    curve = smooth(llc.step, llc.llc, settings, errors=llc.mcse)
    boundaries = plateaus(curve, settings.tolerance)
    return curve, boundaries, stage_table(boundaries, curve, loss, llc, prefix)
