"""All claims at a glance: one line each, with a filter by verdict and by the paper's sections.

book/_static/claims.js works the filter; without a script there is none, and every line is there.
"""

import re

from companion.claims import text
from companion.claims.chips import CLASSES, chip, escaped
from companion.claims.judge import Judged, Measured
from companion.claims.verdicts import VERDICTS

SECTIONS = {"abstract": "abstract", "1": "1: introduction (Fig. 1)", "3": "3: training",
            "5": "5: stages, Table 1", "6": "6: language model", "7": "7: regression",
            "A": "A: the LLC", "B": "B: stages, seeds, Hessian", "C": "C: language model",
            "D": "D: regression", "E": "E: one layer"}
PICTURES = re.compile(r"Figs\. [\w.]+(,? (to )?[A-E]\.\d\w?)*|Fig\. \w+(\.\d\w?)?|Table \d")
FLOATS = {"Fig. 1": "1", "Table 1": "5"}  # the section in which a figure or table stands
HEADS = ("claim", "verdict", "paper, and what agrees", "here", "notices, of the effect claimed")


def anchor(found: Judged) -> str:
    """Where the claims page has a claim."""
    return f"claim-{found.claim.id.lower()}"


def sections(found: Judged) -> list[str]:
    """The paper's sections that make a claim, from the place that its entry names."""
    named = re.findall(r"(?<![\w.])(?:App\. )?(abstract|[A-E]|\d)(?=[.,]|$| \()",
                       PICTURES.sub("", found.claim.where))
    floats = [section for name, section in FLOATS.items() if name in found.claim.where]
    return list(dict.fromkeys([*named, *floats]))


def classes(found: Judged) -> list[str]:
    """What the filter goes by."""
    return [_verdict(found.verdict), *(f"section-{name}" for name in sections(found))]


def _verdict(kind):
    return CLASSES[kind].replace("chip", "verdict")


def telling(found: Judged) -> Measured:
    """The row that stands for a claim: the first that has its verdict and was measured; else the
    first that was measured; else the first."""
    measured = [m for m in found.rows if m.reading is not None]
    return next((m for m in measured if m.verdict == found.verdict), [*measured, *found.rows][0])


def page(found: list[Judged]) -> str:
    """The filter and the table as HTML."""
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    rows = "\n".join(map(_line, found))
    return (f'<div id="overview" class="claims-overview">{_filter(found)}<table class="card-table">'
            "<caption>Of each claim one number: the one that decides, or the first. A claim's name "
            f"leads to all of them.</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
            "</table></div>")


def _line(found):
    claim, m = found.claim, telling(found)
    what, paper, here, least, _ = map(escaped, text.cells(m))
    if len({row.verdict for row in found.rows}) > 1:
        which = f"{what} ({text.counts(found)})"
    else:
        which = f"{what} (of {len(found.rows)})" if len(found.rows) > 1 else what
    cells = (f'<a href="#{anchor(found)}">{claim.id}</a> {escaped(claim.what)}<br>'
             f'<span class="which">{which}</span>', chip(found.verdict), paper, here, least)
    body = "".join(f'<td data-label="{head}">{cell}</td>' for head, cell in zip(HEADS, cells,
                                                                               strict=True))
    return f'<tr class="{" ".join(classes(found))}">{body}</tr>'


def _filter(found):
    kinds = [(_verdict(kind), f"{kind} ({sum(judged.verdict == kind for judged in found)})")
             for kind in VERDICTS]
    used = {name for judged in found for name in sections(judged)}
    places = [(f"section-{name}", words) for name, words in SECTIONS.items() if name in used]
    return ('<form class="claims-filter" hidden>'
            + _choice("Verdict", kinds) + _choice("Section of the paper", places)
            + '<output aria-live="polite"></output></form>')


def _choice(label, options):
    items = "".join(f'<option value="{value}">{escaped(words)}</option>'
                    for value, words in [("", "all"), *options])
    return f"<label>{label} <select>{items}</select></label> "

