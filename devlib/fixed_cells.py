"""The two cells that are the same on every page of the book: the first, which makes a page work on
Google Colab, and the last, which says what the page has read and offers its results there.

Both are written here once and put into the pages by `settle_source` and `settle_notebook`.
"""

import re
from pathlib import Path

from devlib.address import repository
from devlib.files import write_atomic

_BOOTSTRAP = '''\
# On Google Colab: fetch the library that this page needs. Anywhere else, nothing happens here.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess
    from importlib import metadata

    root = os.path.abspath("{folder}")
    if not os.path.isdir(root):
        subprocess.run(["git", "clone", "--quiet", "--depth", "1",
                        "{url}", root], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r",
                    os.path.join(root, "requirements-colab.txt")], check=True)
    if root not in sys.path:
        sys.path.insert(0, root)
    loaded, installed = sys.modules.get("numpy"), metadata.version("numpy")
    if loaded and loaded.__version__ != installed:
        print(f"numpy changed from {{loaded.__version__}} to {{installed}}: the session restarts "
              "now; then choose Runtime > Run all again.", flush=True)
        os.kill(os.getpid(), 9)'''

LAST_CELL = """\
from devlib import sources

sources.show()
# On Google Colab: offer what was computed as one file. Anywhere else, nothing happens here.
if "google.colab" in sys.modules and recompute:
    from devlib import colab

    colab.download_results()"""

HIDDEN = '# %% tags=["remove-cell"]'
_FIRST_LINE = _BOOTSTRAP.split("\n", 1)[0]
_IN_SOURCE = re.compile(re.escape(_FIRST_LINE) + r".*?(?=\n\n# %%|\n*\Z)", re.DOTALL)


def bootstrap(root=None) -> str:
    """The first code cell of every page. On Colab there is only the .ipynb, so the repository's
    address, `repository.url` of `_config.yml`, is part of the text."""
    found = repository(root)
    return _BOOTSTRAP.format(url=found.url, folder=found.folder)


def settle_source(path, root=None) -> bool:
    """Puts both cells into a page's .py as they are to be, the last one also where it is missing
    or no longer last; true if that changed it. A file without a first cell is no page of the book,
    and is left."""
    path = Path(path)
    before = path.read_text()
    if _FIRST_LINE not in before:
        return False
    after = _IN_SOURCE.sub(lambda _: bootstrap(root), before, count=1)
    last = f"{HIDDEN}\n{LAST_CELL}"
    after = f"{after.replace(last, '').rstrip()}\n\n{last}\n"  # wherever it stood before
    return _replace(path, before, after)


def settle_notebook(path, root=None) -> bool:
    """Puts the first cell into a page's .ipynb as it is to be, without running anything; true if
    that changed it. (Nowhere but on Colab has the cell an effect, so all outputs stay true.)"""
    import nbformat

    path = Path(path)
    before = path.read_text()
    nb = nbformat.reads(before, 4)
    first = [cell for cell in nb.cells if cell.source.startswith(_FIRST_LINE)]
    if all(cell.source == bootstrap(root) for cell in first):
        return False
    for cell in first:
        cell.source = bootstrap(root)
    return _replace(path, before, nbformat.writes(nb, indent=1).rstrip("\n") + "\n")


def settle(folder, root=None) -> list[Path]:
    """Both for every page of a folder: the files that changed."""
    folder = Path(folder)
    kinds = {"py": settle_source, "ipynb": settle_notebook}
    return [path for kind, settle_one in kinds.items()
            for path in sorted(folder.glob(f"[0-9]*_*.{kind}")) if settle_one(path, root)]


def _replace(path, before, after):
    if after != before:
        write_atomic(path, after.encode())
    return after != before
