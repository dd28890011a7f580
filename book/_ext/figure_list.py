"""The index of figures: ```{figure-index} paper``` and ```{figure-index} own```.

data/figures.yaml as a list, with the status of each entry computed from the pages; then every
figure of the pages that it does not name. A place named there that no page has is a warning by
name, which fails the build.
"""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from figures import FOLDER, store
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

logger = logging.getLogger(__name__)


class IndexNode(nodes.General, nodes.Element):
    """Stands for the list until every page has been read."""


class FigureIndex(SphinxDirective):
    """The list of the paper's figures, or of our own."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(_file(self.env.app)))
        _holders(self.env).add(self.env.docname)
        return [IndexNode(part=directives.choice(self.arguments[0], ("paper", "own")))]


def check(app, env):
    """Warns of what does not fit, by name."""
    from companion.site import figure_index

    if not _holders(env):
        return
    pages = store(env)
    anchors = {page: facts["anchors"] for page, facts in pages.items()}
    made = {page: facts["preset"] for page, facts in pages.items()}
    for problem in figure_index.problems(figure_index.load(_file(app)), anchors, made):
        logger.warning(f"{figure_index.FILE}: {problem}")


def resolve(app, doctree, docname):
    """Fills the list in."""
    from companion.site import figure_index

    for node in list(doctree.findall(IndexNode)):
        entries = figure_index.load(_file(app))
        if node["part"] == "own":
            entries = figure_index.own(entries, _alts(app.env))
        node.replace_self([_entry(app, docname, entry) for entry in entries])


def _alts(env):
    """Of every figure in the book, by page and name, what its picture's alternative text says."""
    return {(page, name): facts["alt"] for page, known in sorted(store(env).items())
            for name, facts in known["figures"].items()}


def _entry(app, docname, entry):
    """One entry: figure and what it shows, where ours is, with its data, and the status."""
    from companion.presets import PRESETS
    from companion.site.figure_index import split

    pages = store(app.env)
    places = [split(place) for place in entry.ours]
    used = [pages[page]["preset"] for page, _ in places if page in pages]
    least = min(filter(None, used), key=list(PRESETS).index, default=None)
    item = nodes.container(classes=["figure-entry"])
    item += nodes.paragraph("", "", nodes.strong(text=entry.figure), nodes.Text(f" {entry.shows}"))
    for page, anchor in places:
        if page in pages and anchor in pages[page]["anchors"]:
            item += _place(app, docname, page, anchor, pages[page]["figures"])
    item += nodes.paragraph("", "", nodes.inline(text=entry.status(least), classes=["status"]))
    return item


def _place(app, docname, page, anchor, figures):
    """A link to a place in the book and, if it is a figure, to its files."""
    builder = app.builder
    uri = builder.get_relative_uri(docname, page)
    line = nodes.paragraph()
    title = app.env.titles[page].astext()
    name = anchor.removeprefix("figure-")
    line += nodes.reference("", f"{title}: {name.replace('_', ' ').replace('-', ' ')}",
                            refuri=f"{uri.partition('#')[0]}#{anchor}", internal=True)
    for file in figures.get(name, {}).get("files", ()):
        target = relative_uri(builder.get_target_uri(docname), f"{FOLDER}/{page}/{file}")
        line += [nodes.Text(", "), nodes.reference("", file.rsplit(".", 1)[1].upper(),
                                                   refuri=target)]
    return line


def _file(app):
    """The list of this book, or that of the checkout whose pages were run anew for it."""
    from companion.places import project_root
    from companion.site.figure_index import FILE

    own = Path(app.srcdir) / FILE
    return own if own.exists() else project_root() / FILE


def _holders(env):
    """The pages with the list."""
    if not hasattr(env, "devlib_indices"):
        env.devlib_indices = set()
    return env.devlib_indices


def purge(app, env, docname):
    _holders(env).discard(docname)


def merge(app, env, docnames, other):
    _holders(env).update(_holders(other) & set(docnames))


def rewrite(app, env):
    """They are written anew with every change, of whichever page."""
    return sorted(_holders(env))


def setup(app):
    app.setup_extension("figures")
    app.add_node(IndexNode)
    app.add_directive("figure-index", FigureIndex)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", rewrite)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", resolve, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True,
            "env_version": 1}
