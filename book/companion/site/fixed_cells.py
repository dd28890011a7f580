"""The two cells that are the same on every page of the book: the head, which makes a page work on
Google Colab, and the tail, which says what the page has read and offers its results there.

Both are written here once, and put into the pages as text; what they call is
companion.site.page_ends.
"""

import json
import re
import shlex
from pathlib import Path

from companion.site.address import repository
from devlib.files import write_atomic

_HEAD = '''\
import importlib
import subprocess
import sys

if "google.colab" in sys.modules:  # fetch what this page needs; elsewhere, do nothing
    subprocess.run({fetch}, shell=True, check=True)  # noqa: E501
    sys.path[:0] = [{folder}, {book}]
    importlib.import_module("companion.site.page_ends").begin()'''
# Every commit but no file, and then the files of one commit: less than a plain clone, and unlike
# `clone --depth 1` for any commit. A second run of the cell finds the folder and stays at it.
_FETCH = ("test -d {folder} || git clone -qn --filter=blob:none {url} {folder} && "
          "git -C {folder} checkout -q {ref}")
TAIL = """\
from companion.site import page_ends

page_ends.end(recompute)"""

HIDDEN = '# %% tags=["remove-cell"]'
_GATE = 'if "google.colab" in sys.modules:'
_CALL = ".end(recompute)"
_CELL = r"(?:(?!\n# %%)[\s\S])*"  # within one cell of a source
_HEAD_IN_SOURCE = re.compile(rf"(?<=\n){re.escape(HIDDEN)}\n{_CELL}{re.escape(_GATE)}{_CELL}")
_TAIL_IN_SOURCE = re.compile(rf"\n{re.escape(HIDDEN)}\n{_CELL}{re.escape(_CALL)}{_CELL}")


def head(root=None, ref=None) -> str:
    """The first code cell of every page. On Colab there is only the .ipynb, so the repository's
    address, `repository.url` of `_config.yml`, is part of the text, and so is what to fetch from
    it: `ref`, a commit, or the branch of `_config.yml`. The committed pages cannot name the commit
    that they are part of; those of a built book do (companion.site.book_commit)."""
    found = repository(root)
    quoted = {"folder": found.folder, "url": found.url, "ref": ref or found.branch}
    fetch = _FETCH.format(**{name: shlex.quote(text) for name, text in quoted.items()})
    return _HEAD.format(fetch=json.dumps(fetch), folder=json.dumps(found.folder),
                        book=json.dumps(f"{found.folder}/book"))


def settled_source(text, root=None, ref=None) -> str:
    """A page's .py with both cells as they are to be, the tail also where it is missing or no
    longer last. A file without a head is no page of the book, and stays as it is."""
    if not _HEAD_IN_SOURCE.search(text):
        return text
    text = _HEAD_IN_SOURCE.sub(lambda _: f"{HIDDEN}\n{head(root, ref)}\n", text, count=1)
    return f"{_TAIL_IN_SOURCE.sub('', text).rstrip()}\n\n{HIDDEN}\n{TAIL}\n"


def settled_notebook(text, root=None, ref=None) -> str:
    """A page's .ipynb with both cells as they are to be, and nothing run: nowhere but on Colab has
    the head an effect, so all outputs stay true. A tail that is missing comes with the next run."""
    import nbformat

    nb = nbformat.reads(text, 4)
    wanted = {_GATE: head(root, ref), _CALL: TAIL}
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = next((new for mark, new in wanted.items() if mark in cell.source),
                               cell.source)
    return nbformat.writes(nb, indent=1).rstrip("\n") + "\n"


KINDS = {".py": settled_source, ".ipynb": settled_notebook}


def settle(path, root=None, ref=None) -> bool:
    """Puts both cells into a page's .py or .ipynb; true if that changed it."""
    path = Path(path)
    before = path.read_text(encoding="utf-8")
    after = KINDS[path.suffix](before, root, ref)
    if after != before:
        write_atomic(path, after.encode())
    return after != before


def settle_all(folder, root=None) -> list[Path]:
    """`settle` for every page of a folder: the files that changed."""
    return [path for kind in KINDS for path in sorted(Path(folder).glob(f"[0-9]*_*{kind}"))
            if settle(path, root)]
