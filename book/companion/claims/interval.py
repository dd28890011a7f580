"""Where a measurement must lie to agree with the paper, and the least deviation that it notices.

A further run beside n released seeds must lie in their prediction interval,
mean +- t(n - 1) sd sqrt(1 / runs + 1 / n), its half width joined in quadrature with what our own
Monte Carlo error explains. Everything is at LEVEL, two-sided.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from companion.claims import seeds
from companion.claims.entries import Row
from companion.claims.verdicts import COARSE, DIFFERS, ILL, REPRODUCED

LEVEL = 0.95
TAIL = (1 + LEVEL) / 2
Z = float(ndtri(TAIL))  # 1.96


@dataclass(frozen=True)
class Reading:
    """What a measurement found: a value, not finite where it looked and found nothing; its
    standard error, None where the value is an exact reading; `blind`, a deviation that it cannot
    notice for another cause, such as the spacing of checkpoints (of steps a difference of logs);
    how many `runs` it is the mean of; where it rests on an estimate that failed its own health
    check, in `ill` why; and what is to be said `about` its error."""

    value: float
    error: float | None = None
    blind: float = 0.0
    runs: int = 1
    ill: str = ""
    about: str = ""


@dataclass(frozen=True)
class Interval:
    """What agrees: from `low` to `high`; `notice`, the least deviation from `centre` that does
    not, and `effect`, that of which the claim speaks, both factors where `log`. `spread` and
    `noise` are the parts that the seeds (or the tolerance) and our own error have in the half
    width; `p` is how often a true claim would deviate as far as the reading, None where that is
    not known."""

    low: float
    high: float
    centre: float
    notice: float
    effect: float
    spread: float
    noise: float
    log: bool = False
    p: float | None = None

    @property
    def coarse(self) -> bool:
        """Whether half of the effect would go unnoticed."""
        measure = math.log if self.log else float
        return measure(self.notice) > measure(self.effect) / 2


def prediction(values, runs=1, tail=TAIL):
    """(mean, half width) of the prediction interval for the mean of `runs` further ones."""
    return (float(np.mean(values)),
            half_width(float(np.std(values, ddof=1)), len(values), runs, tail))


def half_width(sd, n, runs=1, tail=TAIL):
    """The half width of that interval for n values of this standard deviation."""
    return float(stdtrit(n - 1, tail)) * sd * (1 / runs + 1 / n) ** 0.5


def interval(row: Row, reading: Reading, scale=1.0, values=None) -> Interval:
    """What agrees with a row for a reading of this error, with `scale` times the tolerance.
    `values` stand in for the released seeds'. Raises UserError for a released value that is not
    there."""
    if row.bound is not None:
        return _bounded(row, reading, scale)
    if row.between:
        return _between(row, reading, scale)
    to, back = (math.log, math.exp) if row.log else (float, float)
    noise = Z * (reading.error or 0.0) * (2**0.5 if row.shared else 1.0)
    if row.released is None:
        centre, spread, df = to(row.expected), row.tolerance, math.inf
    else:
        known = seeds.of_seeds(**row.released) if values is None else values
        df = len(known) - 1
        centre, spread = prediction([to(value) for value in known], reading.runs)
    half = scale * max(math.hypot(spread, noise), reading.blind)
    p = _p(row, to, reading.value, centre, half / scale, df)
    return Interval(back(centre - half), back(centre + half), back(centre), back(half),
                    row.effect, spread, noise, row.log, p)


def _p(row, to, value, centre, half, df):
    """How often so large a deviation comes by chance; None where the tolerance is ours."""
    if not math.isfinite(value) or not half or (row.released is None and row.tolerance) or (
            row.log and value <= 0):  # step 0 is no factor away from any
        return None
    far = abs(to(value) - centre) / half
    return float(2 * ndtr(-far * Z) if df == math.inf else 2 * stdtr(df, -far * stdtrit(df, TAIL)))


def _bounded(row, reading, scale):
    """A bound must be kept by more than the error."""
    margin = max(Z * (reading.error or 0.0), reading.blind)
    sign = 1 if row.at_least is not None else -1
    bound = row.bound - sign * (scale - 1) * row.effect / 2
    low, high = (bound, math.inf) if sign > 0 else (-math.inf, bound)
    return Interval(low, high, bound, margin, row.effect, 0.0, margin)


def _between(row, reading, scale):
    low, high = map(math.log, row.between)
    centre, half = (low + high) / 2, scale * (high - low) / 2
    return Interval(math.exp(centre - half), math.exp(centre + half), math.exp(centre),
                    math.exp(half + reading.blind), row.effect, half, reading.blind, log=True)


def judge(row: Row, reading: Reading, scale=1.0, values=None) -> tuple[str, Interval]:
    """The verdict on a reading, and what it rests on; arguments as for `interval`."""
    found = interval(row, reading, scale, values)
    coarse = found.coarse or (scale < 1 and interval(row, reading, values=values).coarse)
    value = reading.value
    if reading.ill:
        return ILL, found
    if not math.isfinite(value):
        return DIFFERS, found
    if row.bound is None:
        inside = found.low <= value <= found.high
        return (DIFFERS if not inside else COARSE if coarse else REPRODUCED), found
    beyond = (value - found.centre) * (1 if row.at_least is not None else -1)
    if beyond < -found.notice:
        return DIFFERS, found
    kept = beyond >= found.notice if reading.error is None else beyond > found.notice
    return (REPRODUCED if kept and not coarse else COARSE), found
