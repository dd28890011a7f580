"""The claims in words: what the command `claims` prints, the book renders, and pages show."""

import math
import textwrap

from companion.claims.entries import Row
from companion.claims.judge import AGREES, DIFFERS, NOT_REACHED, NOT_RUN, VERDICTS, Judged, Measured

WIDTH = 100
HEADS = ("quantity", "paper, and what agrees", "here", "verdict")


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


def wanted(row: Row) -> str:
    """The paper's value, and what is near enough."""
    besides = f" + {row.errors:g} se" if row.errors else ""
    if isinstance(row.tolerance, str):
        limit = f"within {row.tolerance.replace('factor', 'a factor')}{besides}"
    elif row.side == "within":
        limit = f"within {row.tolerance:g}{besides}" if row.tolerance or besides else "exactly"
    else:
        low, high = row.bounds(0.0)
        bound = high if row.side == "at most" else low
        if bound == row.expected:
            return f"{row.side} {_typed(row.expected)}{besides}"
        limit = f"{row.side} {round(bound, 6):g}{besides}"
    return f"{_typed(row.expected)}, {limit}"


def _typed(value) -> str:
    """A number as the ledger's file has it."""
    return f"{value:,}" if abs(value) >= 1000 else str(value)


def measured(m: Measured) -> str:
    """What was measured, with the spread over other seeds."""
    if m.value is None:
        return "-"
    found = [value for value in m.spread if math.isfinite(value)]
    if not found:
        return number(m.value, m.error)
    low, high = number(min(found)), number(max(found))
    seeds = f"seed {low}" if len(found) == 1 else f"{len(found)} seeds {low} to {high}"
    return f"{number(m.value, m.error)}; other {seeds}"


def moves(m: Measured | Judged) -> str:
    """The verdict, and where half or double the tolerance changes it."""
    others = {"half": m.verdict_at_half_tolerance, "double": m.verdict_at_double_tolerance}
    return "; ".join([m.verdict, *(f"{other} at {name} tolerance"
                                   for name, other in others.items() if other != m.verdict)])


def cells(m: Measured) -> tuple[str, str, str, str]:
    """A row of the table: quantity, the paper's, ours, verdict."""
    unit = f" ({m.row.unit})" if m.row.unit else ""
    return m.row.what + unit, wanted(m.row), measured(m), moves(m)


def head(found: Judged) -> str:
    """The id and the verdict; of a claim that a run shows in part, how much of it."""
    seen = [m for m in found.rows if m.verdict in (AGREES, DIFFERS)]
    part = ""
    if found.verdict == NOT_REACHED and seen:
        verb = "agrees" if len(seen) == 1 else "agree"
        part = f"; {len(seen)} of {len(found.rows)} numbers can be seen and {verb}"
    return f"{found.claim.id}: {moves(found)}{part}"


def facts(found: Judged) -> list[str]:
    """Where claim, values and tolerance come from, and what was measured."""
    claim = found.claim
    where = found.description or "no tables of it yet"
    return [f"In the paper: {claim.where}. Values: {_ended(claim.source)} Unit: {claim.unit}.",
            f"Tolerance: {_ended(claim.basis)}", f"Measured on: {_ended(where)}",
            f"Page: {page(claim)}."]


def page(claim) -> str:
    """The page that shows a claim, in words."""
    return claim.page.split("_", 1)[1].replace("_", " ")


def _ended(text):
    return text if text.endswith(".") else text + "."


def block(found: Judged) -> str:
    """One claim in full."""
    rows = [cells(m) for m in found.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["    " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths,
                                                                         strict=False)), row[3]])
             for row in rows]
    return "\n".join([head(found), _fill(found.claim.what), *lines,
                      *(_fill(fact) for fact in facts(found))])


def _fill(text, indent="  "):
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def tally(found: list[Judged]) -> str:
    """How many claims have each verdict, and which."""
    lines = []
    for kind in VERDICTS:
        ids = [judged.claim.id for judged in found if judged.verdict == kind]
        lines.append(f"{kind}: {len(ids)}" + (f" ({', '.join(ids)})" if ids else ""))
    return "\n".join(lines)


def brief(found: Judged, width=86) -> str:
    """One claim beside its figure: verdict, sentence, and the numbers this run shows; then the
    paper's numbers that it does not."""
    lines = [f"{head(found)}. {found.claim.what}"]
    for m in found.rows:
        if m.verdict in (AGREES, DIFFERS):
            what, paper, here, verdict = cells(m)
            lines.append(f"  {what}: {here}; the paper's {paper}: {verdict}")
    for kind in (NOT_REACHED, NOT_RUN):
        if rest := [m.row for m in found.rows if m.verdict == kind]:
            lines.append(f"  {kind}: " + "; ".join(f"{row.what} ({_typed(row.expected)})"
                                                   for row in rest))
    shown = {m.row.what for m in found.rows}
    if rest := [row for row in found.claim.rows if row.what not in shown]:
        lines.append("  released: " + "; ".join(f"{row.what} ({_typed(row.expected)})"
                                                for row in rest))
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)
