"""A page of the book run again: with a user's parameters into the runs directory, or with its own
into the committed notebook."""

import time
from dataclasses import dataclass
from pathlib import Path

from companion.places import runs_directory
from companion.runs import rerun_folder
from companion.site import reruns
from companion.site.fixed_cells import settle
from companion.site.notebooks import NOTEBOOKS, canonical, find, load, names, read_source, write
from companion.site.page_execution import execute
from companion.site.page_parameters import STANDARD, parameters, values_of
from devlib.errors import UserError
from devlib.files import make_directory, sha256


@dataclass(frozen=True)
class PageRun:
    """A page to be run with certain parameters, all of them checked."""

    page: Path  # its .ipynb
    values: dict  # parameter -> value, as injected
    settings: dict  # those of them that are not the page's defaults, nor one of STANDARD
    source: str  # sha256 of the page
    runs: Path

    @property
    def name(self) -> str:
        """The folder of the run; pages with the same settings share it."""
        return rerun_folder(self.values["preset"], self.values["seed"], self.settings)

    @property
    def out(self) -> Path:
        return self.runs / self.name / "notebooks" / self.page.name


def jobs(name, cells, runs_dir=None, folder=NOTEBOOKS) -> list[PageRun]:
    """What `run` would run, for each (preset, seed, extra) of `cells`. Everything a user can get
    wrong raises UserError."""
    import nbformat

    page = find(name, folder)
    nb, runs = load(page), Path(runs_dir or runs_directory()).resolve()
    known, source = parameters(nb), sha256(nbformat.writes(nb).encode())
    found = []
    for preset, seed, extra in cells:
        values = values_of(page, preset, seed, extra or {}, known)
        settings = {key: value for key, value in values.items()
                    if key not in STANDARD and value != known[key].default}
        found.append(PageRun(page, values, settings, source, runs))
    return found


def run(name, preset="laptop", seed=0, extra=None, runs_dir=None, folder=NOTEBOOKS) -> Path:
    """Recomputes a page at a preset and seed, and returns the executed copy,
    `runs_dir/RUN/notebooks/NAME.ipynb`; the committed page stays as it is. What was run and what
    came out goes into `runs_dir/RUN/metrics.json` (companion.site.reruns).

    `extra` maps further parameters to strings; `{"recompute": "false"}` shows stored results
    instead. Everything a user can get wrong raises UserError before any work. A failing cell
    does too, and leaves NAME.failed.ipynb beside the place of the result.
    """
    return run_job(*jobs(name, [(preset, seed, extra)], runs_dir, folder))


def run_job(job: PageRun, bar=True, **variables) -> Path:
    """`run`, checked before; `variables` are set in the environment of the page. Without `bar` no
    progress is shown."""
    nb, begun = load(job.page), time.monotonic()
    make_directory(job.out.parent)
    try:
        nb = execute(nb, job.page, job.out.parent, job.values, bar, DEVLIB_RUNS=str(job.runs),
                     **variables)
    except UserError as error:  # a page may fail because a claim does: what it measured counts
        reruns.record(job, time.monotonic() - begun, failed=str(error))
        raise
    write(canonical(nb, keep_injected=True), job.out)
    reruns.record(job, time.monotonic() - begun)
    return job.out


def refresh(which=(), folder=NOTEBOOKS) -> list[Path]:
    """For maintainers: makes each .ipynb anew from its .py, run with the defaults written there,
    after bringing the cells that all pages share up to date (companion.site.fixed_cells). A page
    that fails keeps its old .ipynb."""
    pages = [find(name, folder) for name in which or names(folder)]
    for page in pages:
        if not page.with_suffix(".py").exists():
            raise UserError(f"{page.with_suffix('.py')} is missing; the .py is a page's source")
        settle(page.with_suffix(".py"))
        nb = execute(read_source(page.with_suffix(".py")), page, runs_directory() / "refresh")
        write(canonical(nb), page)
    return pages
