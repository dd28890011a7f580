"""Claims beside their figure, in two forms that say the same: HTML on a page, text in a terminal.

On a page a claim is a chip, its sentence and a table of the numbers that this run shows. Of many
the one that decides is shown, and the rest are folded, with what stands in the way of others.
"""

from companion.claims import text
from companion.claims.chips import chip, escaped
from companion.claims.judge import SEEN, Judged
from companion.claims.overview import telling
from companion.claims.verdicts import ILL

MANY = 4  # numbers that stand unfolded


class ShownClaims:
    """Judged claims to display, the same bytes each time."""

    def __init__(self, found: dict[str, Judged]):
        self.found = list(found.values())

    def __repr__(self):
        return "\n".join(map(text.brief, self.found))

    def _repr_html_(self):
        return "\n".join(map(_claim, self.found))


def _claim(found: Judged) -> str:
    seen = [m for m in found.rows if m.verdict in (*SEEN, ILL)]
    first = seen if len(seen) <= MANY else [telling(found)]
    head = (f'<p class="claim-head"><strong>{found.claim.id}</strong> {chip(found.verdict)} '
            f"{escaped(found.claim.what)}</p>")
    folded = _folded(found, [m for m in seen if m not in first])
    parts = "\n".join(filter(None, (head, _table(first), folded)))
    return f'<div class="claim-shown">{parts}</div>'


def _table(rows) -> str:
    """Numbers that the run shows, a row each."""
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{head}</th>' for head in text.HEADS)
    body = "\n".join("<tr>" + _cells(m) + "</tr>" for m in rows)
    return (f'<table class="card-table claim-numbers"><thead><tr>{heads}</tr></thead>\n'
            f"<tbody>{body}</tbody></table>")


def _cells(m) -> str:
    *words, verdict = text.cells(m)
    *heads, last = text.HEADS
    return "".join(f'<td data-label="{head}">{escaped(cell)}</td>' for head, cell in zip(
        heads, words, strict=True)) + f'<td data-label="{last}">{chip(verdict)}</td>'


def _folded(found, rest) -> str:
    """The other numbers, what all say together, and what stands in the way of those not seen."""
    lines = [*text.joints(found), *text.reasons(found), *text.missing(found)]
    if not (lines or rest):
        return ""
    items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
    return (f'<details class="claim-more"><summary>{escaped(text.counts(found))}</summary>\n'
            + _table(rest) + (f"<ul>{items}</ul>" if lines else "") + "</details>")
