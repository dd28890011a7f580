"""The ledger judged by the paper's own data: each of the five released seeds in turn stands where
our run stands, and is judged against the other four, as it is and moved by some of their standard
deviations. So one counts how often a true number is taken for a wrong one, and a wrong one for
true."""

import numpy as np

from companion.claims import seeds
from companion.claims.interval import Reading, judge
from companion.claims.judge import Judged, Measured
from companion.claims.verdicts import DIFFERS, REPRODUCED

ALL = 5  # rows of which a seed has nothing to find have fewer, and are left out


def left_out(claims, shift) -> list[Judged]:
    """Each claim with rows that rest on all five released seeds and ask for one run, five times:
    those rows alone, each seed judged against the other four, moved by `shift` of their sd."""
    found = []
    for claim in claims:
        rows = [row for row in claim.rows
                if row.released and len(seeds.of_seeds(**row.released)) == ALL]
        if rows and claim.needs["seeds"] == 1:
            found += [Judged(claim, None, number, "", tuple(_moved(row, number, shift)
                                                            for row in rows))
                      for number in range(ALL)]
    return found


def _moved(row, number, shift) -> Measured:
    to, back = (np.log, np.exp) if row.log else (np.asarray, float)
    values = seeds.of_seeds(**row.released)
    rest = np.delete(values, number)
    reading = Reading(float(back(to(values[number]) + shift * np.std(to(rest), ddof=1))))
    verdict, interval = judge(row, reading, values=rest)
    return Measured(row, verdict, reading, interval)


def counts(found) -> dict[str, tuple[int, int, int]]:
    """Of rows, questions and claims so judged: (those that do not differ, those that say
    *reproduced*, all)."""
    told = {"rows": [m.verdict for judged in found for m in judged.rows],
            "questions": [answer.verdict for judged in found for answer in judged.answers],
            "claims": [judged.verdict for judged in found]}
    return {kind: (sum(verdict != DIFFERS for verdict in verdicts), verdicts.count(REPRODUCED),
                   len(verdicts)) for kind, verdicts in told.items()}


SHIFTS = (0, 3, 5)


def calibration(claims) -> str:
    """What `left_out` says, in a line a shift."""
    lines = ["calibration: each released seed judged against the other four"]
    for shift in SHIFTS:
        said = ", ".join(f"{kept} of {every} {kind} ({agree} reproduced)" for kind, (
            kept, agree, every) in counts(left_out(claims, shift)).items())
        where = f"moved by {shift} sd" if shift else "as it is"
        lines.append(f"  {where}, does not differ: {said}")
    return "\n".join(lines)
