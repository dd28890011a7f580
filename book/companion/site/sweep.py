"""A page over a grid of seeds and settings: checked whole before anything starts, in parallel, and
no finished cell twice.

Each cell is a run of the page (companion.site.page_runs.run) with a folder of its own in the runs
directory, so that a sweep that was killed goes on where it was, and two sweeps share their cells.
"""

import contextlib
import functools
import itertools
import os
import re
import traceback
from collections import Counter
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass

from companion.site import page_runs, reruns
from companion.site.notebooks import NOTEBOOKS
from devlib.errors import UserError
from devlib.files import make_directory, write_atomic

MAX_CELLS = 10_000  # of one sweep; more is a slip of the finger


@dataclass(frozen=True)
class Outcome:
    """The cells of a sweep: run now, finished before, and failed."""

    done: list
    before: list
    failed: list

    def __str__(self):
        """One line; where cells failed, which ones and where each one's log is."""
        parts = [f"{len(self.done)} done", f"{len(self.before)} done before"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed: " + "; ".join(
                f"{job.name} ({log(job)})" for job in self.failed))
        return f"{sum(map(len, (self.done, self.before, self.failed)))} cells: {', '.join(parts)}"


def seeds(text) -> list[int]:
    """The seeds of `0-4`, `0,2,5` or `0-2,7`. Raises UserError for anything else."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UserError(f"--seeds takes whole numbers and ranges, as in 0-4 or 0,2,5, not "
                            f"{text!r}")
        _check_size(last - first + 1)
        found += range(first, last + 1)
    return _once(found, "seed")


def settings(texts) -> dict[str, list[str]]:
    """The values of each parameter, from `NAME=VALUE,VALUE`. Raises UserError for anything else."""
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name, values = name.strip(), [value.strip() for value in values.split(",")]
        if not (name and equals and all(values)):
            raise UserError(f"--set takes NAME=VALUE,VALUE, as in eps=1e-4,3e-4, not {text!r}")
        if name in found:
            raise UserError(f"--set {name} is given twice; put its values into one")
        if name == "recompute":
            raise UserError("a sweep computes every cell anew; recompute cannot be set")
        if name in ("preset", "seed"):
            raise UserError("give the seeds with --seeds and the preset with --preset")
        found[name] = values
    return found


def cells(notebook, preset, seeds, settings, runs_dir=None, folder=NOTEBOOKS) -> list:
    """Every seed with every combination of the settings' values, as jobs of
    companion.site.page_runs. Raises UserError if one of them is wrong."""
    size = len(seeds)
    for values in settings.values():
        size *= len(values)
    _check_size(size)
    grid = [(preset, seed, dict(zip(settings, values, strict=True)))
            for seed, *values in itertools.product(seeds, *settings.values())]
    found = page_runs.jobs(notebook, grid, runs_dir, folder)
    _once([job.name for job in found], "cell")
    return found


def _check_size(cells):
    if cells > MAX_CELLS:
        raise UserError(f"a sweep has at most {MAX_CELLS:,} cells, not {cells:,}")


def _once(items, what):
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        raise UserError(f"{what} {twice[0]} is given twice")
    return items


def sweep(cells, jobs=None) -> Outcome:
    """Runs the cells that are not finished, `jobs` at a time (default: one a core), or where
    $DEVLIB_CLUSTER names a cluster, one on each of its workers.

    The first cell of each seed goes before the others: it leaves the checkpoints that they share.
    A cell that fails leaves its log (`log`) and stops no other.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs takes 1 or more, not {jobs}")
    make_directory(cells[0].runs)
    before, missing = _finished(cells)
    first, others, met = [], [], set()
    for job in missing:
        (others if job.values["seed"] in met else first).append(job)
        met.add(job.values["seed"])
    with contextlib.suppress(BrokenExecutor):  # a process was killed: its cell is not finished
        for wave in filter(None, (first, others)):
            _run_all(wave, jobs)
    done, failed = _finished(missing)
    return Outcome(done, before, failed)


def _finished(cells):
    """The cells that are finished, and those that are not."""
    known = [(job, reruns.finished(job)) for job in cells]
    return [job for job, yes in known if yes], [job for job, yes in known if not yes]


def _run_all(wave, jobs):
    from companion.compute import parallel  # torch, only where something is computed

    at_once, share = parallel.shares(len(wave), jobs)
    share = 1 if os.environ.get("DEVLIB_CLUSTER") else share
    parallel.each(functools.partial(_run, share), wave, jobs=at_once, label="sweep")


def _run(cores, job):
    """One cell, on its share of the cores."""
    try:
        page_runs.run_job(job, bar=False, LOKY_MAX_CPU_COUNT=str(cores))
        log(job).unlink(missing_ok=True)
    except Exception as error:  # whatever it is, the other cells go on
        text = f"{error}\n" if isinstance(error, UserError) else traceback.format_exc()
        with contextlib.suppress(OSError):
            write_atomic(log(job), text.encode())


def log(job):
    """Where a failed cell says why."""
    return job.out.with_suffix(".log")
