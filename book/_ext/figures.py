"""Files under each figure, anchors to it, and the index of figures.

1. The data: links under a figure (devlib.downloads) become files of the book, and its PNG joins
   them. They open from disk, and pages stay small.
2. Each figure gets the anchor figure-NAME.
3. ```{figure-index} paper``` and ```{figure-index} own```: data/figures.yaml as a list, with the
   status of each entry computed from the pages. A place named there that no page has, and a
   figure that it lacks, are warnings by name, which fail the build.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

logger = logging.getLogger(__name__)
LINE = re.compile(r'<p class="figure-source" data-figure="([^"]+)">')
LINK = re.compile(r'<a download="([^"]+)" href="(data:[^"]*)">[^<]*</a>')
FOLDER = "_figures"  # of the built book


# ------------------------------------------------------------------------- files and anchors


def collect(app, doctree):
    """Notes a page's figures and anchors, and marks each figure."""
    env, found = app.env, {}
    for raw in list(doctree.findall(nodes.raw)):
        if not (line := LINE.search(raw.astext())):
            continue
        name = line[1]
        if name in found:
            logger.warning(f"two figures are called {name!r}", location=env.docname)
        picture = _picture_before(raw)
        found[name] = {"files": [link[1] for link in LINK.finditer(raw.astext())],
                       "picture": picture and picture["uri"]}
        _mark(raw, picture, name)
    anchors = {name for node in doctree.findall(nodes.Element) for name in node["ids"]}
    _store(env)[env.docname] = {"figures": found, "anchors": anchors, "preset": _preset(env)}


def _output(node):
    """The output of a cell that a node is part of: a child of myst-nb's cell_output."""
    while node.parent is not None and "cell_output" not in node.parent.get("classes", ()):
        node = node.parent
    return node


def _picture_before(raw):
    """The image of the output before a figure's line, if that is one."""
    output = _output(raw)
    index = output.parent.index(output) if output.parent is not None else 0
    before = output.parent[index - 1] if index else None
    return next(iter(before.findall(nodes.image)), None) if before is not None else None


def _mark(raw, picture, name):
    """Puts the anchor before the picture, or, where there is none, before the cell's outputs."""
    output = _output(raw)
    cell = output.parent
    place = cell.index(_output(picture)) if picture is not None else 0
    cell.insert(place, nodes.target("", "", ids=[f"figure-{name}"]))


def _preset(env):
    """The preset that a notebook page was made with."""
    from devlib import cards
    from devlib.errors import UserError

    path = Path(env.doc2path(env.docname))
    try:
        return cards.read(path).parameters["preset"] if path.suffix == ".ipynb" else None
    except UserError:
        return None  # the provenance card says so


def write_files(app, doctree, docname):
    """Turns the data: links of a page into files beside it in the built book."""
    if app.builder.format != "html":
        return
    for raw in doctree.findall(nodes.raw):
        if not (line := LINE.search(raw.astext())):
            continue
        base = app.builder.get_target_uri(docname)
        links = [_written(app, docname, base, *link.groups())
                 for link in LINK.finditer(raw.astext())]
        picture = _store(app.env)[docname]["figures"][line[1]]["picture"]
        if picture in app.env.images:
            image = f"{app.builder.imagedir}/{app.env.images[picture][1]}"
            links.insert(1, _anchor(f"{line[1]}.png", relative_uri(base, image)))
        words = raw.astext()[line.end():].split("<a ", 1)[0]
        text = f"{line[0]}{words}{', '.join(links)}</p>"
        raw.rawsource, raw[:] = text, [nodes.Text(text)]


def _written(app, docname, base, name, link):
    """Writes one file and returns the link to it."""
    import base64
    import html

    head, data = html.unescape(link).split(",", 1)
    content = base64.b64decode(data) if head.endswith("base64") else unquote_to_bytes(data)
    path = f"{FOLDER}/{docname}/{name}"
    target = Path(app.outdir) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return _anchor(name, relative_uri(base, path))


def _anchor(name, uri):
    return f'<a download="{name}" href="{uri}">{name}</a>'


# ------------------------------------------------------------------------------------- index


class IndexNode(nodes.General, nodes.Element):
    """Stands for the list until every page has been read."""


class FigureIndex(SphinxDirective):
    """The list of the paper's figures, or of our own."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(_file(self.env.app)))
        _pages_with_index(self.env).add(self.env.docname)
        return [IndexNode(part=("paper", "own").index(self.arguments[0]))]


def check(app, env):
    """Warns of what does not fit, by name."""
    from devlib import figure_index

    if not _pages_with_index(env):
        return
    pages = _store(env)
    figures = {(page, name) for page, facts in pages.items() for name in facts["figures"]}
    anchors = {page: facts["anchors"] for page, facts in pages.items()}
    paper, own = figure_index.load(_file(app))
    for problem in figure_index.problems(paper + own, anchors, figures):
        logger.warning(f"{figure_index.FILE}: {problem}")


def resolve(app, doctree, docname):
    """Fills the list in."""
    from devlib import figure_index

    for node in list(doctree.findall(IndexNode)):
        entries = figure_index.load(_file(app))[node["part"]]
        node.replace_self([_entry(app, docname, entry) for entry in entries])


def _entry(app, docname, entry):
    """One entry: figure and what it shows, where ours is, with its data, and the status."""
    from devlib.figure_index import split

    pages = _store(app.env)
    places = [split(place) for place in entry.ours]
    used = [pages[page]["preset"] for page, _ in places if page in pages]
    item = nodes.container(classes=["figure-entry"])
    item += nodes.paragraph("", "", nodes.strong(text=entry.figure), nodes.Text(f" {entry.shows}"))
    for page, anchor in places:
        if page in pages:
            item += _place(app, docname, page, anchor, pages[page]["figures"])
    status = entry.status(next(filter(None, used), None))
    item += nodes.paragraph("", "", nodes.inline(text=status, classes=[
        "status", status.replace(",", "").replace(":", "").split()[0]]))
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


# ------------------------------------------------------------------- what Sphinx asks of a store


def _file(app):
    """The list of this book, or that of the checkout whose pages were run anew for it."""
    from devlib.figure_index import FILE
    from devlib.files import project_root

    own = Path(app.srcdir) / FILE
    return own if own.exists() else project_root() / FILE


def _store(env):
    if not hasattr(env, "devlib_pages"):
        env.devlib_pages = {}
    return env.devlib_pages


def _pages_with_index(env):
    if not hasattr(env, "devlib_indices"):
        env.devlib_indices = set()
    return env.devlib_indices


def purge(app, env, docname):
    _store(env).pop(docname, None)
    _pages_with_index(env).discard(docname)


def merge(app, env, docnames, other):
    _store(env).update({name: _store(other)[name] for name in docnames if name in _store(other)})
    _pages_with_index(env).update(_pages_with_index(other) & set(docnames))


def rewrite_index(app, env):
    """The pages with the list are written anew with every change, of whichever page."""
    return sorted(_pages_with_index(env))


def setup(app):
    sys.path.insert(0, str(app.srcdir))  # this checkout's devlib, not another one installed
    app.add_node(IndexNode)
    app.add_directive("figure-index", FigureIndex)
    app.connect("doctree-read", collect, priority=900)  # when images have their places
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", rewrite_index)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", write_files, priority=900)
    app.connect("doctree-resolved", resolve, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True,
            "env_version": 1}
