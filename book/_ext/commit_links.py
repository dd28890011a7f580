"""Leads a reader of the built book to the very commit that it was built from.

The rocket, the card's link to Colab and the links to the source name the tag of that commit, whose
pages fetch it (companion.site.book_commit), and so do the notebooks that the book offers for
download. The build says which commit it is. Where files differ from the commit, or there is none,
all of them name the branch of _config.yml.
"""

import sys
from dataclasses import replace
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)


def name_commit(app, config):
    """Finds the commit, and gives its tag to the theme as the branch that the rocket opens."""
    from companion.places import project_root
    from companion.site import book_commit

    config.book_commit = config.book_commit or book_commit.commit_of(project_root()) or ""
    if config.book_commit:
        config.html_theme_options["repository_branch"] = book_commit.tag_of(config.book_commit)
    logger.info("Pages opened in Colab fetch %s", config.book_commit or (
        f"the branch {_repository(app).branch}: this is no git checkout, or has changes"))


def open_tag(app, doctree, docname):
    """The card's link. Not when the page is read: what was read serves the next commit too."""
    link = _repository(app).in_colab(f"{docname}.ipynb")
    for node in doctree.findall(nodes.reference):
        if "open-in-colab" in node["classes"]:
            node["refuri"] = link


def stamp_downloads(app, exception):
    """The notebooks behind the download button fetch the commit too."""
    from companion.site import fixed_cells

    if exception is None and app.builder.name == "html":
        for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
            fixed_cells.settle(path, app.srcdir, app.config.book_commit or None)


def _repository(app):
    from companion.site import book_commit
    from companion.site.address import repository

    found, commit = repository(app.srcdir), app.config.book_commit
    return replace(found, branch=book_commit.tag_of(commit)) if commit else found


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.add_config_value("book_commit", "", "html")  # to build as if from another commit
    app.connect("config-inited", name_commit)
    app.connect("doctree-resolved", open_tag)
    app.connect("build-finished", stamp_downloads, priority=400)  # before they are zipped
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
