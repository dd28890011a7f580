"""What a claim's verdict is, given what was measured."""

import math
from dataclasses import dataclass

from companion.claims.entries import Claim, Row
from companion.claims.verdicts import verdict

AGREES, DIFFERS, NOT_REACHED, NOT_RUN = VERDICTS = (
    verdict(True, reached=True), verdict(False, reached=True), verdict(False, reached=False),
    "not run")


@dataclass(frozen=True)
class Measured:
    """One row of a claim, measured: `value` is None where it was not, and not finite where there
    was nothing to find."""

    row: Row
    value: float | None
    error: float | None
    verdict: str
    verdict_at_half_tolerance: str
    verdict_at_double_tolerance: str
    spread: tuple[float, ...] = ()  # the same value in other seeds


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
    def verdict(self):
        return overall([row.verdict for row in self.rows])

    @property
    def verdict_at_half_tolerance(self):
        """What the verdict would be at half of each row's tolerance."""
        return overall([row.verdict_at_half_tolerance for row in self.rows])

    @property
    def verdict_at_double_tolerance(self):
        """What the verdict would be at twice each row's tolerance."""
        return overall([row.verdict_at_double_tolerance for row in self.rows])


def overall(verdicts) -> str:
    """A claim's verdict from its rows': one that differs decides; then what is missing; all rows
    must agree for the claim to agree."""
    return next(kind for kind in (DIFFERS, NOT_RUN, NOT_REACHED, AGREES) if kind in verdicts)


def judge(row: Row, value, error, scale=1.0) -> str:
    """Whether a measurement is where the row wants it, with `scale` times the tolerance."""
    if not math.isfinite(value):
        return DIFFERS
    low, high = row.bounds(error or 0.0, scale)
    return verdict(low <= value <= high, reached=True)
