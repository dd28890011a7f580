"""A book of one page of the real book and a list of figures, for tests of what a build says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = "05_costs"
INDEX = ("# Index\n\n```{figure-index} paper\n```\n\n```{figure-index} own\n```\n\n"
         "```{clone-command}\nmake book\n```\n")


def lay_out(place, figures: str, url=None):
    """The sources of the book in `place`: PAGE, the list `figures`, and the real settings, with
    another address if one is given."""
    for folder in ("book", "notebooks", "data"):
        (place / folder).mkdir(parents=True)
    for folder in ("_ext", "_static"):
        (place / "book" / folder).symlink_to(ROOT / "book" / folder)
    shutil.copy(ROOT / "book" / "references.bib", place / "book")
    shutil.copy(ROOT / "notebooks" / f"{PAGE}.ipynb", place / "notebooks")
    (place / "book" / "index.md").write_text(INDEX)
    (place / "data" / "figures.yaml").write_text(figures)
    (place / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n"
                                    f"- file: notebooks/{PAGE}\n")
    config = (ROOT / "_config.yml").read_text()
    if url:
        config = re.sub(r"^  url: .*$", f"  url: {url}", config, flags=re.MULTILINE)
    (place / "_config.yml").write_text(config)


def build(place):
    """(exit status, what was said) of the command that builds it."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("jupyter-book is not installed beside this Python")
    done = subprocess.run([command, "build", ".", "-W", "--keep-going"], cwd=place,
                          capture_output=True, text=True, env=os.environ | {"DEVLIB_PDF": "no"})
    return done.returncode, done.stdout + done.stderr


def page(place, name):
    """The HTML of a page."""
    return (place / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")
