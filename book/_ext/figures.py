"""Files under each figure, and anchors to it.

1. The data: links under a figure (companion.site.data_links) become files of the book, and its PNG
   joins them. They open from disk, and pages stay small.
2. Each figure gets the anchor figure-NAME.
3. `store(env)` knows of every page its figures, its anchors and the preset that made it.
"""

import base64
import html
import re
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

from docutils import nodes
from sphinx.util import logging
from sphinx.util.osutil import relative_uri

logger = logging.getLogger(__name__)
LINE = re.compile(r'<p class="figure-source" data-figure="([^"]+)">')
LINK = re.compile(r'<a download="([^"]+)" href="(data:[^"]*)">[^<]*</a>')
FOLDER = "_figures"  # of the built book


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
                       "picture": picture and picture["uri"],
                       "alt": picture.get("alt", "") if picture is not None else ""}
        _mark(raw, picture, name)
    anchors = {name for node in doctree.findall(nodes.Element) for name in node["ids"]}
    store(env)[env.docname] = {"figures": found, "anchors": anchors, "preset": _preset(env)}


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
    from companion.site import cards
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
        picture = store(app.env)[docname]["figures"][line[1]]["picture"]
        if picture in app.env.images:
            image = f"{app.builder.imagedir}/{app.env.images[picture][1]}"
            links.insert(1, _anchor(f"{line[1]}.png", relative_uri(base, image)))
        words = raw.astext()[line.end():].split("<a ", 1)[0]
        text = f"{line[0]}{words}{', '.join(links)}</p>"
        raw.rawsource, raw[:] = text, [nodes.Text(text)]


def _written(app, docname, base, name, link):
    """Writes one file and returns the link to it."""
    head, data = html.unescape(link).split(",", 1)
    content = base64.b64decode(data) if head.endswith("base64") else unquote_to_bytes(data)
    path = f"{FOLDER}/{docname}/{name}"
    target = Path(app.outdir) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return _anchor(name, relative_uri(base, path))


def _anchor(name, uri):
    return f'<a download="{name}" href="{uri}">{name}</a>'


def store(env):
    """For each page: figures {name: files, picture and its alt}, anchors, preset."""
    if not hasattr(env, "devlib_pages"):
        env.devlib_pages = {}
    return env.devlib_pages


def purge(app, env, docname):
    store(env).pop(docname, None)


def merge(app, env, docnames, other):
    store(env).update({name: store(other)[name] for name in docnames if name in store(other)})


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.connect("doctree-read", collect, priority=900)  # when images have their places
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("doctree-resolved", write_files, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True,
            "env_version": 1}
