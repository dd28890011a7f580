"""The provenance card at the top of every notebook page, and the command that clones the project.

A card (companion.site.cards) is built from the executed notebook: its parameters and the record
that its last cell left. It stands after the title. A page without a record, or made from other
tables than those in data/results, is a warning, which fails the build. ```{clone-command}``` is the
command with the address of _config.yml.
"""

import html
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


def insert_card(app, doctree):
    """Puts the card of a notebook page after its title."""
    from companion.places import project_root
    from companion.program import PROGRAM
    from companion.site import cards
    from devlib.errors import UserError

    docname = app.env.docname
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    try:
        card = cards.read(path)
        colab = _repository(app).in_colab(f"{docname}.ipynb")
    except UserError as error:
        logger.warning(str(error), location=docname)
        return
    for source in card.sources:
        app.env.note_dependency(str(project_root() / source["place"] / "manifest.json"))
    for place in cards.stale(card, project_root()):
        logger.warning(f"{path.name} was made from another {place} than the one that is there; "
                       f"{PROGRAM} refresh {path.stem}", location=docname)
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None:
        title.parent.insert(title.parent.index(title) + 1, card_node(card, colab))


def card_node(card, colab):
    """A card: preset and scale, and behind a fold the rerun line and where each number comes
    from."""
    box = nodes.container(classes=["provenance"])
    for run, scale in card.runs:
        line = nodes.paragraph("", "", nodes.strong(text=run))
        line += nodes.Text(f": {scale}." if scale else ".")
        box += line
    fold = f"<details><summary>Rerun this page; {html.escape(card.summary)}</summary>"
    box += nodes.raw("", fold, format="html")
    rerun = nodes.paragraph("", "Rerun this page")
    if colab:
        rerun += [nodes.Text(", or "), nodes.reference("", "open it in Colab", refuri=colab,
                                                       classes=["open-in-colab"])]
    rerun += nodes.Text(":")
    box += [rerun, command(card.rerun)]
    for machine, sources in card.machines.items():
        box += nodes.paragraph("", f"{machine}:")
        box += nodes.bullet_list("", *map(source_node, sources))
    box += nodes.raw("", "</details>", format="html")
    return box


def source_node(source):
    """One folder or file: its place, time, commit and hashes."""
    from companion.provenance import hashes, spent

    made = source["made with"].get("commit")
    facts = [spent(source), made and f"commit {made}", hashes(source)]
    return nodes.list_item("", nodes.paragraph(
        "", "", nodes.literal(text=source["place"]),
        nodes.Text(": " + "; ".join(filter(None, facts)))))


def command(text):
    """A command line as a block; sphinx-copybutton, which jupyter-book loads, gives it a button."""
    return nodes.literal_block(text, text, language="bash", classes=["command"])


class CloneCommand(SphinxDirective):
    """What fetches the project, with further lines from the directive's body below it."""

    has_content = True

    def run(self):
        found = _repository(self.env.app)
        return [command("\n".join([found.clone, f"cd {found.folder}", *self.content]))]


def _repository(app):
    from companion.site.address import repository

    app.env.note_dependency(str(Path(app.srcdir) / "_config.yml"))
    return repository(app.srcdir)


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.add_directive("clone-command", CloneCommand)
    app.connect("doctree-read", insert_card, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
