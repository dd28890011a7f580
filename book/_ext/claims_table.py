"""The paper's claims on a page, measured at build from the committed tables.

```{claims-table}``` shows an overview with a filter, the tally, and every claim folded;
```{claims-table} LR-1 LM-1``` the named claims alone; ```{claims-tally}``` the tally as chips that
lead to the claims. The words are those of the command `claims`. An entry of data/claims.yaml that
is malformed, or has no measurement, ends the build with its id.
"""

import sys

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

PAGE = "claims.html"  # beside the front page
ledgers = {}  # one a build: it takes seconds


class ClaimsTable(SphinxDirective):
    """Claims, each as a folded block with a table of its numbers."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        from companion.claims import ledger
        from devlib.errors import UserError

        self.env.note_reread()  # tables come and go
        ids = self.arguments[0].split() if self.arguments else []
        try:
            ledger.chosen(ids)
            found = [judged for judged in whole() if not ids or judged.claim.id in ids]
        except UserError as error:
            raise ExtensionError(f"claims-table: {error}") from error
        blocks = [block(judged) for judged in found]
        return blocks if ids else [*tally(found), overview(found), *blocks]


class ClaimsTally(SphinxDirective):
    """How many of the paper's claims have each verdict, each claim once."""

    def run(self):
        from devlib.errors import UserError

        self.env.note_reread()
        try:
            return tally(whole(), page=PAGE)
        except UserError as error:
            raise ExtensionError(f"claims-tally: {error}") from error


def whole():
    """The ledger on the committed tables, once a build."""
    from companion import runs
    from companion.claims import ledger

    if runs.COMMITTED not in ledgers:
        ledgers[runs.COMMITTED] = ledger.ledger()
    return ledgers[runs.COMMITTED]


def overview(found):
    """One line a claim, with a filter that a script brings to life."""
    from companion.claims import overview

    return nodes.raw("", overview.page(found), format="html")


def plus_minus(text):
    """What a terminal writes in ASCII."""
    return text.replace("+-", "\N{PLUS-MINUS SIGN}")


def chip(kind, text):
    """A verdict in words, with a class for its colour."""
    from companion.claims.chips import CLASSES

    return nodes.inline(text=text, classes=["chip", CLASSES[kind]])


def tally(found, page=""):
    """How many claims have each verdict, with links to them, on this page or another; and the
    rows, every one. Commas and brackets are heard and not seen."""
    from companion.claims import overview
    from companion.claims import text as claims_text
    from companion.claims.verdicts import VERDICTS

    items = nodes.bullet_list(classes=["claims-tally"])
    for kind in VERDICTS:
        some = [judged for judged in found if judged.verdict == kind]
        line = nodes.paragraph("", "", chip(kind, f"{kind}: {len(some)}"))
        for index, judged in enumerate(some):
            line += [nodes.inline(text=", " if index else " (", classes=["heard"]),
                     nodes.reference("", judged.claim.id, internal=True,
                                     refuri=f"{page}#{overview.anchor(judged)}")]
        if some:
            line += nodes.inline(text=")", classes=["heard"])
        items += nodes.list_item("", line)
    return [items, nodes.paragraph(text=claims_text.row_tally(found), classes=["claims-rows"])]


def block(judged):
    """One claim: verdict, and folded its sentence, its numbers, and where they come from."""
    from companion.claims import overview
    from companion.claims import text as claims_text

    part = nodes.container(classes=["claim", *overview.classes(judged)],
                           ids=[overview.anchor(judged)])
    words = claims_text.head(judged).removeprefix(f"{judged.claim.id}: ")
    part += nodes.raw("", "<details><summary>", format="html")
    part += nodes.paragraph("", "", nodes.strong(text=f"{judged.claim.id}:"), nodes.Text(" "),
                            chip(judged.verdict, words), classes=["claim-head"])
    part += nodes.raw("", "</summary>", format="html")
    part += nodes.paragraph(text=judged.claim.what)
    part += nodes.paragraph(text=claims_text.believe(judged), classes=["claim-believe"])
    part += table(claims_text.HEADS, judged, claims_text.cells)
    *facts, _ = claims_text.says(judged)
    part += [nodes.paragraph(text=fact, classes=["claim-fact"]) for fact in facts]
    link = addnodes.pending_xref(
        "", nodes.inline(text=claims_text.page(judged.claim)), reftype="doc", refdomain="std",
        reftarget=f"/notebooks/{judged.claim.page}", refexplicit=True, refwarn=True)
    part += nodes.paragraph("", "Page: ", link, nodes.Text("."), classes=["claim-fact"])
    part += nodes.raw("", "</details>", format="html")
    return part


def table(heads, judged, cells):
    """The numbers of a claim, a row each."""
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    header, body = nodes.thead("", row(map(str, heads))), nodes.tbody()
    for m in judged.rows:
        *texts, said = cells(m)
        body += row([*map(plus_minus, texts), chip(m.verdict, said)])
    group += [header, body]
    return nodes.table("", group, classes=["claim-table"])


def row(parts):
    line = nodes.row()
    for cell in parts:
        inline = nodes.Text(cell) if isinstance(cell, str) else cell
        line += nodes.entry("", nodes.paragraph("", "", inline))
    return line


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.add_directive("claims-table", ClaimsTable)
    app.add_directive("claims-tally", ClaimsTally)
    app.add_css_file("claims.css")
    app.add_js_file("claims.js")
    app.connect("builder-inited", lambda app: ledgers.clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
