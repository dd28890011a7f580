"""What a claim's verdict is, given the readings of its rows."""

import math
from dataclasses import dataclass
from itertools import groupby

from scipy.special import chdtrc, ndtri

from companion.claims.entries import Claim, Row
from companion.claims.interval import LEVEL, Interval, Reading
from companion.claims.verdicts import COARSE, DIFFERS, ILL, NOT_REACHED, NOT_RUN, REPRODUCED

SEEN = (REPRODUCED, DIFFERS, COARSE)  # verdicts on a number that was measured


@dataclass(frozen=True)
class Measured:
    """One row of a claim with its verdict; `reading` and `interval` are None where nothing was
    measured. `spread` holds the same value in other seeds of ours, `why` what stands in a reading's
    way."""

    row: Row
    verdict: str
    reading: Reading | None = None
    interval: Interval | None = None
    spread: tuple[float, ...] = ()
    why: str = ""

    @property
    def value(self) -> float | None:
        """What was measured."""
        return self.reading and self.reading.value

    @property
    def error(self) -> float | None:
        """Its standard error."""
        return self.reading and self.reading.error

    @property
    def p(self) -> float | None:
        """How often a true claim would deviate as far."""
        return self.interval.p if self.verdict in SEEN and self.interval else None


@dataclass(frozen=True)
class Answer:
    """Rows that answer one question, and what they say together."""

    question: str
    rows: tuple[Measured, ...]

    @property
    def p(self) -> float | None:
        """The joint p of two or more numbers; None where one of them has none."""
        told = [m for m in self.rows if m.verdict in SEEN]
        if len(told) < 2 or any(m.p is None for m in told):
            return None
        return joint([m.p for m in told], independent=all(not m.row.released for m in told))

    @property
    def verdict(self) -> str:
        """By the joint p where there is one; else one row that differs decides."""
        if self.p is None:
            return overall([m.verdict for m in self.rows])
        if self.p < 1 - LEVEL:
            return DIFFERS
        return overall([COARSE if m.interval and m.interval.coarse and m.verdict in SEEN else
                        REPRODUCED if m.verdict == DIFFERS else m.verdict for m in self.rows])


@dataclass(frozen=True)
class Judged:
    """A claim measured on one run."""

    claim: Claim
    preset: str | None
    seed: int | None
    description: str
    rows: tuple[Measured, ...]

    def __getitem__(self, what) -> Measured:
        """The row of that quantity."""
        return next(row for row in self.rows if row.row.what == what)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The rows by question; a row without one is a question of its own."""
        def question(m):
            return m.row.question or m.row.what

        order = list(dict.fromkeys(map(question, self.rows)))
        ranked = sorted(self.rows, key=lambda m: order.index(question(m)))
        return tuple(Answer(name, tuple(rows)) for name, rows in groupby(ranked, question))

    @property
    def verdict(self) -> str:
        """Of all questions together."""
        return overall([answer.verdict for answer in self.answers])


def overall(verdicts) -> str:
    """What several verdicts come to: one that differs decides, then what cannot be told, then what
    is missing; all must be reproduced for the whole to be."""
    return next(kind for kind in (DIFFERS, ILL, COARSE, NOT_RUN, NOT_REACHED, REPRODUCED)
                if kind in verdicts)


def joint(ps, independent=False) -> float:
    """One p of several: of independent ones by the sum of their squared normal deviates, which is
    chi squared; of ones that share their seeds by Simes, min K p_(k) / k, for which independence
    is not needed if they vary together."""
    ps = sorted(max(p, 1e-300) for p in ps)
    if independent:
        return float(chdtrc(len(ps), sum(float(ndtri(p / 2)) ** 2 for p in ps)))
    return min(1.0, min(len(ps) * p / k for k, p in enumerate(ps, 1)))


def joint_of(z) -> float:
    """The joint p of independent deviations in standard errors."""
    z = [float(value) for value in z]
    return float(chdtrc(len(z), math.fsum(value**2 for value in z))) if z else math.nan
