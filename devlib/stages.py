"""Stages: plateaus of the smoothed LLC curve (Section 5, B.1).

The curve is smoothed by a Gaussian process in log(step + 1), its slope taken numerically at the
checkpoints, and a boundary is a local minimum of |slope| below a tolerance.
"""

import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from devlib.errors import UnsoundPoints, UserError
from devlib.process import LEAST_NOISE, Kernel, fit, mean_and_sd
from devlib.settings import StageSettings
from devlib.steps import apart

# Stage ends of the paper (Fig. 1), for comparison only.
PAPER_STAGE_ENDS = {
    "LR": {"LR1": 1_000, "LR2": 40_000, "LR3": 126_000, "LR4": 320_000, "LR5": 500_000},
    "LM": {"LM1": 900, "LM2": 6_500, "LM3": 8_500, "LM4": 17_000, "LM5": 50_000}}

LEAST = 4  # checkpoints that a curve needs
NEAR = 0.35  # in log(step + 1): two boundaries as near are the same one
IMPRECISE = "imprecise"  # how the health of an estimate begins whose error is right, but large
FAR = 2.0  # standard errors, root mean square: data noisier than their errors stay below


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
    (SmoothCurve.kernel) is taken as it is. `sd` is that of the process's mean. Checkpoints may
    come in any order; the curve has them by step.

    Raises UserError for fewer than four checkpoints, for two of the same step, and for a step, a
    value or an error that is none. Where a curve with errors is out of the scale that the kernel's
    bounds are meant for (`bound_in_the_way`), it warns, and takes the unit in which the tolerance
    is the paper's, if that mends it. A curve that was scaled by less, with its errors and its
    tolerance, may stay near its data and lose or gain a boundary: only the bounds in the same unit
    (StageSettings.in_unit) give those that it had.
    """
    steps, values, errors = _by_step(steps, values, errors)
    if len(steps) < LEAST:
        raise UserError(f"stages need at least {LEAST} checkpoints, not {len(steps)}")
    noise = (np.full(len(steps), LEAST_NOISE) if errors is None
             else np.maximum(errors**2, LEAST_NOISE))
    fitted = kernel or fit(steps, values, noise, settings, fit_noise, seed)
    mean, sd = mean_and_sd(steps, values, noise, fitted)
    if kernel is None and errors is not None and (
            shown := bound_in_the_way(values, mean, noise**0.5, fitted, settings)):
        unit = settings.tolerance / StageSettings().tolerance
        other = fit(steps, values / unit, noise / unit**2, settings, fit_noise, seed)
        again = mean_and_sd(steps, values / unit, noise / unit**2, other)
        mended = not bound_in_the_way(values / unit, again[0], noise**0.5 / unit, other, settings)
        if mended or fitted.length > settings.length_low:  # else it is a shorter length it wants
            warnings.warn(
                "the curve's unit does not fit the kernel, whose amplitude ends on its bound "
                f"{shown[0]} = {fitted.amplitude:g}: {shown[1]}, and its boundaries may be false, "
                "unless the tolerance is in the same unit. Take the settings in the curve's own "
                "unit (StageSettings.in_unit)", stacklevel=2)
        if mended:
            mean, sd = again[0] * unit, again[1] * unit
            fitted = Kernel(other.amplitude * unit**2, other.length, other.level * unit**2)
    return SmoothCurve(steps, mean, sd, slope(steps, mean), fitted)


def _by_step(steps, values, errors):
    """The three as arrays in the order of the steps, each checked; `errors` may be None."""
    steps, values = np.asarray(steps), np.asarray(values, float)
    errors = None if errors is None else np.asarray(errors, float)
    for what, column in (("the curve", values), ("its standard error", errors)):
        if column is None:
            continue
        if len(column) != len(steps):
            raise UserError(f"{len(steps)} steps need as many values of {what}, not "
                            f"{len(column)}")
        least = 0 if column is errors else -np.inf
        if bad := np.flatnonzero(~(np.isfinite(column) & (column >= least))).tolist():
            raise UserError(f"{what} is {'negative' if column[bad[0]] < 0 else 'not finite'} at "
                            f"step {steps[bad[0]]} (row {bad[0]}: {column[bad[0]]}); measure that "
                            "checkpoint again, or leave its row out")
    order = by_step(steps)
    return steps[order], values[order], None if errors is None else errors[order]


def by_step(steps) -> np.ndarray:
    """The order (S,) that sorts checkpoints by step. Raises UserError for what is no step, and for
    two checkpoints of the same one: of two runs in one table, neither is the curve."""
    steps = np.asarray(steps)
    if bad := np.flatnonzero(~(np.isfinite(steps.astype(float)) & (steps >= 0))).tolist():
        raise UserError(f"step {steps[bad[0]]} (row {bad[0]}) is none: steps count from 0")
    order = np.argsort(steps, kind="stable")
    if len(again := order[1:][np.diff(steps[order]) == 0]):
        raise UserError(f"step {steps[again[0]]} stands twice (the second time in row {again[0]}): "
                        "give one row a checkpoint, of one run")
    return order


def bound_in_the_way(values, mean, errors, kernel: Kernel, settings: StageSettings):
    """(name, what shows it) of a bound of the kernel's amplitude (authors'
    code; a variance in the curve's own unit, squared) that keeps the smoothed curve from its data,
    so that boundaries depend on the unit; None if none does.

    On the upper bound: the curve (S,) is FAR of its `errors` (S,) from `values` (S,), root mean
    square, or more. On the lower: the values vary by FAR errors or more, and by less than it.
    """
    away = float(np.sqrt(np.mean(((mean - values) / errors) ** 2)))
    spread = float(np.std(values))
    if kernel.amplitude == settings.amplitude_high and away >= FAR:
        return "amplitude_high", f"smoothed, it lies {away:.1f} standard errors from its data"
    if (kernel.amplitude == settings.amplitude_low
            and FAR * np.median(errors) <= spread < settings.amplitude_low**0.5):
        return "amplitude_low", f"its values vary by {spread:.2g} only"
    return None


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

    `loss` has columns step, loss, loss_se; `llc` has step, llc, mcse. Raises UserError for a
    table that has a step twice, or not all that are needed.
    """
    by_step(loss.step), by_step(llc.step)
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
    standard errors of both ends combined. Raises UserError if the table lacks one of the steps."""
    if missing := [step for step in (start, end) if step not in table.index]:
        raise UserError(f"the table of {value} has no row of step {missing[0]}, which a stage "
                        "begins or ends with: measure that checkpoint too")
    return (table[value][end] - table[value][start],
            np.hypot(table[error][end], table[error][start]))


def find_stages(llc: pd.DataFrame, loss: pd.DataFrame, settings: StageSettings = StageSettings(),
                prefix="LR", unsound="say"):
    """(smoothed curve, boundaries, stage table) of a run from its LLC and loss tables, with the
    estimates' own errors as the process's noise. Rows may come in any order; UserErrors and the
    warning are those of `smooth` and `stage_table`.

    Where the LLC table has a column `health` and rows that are not sound by it (`is_unsound`), a
    warning (UnsoundPoints) names the boundaries `gone` without them. With unsound="leave out" all
    is of the sound rows. Wider errors would not do: chains on their way do not know how far they
    have to go (step 217,171 of regression: eight of 1,000 draws say 121 +- 7, those at rest 158).
    """
    if unsound not in ("say", "leave out"):
        raise UserError(f"unsound must be 'say' or 'leave out', not {unsound!r}")
    found = _with_boundaries(llc, settings)
    if "health" in llc and (bad := is_unsound(llc.health)).any():
        sound = _with_boundaries(llc[~bad], settings) if (~bad).sum() >= LEAST else (None, [])
        gone = [step for step in found[1] if not any(apart(step, other) <= NEAR
                                                     for other in sound[1])]
        steps = llc.step[bad]
        warning = UnsoundPoints(
            f"{bad.sum()} of {len(llc)} estimates, between steps {steps.min():,} and "
            f"{steps.max():,}, are not sound; without them the boundaries are {_spell(sound[1])}, "
            f"so that these go: {_spell(gone)}")
        warning.gone = gone
        warnings.warn(warning, stacklevel=2)
        if unsound == "leave out":
            if sound[0] is None:
                raise UserError(f"stages need at least {LEAST} checkpoints, and {(~bad).sum()} of "
                                f"{len(llc)} are sound: measure the others with more draws")
            found = sound
    return *found, stage_table(found[1], found[0], loss, llc, prefix)


def _spell(steps):
    return ", ".join(f"{step:,}" for step in steps) or "none"


def _with_boundaries(llc, settings):
    curve = smooth(llc.step, llc.llc, settings, errors=llc.mcse)
    return curve, plateaus(curve, settings.tolerance)


def is_unsound(health: pd.Series) -> pd.Series:
    """Which estimates failed a check that their error rests on, by their `health` (S,): empty, or
    a short reason. One that is merely IMPRECISE is sound: its error says so."""
    words = health.astype(object).where(health.notna(), "").astype(str)  # NaN: of an empty column
    return (words != "") & ~words.str.startswith(IMPRECISE)
