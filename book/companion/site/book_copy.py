"""A second copy of the book, its pages computed anew: what `reproduce` builds."""

import functools
import shutil
from pathlib import Path

from companion import progress
from companion.places import project_root, runs_directory
from companion.runs import rerun_folder
from companion.site.notebooks import INJECTED, find, names, read, write
from companion.site.page_parameters import check_scale, parameters, values_of
from companion.site.page_runs import jobs, run_job
from devlib.errors import UserError
from devlib.files import make_directory

PAGES = "the pages"  # the part of the work, as progress names it


def check_all(preset, seed, root=None) -> list[str]:
    """The pages of the book, after checking that all of them can be run at this preset and seed
    and that the book's sources are there."""
    check_scale(preset, seed)
    root = Path(root or project_root())
    for part in ("_config.yml", "_toc.yml", "book"):
        if not (root / part).exists():
            raise UserError(f"{root / part} is missing; the book is built in a full checkout")
    folder = root / "notebooks"
    for name in names(folder):
        values_of(find(name, folder), preset, seed, {})
    return names(folder)


def _run_all(work) -> list[Path]:
    """Runs the pages, one a core of this machine, each on its share: what they read is computed."""
    from companion.compute import parallel  # torch, only where something is computed

    at_once, share = parallel.shares(len(work))
    one = functools.partial(run_job, bar=False, LOKY_MAX_CPU_COUNT=str(share))
    return parallel.each(one, work, jobs=at_once, label=PAGES, cluster="")


def book_lock(preset, seed, runs_dir=None):
    """Holds the place of `build_copy` for this process: two builds in it would tear the pages."""
    from devlib.locks import locked

    return locked(_book(preset, seed, runs_dir))


def _book(preset, seed, runs_dir) -> Path:
    return Path(runs_dir or runs_directory()).resolve() / rerun_folder(preset, seed) / "book"


def build_copy(preset, seed, runs_dir=None, extra=None, root=None) -> Path:
    """Recomputes every page and lays out the book's sources around them, ready for jupyter-book,
    in `runs_dir/PRESET-seedSEED/book`, which it returns. `extra` holds strings for further
    parameters, given to the pages that have them.

    The cell with the injected values is left out where they are the page's own defaults.
    """
    pages = check_all(preset, seed, root)
    root = Path(root or project_root())
    folder = root / "notebooks"
    runs_dir = Path(runs_dir or runs_directory()).resolve()
    copy = make_directory(_book(preset, seed, runs_dir))
    own = {}  # the further parameters that each page is given
    for name in pages:
        known = parameters(folder / f"{name}.ipynb")
        own[name] = {key: value for key, value in (extra or {}).items() if key in known}
    with progress.part(PAGES):
        done = _run_all([jobs(name, [(preset, seed, own[name])], runs_dir, folder)[0]
                         for name in pages])
    executed = dict(zip(done, own.values(), strict=True))
    for part in ("book", "notebooks"):
        shutil.rmtree(copy / part, ignore_errors=True)
    # the companion is not copied: it finds the project from its own place
    shutil.copytree(root / "book", copy / "book", ignore=shutil.ignore_patterns(
        "_build", "companion", "*.egg-info"))
    for part in ("_config.yml", "_toc.yml"):
        shutil.copy(root / part, copy / part)
    (copy / "notebooks").mkdir()
    for page, own in executed.items():
        nb, known = read(page), parameters(folder / page.name)
        for cell in nb.cells:
            if INJECTED in cell.metadata.get("tags", []) and not own and (
                    (preset, seed) == (known["preset"].default, known["seed"].default)):
                cell.metadata.tags.append("remove-cell")
        write(nb, copy / "notebooks" / page.name)
    return copy
