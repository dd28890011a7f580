"""The claims in words: what the command `claims` prints, the book renders, and pages show."""

import math
import textwrap

from companion.claims import seeds
from companion.claims.judge import SEEN, Answer, Judged, Measured
from companion.claims.verdicts import (
    COARSE,
    DIFFERS,
    ILL,
    NOT_REACHED,
    NOT_RUN,
    REPRODUCED,
    VERDICTS,
)

WIDTH = 100
SCALES = {"steps": "paper's steps", "paper": "paper's scale"}  # what a row needs, in words
HEADS = ("quantity", "paper, and what agrees", "here", "notices, of the effect claimed", "verdict")


def number(value, error=None) -> str:
    """A value as a reader wants it: as many digits as two of its error's, or three. No more than
    the six that tables hold: an error that they do not show is not shown either."""
    if not math.isfinite(value):
        return "none found"
    if error:
        held = 5 - math.floor(math.log10(abs(value))) if value else 6
        digits = max(0, min(6, held, 1 - math.floor(math.log10(error))))
        seen = f" +- {error:,.{digits}f}" if error >= 0.5 * 10**-digits else ""
        return f"{value:,.{digits}f}{seen}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def wanted(m: Measured) -> str:
    """The paper's value, and what agrees: with a reading, with its error in it."""
    row, found = m.row, m.interval
    if row.bound is not None:
        side = "at least" if row.at_least is not None else "at most"
        said = "" if row.expected is None else f"{_typed(row.expected)}, "
        return f"{said}{side} {_typed(row.bound)}"
    if row.between:
        said = "" if row.expected is None else f"{_typed(row.expected)}, "
        return f"{said}between {_typed(row.between[0])} and {_typed(row.between[1])}"
    if row.released:
        values = seeds.of_seeds(**row.released)
        said = f"{len(values)} seeds {_three(values.min())} to {_three(values.max())}"
    elif row.tolerance:
        said = _typed(row.expected)
    else:
        return _typed(row.expected) + (f" +- {_three(found.notice)}" if found and found.notice
                                       else "")
    if found is None:
        return said if row.released else f"{said} +- {_typed(row.tolerance)}"
    return f"{said}; {ends(found)}"


def ends(found) -> str:
    """From where to where a reading agrees, in three digits, or as many more as tell the two
    apart."""
    if _three(found.low) == _three(found.high) and math.isfinite(found.high - found.low):
        return f"{found.low:.6g} to {found.high:.6g}"
    return " to ".join(_three(end) if math.isfinite(end) else "any"
                       for end in (found.low, found.high))


def _three(value) -> str:
    """A number with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _typed(value) -> str:
    """A number as the ledger's file has it."""
    return f"{value:,}" if abs(value) >= 1000 else str(value)


def power(m: Measured) -> str:
    """The least deviation that the measurement would notice, of the effect that is claimed."""
    factor = "a factor " if m.row.log or m.row.between else ""
    least = "-" if m.interval is None else f"{factor}{_three(m.interval.notice)}"
    return f"{least} of {factor}{_three(m.row.effect)}"


def measured(m: Measured) -> str:
    """What was measured, with the spread over other seeds."""
    if m.value is None:
        return "-"
    found = [value for value in m.spread if math.isfinite(value)]
    about = f" ({m.reading.about})" if m.reading.about else ""
    here = number(m.value, m.error) + about
    if not found:
        return here
    low, high = number(min(found)), number(max(found))
    which = f"seed {low}" if len(found) == 1 else f"{len(found)} seeds {low} to {high}"
    return f"{here}; other {which}"


def cells(m: Measured) -> tuple[str, str, str, str, str]:
    """A row of the table: quantity, the paper's, ours, power, verdict."""
    notes = ", ".join(filter(None, [m.row.unit, SCALES.get(m.row.scale)]))
    what = m.row.what + (f" ({notes})" if notes else "")
    return what, wanted(m), measured(m), power(m), m.verdict


def head(found: Judged) -> str:
    """The id and the verdict; and where rows say different things, how many say what."""
    rest = f" ({counts(found)})" if len({m.verdict for m in found.rows}) > 1 else ""
    return f"{found.claim.id}: {found.verdict}{rest}"


def counts(found: Judged) -> str:
    """How many of a claim's rows say what."""
    kinds = [kind for kind in VERDICTS if any(m.verdict == kind for m in found.rows)]
    return f"of {len(found.rows)} row{'s' * (len(found.rows) > 1)} " + ", ".join(
        f"{sum(m.verdict == kind for m in found.rows)} {kind}" for kind in kinds)


BELIEVE = {
    REPRODUCED: "A reader may believe it: the numbers, those of one question taken together, are "
                "where the released seeds, or the tolerance, want them, and half of the effect "
                "claimed would have been noticed.",
    DIFFERS: "Here it is not so: {rows}.",
    COARSE: "Taken together, nothing here speaks against it, and too little for it: half of the "
            "effect would go unnoticed in {rows}.",
    ILL: "Nothing may be believed of it yet: {rows} rest on estimates that failed their own "
         "check.",
    NOT_REACHED: "This run stops before all of it can be seen.",
    NOT_RUN: "Not all of it was run: {rows}."}


def believe(found: Judged) -> str:
    """One line: what a reader may believe of a claim."""
    names = [_name(answer) for answer in found.answers if answer.verdict == found.verdict]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return BELIEVE[found.verdict].format(rows="; ".join(names[:3]) + more)


def _name(answer: Answer) -> str:
    return answer.question if len(answer.rows) > 1 else answer.rows[0].row.what


def joints(found: Judged) -> list[str]:
    """Of each question that several numbers answer, what they say together."""
    return [f"Together, {answer.question}: p = {_p(answer.p)} of "
            f"{sum(m.p is not None for m in answer.rows)} numbers: {answer.verdict}"
            for answer in found.answers if answer.p is not None]


def _p(p) -> str:
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}" if p >= 1e-4 else "below 0.0001"


def facts(found: Judged) -> list[str]:
    """Where claim, values and tolerance come from, and what was measured."""
    claim = found.claim
    where = found.description or "no tables of it yet"
    needs = claim.needs
    many = f"{needs['seeds']} seeds" if needs["seeds"] > 1 else "one seed"
    return [f"In the paper: {claim.where}. Values: {_ended(claim.source)} Unit: {claim.unit}.",
            f"Tolerance: {_ended(claim.basis)}",
            f"Needs: {', '.join(claim.tables)}; {many}; all of it from the {needs['scale']} "
            "preset on.",
            f"Measured on: {_ended(where)}", f"Page: {page(claim)}."]


def reasons(found: Judged) -> list[str]:
    """What stands in the way of rows, each reason once, with how many rows it stops."""
    whys = [m.why for m in found.rows if m.why]
    return [f"{sum(why == other for other in whys)} of {len(found.rows)} rows: {why}"
            for why in dict.fromkeys(whys)]


def page(claim) -> str:
    """The page that shows a claim, in words."""
    return claim.page.split("_", 1)[1].replace("_", " ")


def _ended(text):
    return text if text.endswith(".") else text + "."


def says(found: Judged) -> list[str]:
    """All that is said of a claim below its table; the last is its page."""
    return [*joints(found), *map(_ended, reasons(found)), *facts(found)]


def block(found: Judged) -> str:
    """One claim in full."""
    rows = [cells(m) for m in found.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["    " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths,
                                                                         strict=False)), row[4]])
             for row in rows]
    return "\n".join([head(found), _fill(found.claim.what), _fill(believe(found)), *lines,
                      *map(_fill, says(found))])


def _fill(text, indent="  "):
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def tally(found: list[Judged]) -> str:
    """How many claims have each verdict, and which; then the rows, every one."""
    lines = []
    for kind in VERDICTS:
        ids = [judged.claim.id for judged in found if judged.verdict == kind]
        lines.append(f"{kind}: {len(ids)}" + (f" ({', '.join(ids)})" if ids else ""))
    return "\n".join([*lines, row_tally(found)])


def row_tally(found: list[Judged]) -> str:
    """Every row by its verdict."""
    rows = [m.verdict for judged in found for m in judged.rows]
    counts = ", ".join(f"{rows.count(kind)} {kind}" for kind in VERDICTS)
    return f"rows: {len(rows)} ({counts})"


def missing(found: Judged) -> list[str]:
    """The numbers that this run does not show, with what the paper says of them."""
    rows = {kind: [m for m in found.rows if m.verdict == kind] for kind in (NOT_REACHED, NOT_RUN)}
    return [f"{kind}: " + "; ".join(f"{m.row.what} ({wanted(m)})" for m in some)
            for kind, some in rows.items() if some]


def brief(found: Judged, width=86) -> str:
    """One claim beside its figure: verdict, sentence, and the numbers this run shows with their
    power; then those that it does not, and why."""
    lines = [f"{head(found)}. {found.claim.what}"]
    for m in found.rows:
        if m.verdict in (*SEEN, ILL):
            what, paper, here, least, verdict = cells(m)
            lines.append(f"  {what}: {here}; the paper's {paper}; notices {least}: {verdict}")
    lines += [f"  {said}" for said in (*joints(found), *reasons(found), *missing(found))]
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)
