"""What each run of a page found: `runs/RUN/metrics.json`, which the book's page of reruns shows.

RUN names the preset, the seed and every parameter that is not the page's own default, as in
`laptop-seed3-eps=0.0001`. One file holds, for each page run under that name, what ran it, when,
and for how long; and the claims of the paper measured on the run's tables, with their verdicts.
"""

from collections import defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from companion import presets
from companion.claims.verdicts import DIFFERS, NOT_RUN, REPRODUCED
from companion.places import project_root
from companion.runs import rerun_folder
from devlib.errors import UserError
from devlib.files import make_directory, provenance
from devlib.sealed import read_sealed, write_sealed

METRICS = "metrics.json"
COMMITTED = project_root() / "data" / "reruns"

Found = namedtuple("Found", "runs damaged")  # runs, and a line for each file that is none


@dataclass(frozen=True)
class Rerun:
    """One `metrics.json`, read and checked."""

    preset: str
    seed: int
    settings: dict  # parameters that are not the page's own defaults
    pages: dict  # name -> commit, versions, when, seconds, recompute, source, failed (why)
    claims: list  # of companion.claims.ledger.measure, those measured on this run

    @property
    def name(self) -> str:
        return rerun_folder(self.preset, self.seed, self.settings)


def record(job, seconds, failed=None) -> Path:
    """Adds a page that was run (companion.site.page_runs.PageRun) to its run's `metrics.json`, with
    the claims as they now stand, and returns the path; `failed` says why the page did not end. A
    damaged file gives way to a new one."""
    from filelock import FileLock

    path = make_directory(job.runs / job.name) / METRICS
    preset, seed = job.values["preset"], job.values["seed"]
    facts = {"recompute": job.values["recompute"], "source": job.source, "failed": failed,
             "seconds": round(seconds, 1), "when": datetime.now(UTC).isoformat(timespec="seconds"),
             **provenance()}
    runs = job.runs if job.values["recompute"] else None
    claims = measured(preset, seed, runs, job.settings)
    with FileLock(path.with_name(f".{METRICS}.lock")):  # two pages of one run may end together
        pages = _pages(path) | {job.page.stem: facts}
        write(path, Rerun(preset, seed, job.settings, pages, claims))
    return path


def finished(job) -> bool:
    """Whether this page, as it now stands, was computed with these settings, and its result is
    there."""
    page = _pages(job.runs / job.name / METRICS).get(job.page.stem, {})
    return job.out.exists() and (
        page.get("source") == job.source and page["recompute"] and page["failed"] is None)


def _pages(path) -> dict:
    try:
        return read(path).pages if path.exists() else {}
    except UserError:
        return {}


def write(path, run: Rerun):
    """Files a run, with a sha256 of what it says."""
    write_sealed(path, {"preset": run.preset, "seed": run.seed, "settings": run.settings,
                        "pages": run.pages, "claims": run.claims})


def read(path) -> Rerun:
    """The run in a `metrics.json`. Raises UserError, naming the file, if it is damaged or was
    changed by hand."""
    try:
        return Rerun(**read_sealed(path))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the page again"
                        ) from error


def collect(folder) -> Found:
    """Every run in `FOLDER/*/metrics.json`, in the order of their names, and what is wrong with
    those that cannot be read."""
    runs, damaged = [], []
    for path in sorted(Path(folder).glob(f"*/{METRICS}")):
        try:
            runs.append(read(path))
        except UserError as error:
            damaged.append(str(error))
    return Found(runs, damaged)


def of_the_book() -> list[Rerun]:
    """What the committed tables show, one run for each preset and seed that they have."""
    from companion.claims import ledger

    return [Rerun(preset, seed, {}, {}, measured(preset, seed)) for preset in presets.PRESETS
            for seed in sorted({seed for kind in ledger.KINDS
                                for seed in ledger.seeds_of(preset, kind)})]


def flips(runs, key, verdict="verdict") -> dict:
    """What is judged differently in different runs: `key(number)` -> "flips" where runs of one
    preset do, "flips with the preset" where only runs of several do. What a run did not reach,
    cannot tell or did not measure is no verdict here."""
    told = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for number in run.claims:
            if number[verdict] in (REPRODUCED, DIFFERS):
                told[key(number)][run.preset].add(number[verdict])
    words = {name: "flips" if any(len(found) > 1 for found in by_preset.values()) else
             "flips with the preset" if len(set().union(*by_preset.values())) > 1 else ""
             for name, by_preset in told.items()}
    return {name: word for name, word in words.items() if word}


def measured(preset, seed, runs=None, settings=()) -> list[dict]:
    """The numbers of the paper's claims that the tables of a run can measure, with their verdicts,
    as `companion.claims.ledger.measure` gives them; without `runs`, on the committed tables."""
    from companion.claims import ledger

    return [claim for claim in ledger.measure(preset, seed, runs, dict(settings))
            if claim["verdict"] != NOT_RUN]
