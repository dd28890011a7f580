"""The paper's claims, measured on result tables.

data/claims.yaml holds what the paper or its released files say, how near a measurement must come
and how large the effect is; book/companion/claims/measures.py how each claim is read off tables.
Here the two are put together. Nothing is trained or sampled, and torch is not loaded.
"""

import functools
import math
from dataclasses import dataclass, field, replace

from companion import presets
from companion.claims import measures
from companion.claims.entries import Claim, load_entries
from companion.claims.interval import Reading, judge
from companion.claims.judge import Judged, Measured
from companion.claims.shown import ShownClaims
from companion.claims.text import power, wanted
from companion.claims.verdicts import ILL, NOT_REACHED, NOT_RUN
from companion.health import find_stages_quietly
from companion.places import runs_directory
from companion.runs import LAYERS, MANIFEST, RunKey, finished
from companion.scale import of_model, steps_are_the_papers
from companion.tables import NoTable, Results, load
from devlib.errors import UserError

# A table's kind and the table whose last step says how far the run went.
LENGTHS = {"regression": "evaluation", "development": "behaviour", "hessian": "statistics",
           "calibration": "runs", "task-sets": "distances", "language-2layer": "behaviour",
           "language-1layer": "behaviour"}
KINDS = (*LENGTHS, "primer")
# Kinds of tables of a regression run that no claim is about: errors of changes, and long chains.
BLOCKS, PROTOCOLS = "blocks", "protocols"
EVALUATION = "evaluation"  # stands in for "regression" where a seed has no LLC curve


class NotRun(Exception):
    """A measurement's tables are not there."""


# What makes two folders of tables those of one run, for its checkpoints and for their LLC.
OF_ONE_RUN = {BLOCKS: ("task", "model", "training"),
              PROTOCOLS: ("task", "model", "training", "llc")}


@dataclass
class Run:
    """The tables of one preset and seed by kind, as measurements take them. `others` are the
    preset's regression runs, itself included, where several are there. `rule` replaces the
    preset's rule for regression stages. `places` are the folders in which a regression run's block
    means and long chains may lie, by kind, of which the first that is there counts."""

    preset: str
    seed: int
    results: dict[str, Results]
    others: list["Run"] = field(default_factory=list)
    rule: object = None
    places: dict[str, tuple] = field(default_factory=dict)

    def __getitem__(self, kind) -> Results:
        if kind not in self.results:
            raise NotRun(kind)
        return self.results[kind]

    def last(self, kind) -> int | None:
        """The last step of a run; None where nothing is trained."""
        if kind not in LENGTHS:
            return None
        return int(self[kind][LENGTHS[kind]].step.max())

    def blocks(self, kind):
        """Block means of the contexts on which tables of this kind were measured, a table; None
        where there is none (companion.claims.paired)."""
        if kind in LAYERS:
            return self[kind].tables.get(BLOCKS)
        found = self.beside(BLOCKS)
        return found and found[BLOCKS]

    @functools.cache  # noqa: B019 (runs are few)
    def beside(self, kind) -> Results | None:
        """The tables of a kind in `places` that are of this very run, and for the LLC of its
        sampler; None if there are none."""
        found = (load(place) for place in self.places.get(kind, ()) if (place / MANIFEST).exists())
        return next((tables for tables in found if self._has(tables, OF_ONE_RUN[kind])), None)

    def _has(self, tables, parts):
        mine = next(iter(found for found in map(self.results.get, ("regression", "development"))
                         if found))
        mine, other = (of_model(found.manifest["settings"]) for found in (mine, tables))
        return all(mine.get(part) == other.get(part) for part in parts)

    @functools.cached_property
    def scale(self):
        """The preset."""
        return presets.get(self.preset)

    def has_papers_steps(self, kind) -> bool:
        """Whether the steps of a language run are the paper's."""
        return steps_are_the_papers(self[kind].manifest["settings"])

    @property
    def regression_rule(self):
        """The rule for stages: the preset's, unless another is given."""
        return self.rule or self.scale.regression.stages

    @functools.cache  # noqa: B019 (runs are few)
    def stages(self, kind):
        """What `devlib.stages.find_stages` says of the run's LLC."""
        tables = self[kind]
        if kind == "regression":
            return find_stages_quietly(tables["llc"], tables["evaluation"], self.regression_rule)
        settings = self.scale.language if kind == "language-2layer" else self.scale.one_layer
        return find_stages_quietly(tables["llc"], tables["behaviour"], settings.stages, "LM")

    __hash__ = object.__hash__


# ------------------------------------------------------------------------------------ measuring


def measure(preset, seed, runs=None, parameters=None) -> list[dict]:
    """Every claim measured on one run: plain dictionaries, ready for JSON, one for each number
    of a claim, in the ledger's order.

    A dictionary holds `id`; `what`, the quantity in words; `scale`, to which it belongs;
    `measured` and `error` (standard error), None where there is none; `wanted`, in words the
    paper's or released value and what agrees; `low` and `high`, the same as numbers, `notice`, the
    least deviation that this measurement would notice, and `p`, each None where it does not apply;
    `effect`, the size of what is claimed; `verdict`, one of `companion.claims.verdicts.VERDICTS`,
    and in `why` what stands in its way; `unit`, `preset`, `seed`; and of the whole claim, the same
    in all its rows, `claim`, its sentence, and `claim_verdict`.

    `runs` is a runs directory (default: the committed tables). `parameters` are a page's, as for
    `RunKey.of_page`: {"residual": "standard"} measures the standard residual stream,
    {"corpus": "toy"} another corpus. Claims whose tables are not there say "not run". Raises
    UserError for an unknown preset or a damaged table.
    """
    run = open_run(preset, seed, runs, parameters)
    return [record for claim in entries()
            for record in records(judged(claim, run))]


def records(found: Judged) -> list[dict]:
    """A judged claim as `measure` returns it."""
    claim = found.claim
    return [{"id": claim.id, "what": m.row.what, "scale": m.row.scale,
             "measured": _plain(m.value), "error": _plain(m.error), "wanted": wanted(m),
             "power": power(m), "effect": m.row.effect,
             **{name: _plain(m.interval and getattr(m.interval, name))
                for name in ("low", "high", "notice", "p")},
             "verdict": m.verdict, "why": m.why, "unit": m.row.unit or claim.unit,
             "preset": found.preset, "seed": found.seed, "claim": claim.what,
             "claim_verdict": found.verdict} for m in found.rows]


def _plain(value):
    return float(value) if value is not None and math.isfinite(value) else None


def judged(claim: Claim, run: Run | None, spread=()) -> Judged:
    """A claim on one run, with the spread over further runs of the same preset. Every row counts:
    what was not run at its scale says so."""
    kind = claim.tables[0]
    if run is None or kind not in run.results:
        rows = tuple(Measured(row, NOT_RUN) for row in claim.rows)
        return Judged(claim, run and run.preset, run and run.seed, "", rows)
    rows = tuple(_measured(claim, row, run, kind, spread) for row in claim.rows)
    description = run[kind].description if kind in LENGTHS else (
        f"{run.preset} preset, seed {run.seed}: examples with exact answers; nothing is trained")
    return Judged(claim, run.preset, run.seed, description, rows)


def _measured(claim, row, run, kind, spread) -> Measured:
    found, why = _reading(claim, row, run, kind)
    if isinstance(found, str):
        return Measured(row, found, why=why)
    verdict, interval = judge(row, found)
    others = [_reading(claim, row, other, kind)[0] for other in spread]
    return Measured(row, verdict, found, interval,
                    tuple(other.value for other in others if isinstance(other, Reading)),
                    found.ill if verdict == ILL else "")


def _reading(claim, row, run, kind):
    """(a reading, ""), or (the verdict that stands in its place, why)."""
    if row.scale == "paper" and run.preset != "paper":
        return NOT_RUN, "it belongs to the paper's own scale"
    if row.scale == "steps" and not run.has_papers_steps(kind):
        return NOT_RUN, "it belongs to the paper's own steps"
    have = len({other.seed for other in run.others})
    if have < claim.needs["seeds"] > 1:
        return NOT_RUN, f"{claim.needs['seeds']} seeds are needed; of this preset there are {have}"
    last = run.last(kind)
    if last is not None and last + 1 < row.seen_from:
        return NOT_REACHED, f"the run ends at step {last:,}"
    try:
        found = measures.MEASURES[claim.id](run, **row.at)
    except NotRun as missing:
        return NOT_RUN, f"no tables of kind {missing}"
    except NoTable as missing:
        return NOT_RUN, f"no table {missing}"
    return (NOT_REACHED, "") if found is None else (_floats(found), "")


def _floats(found: Reading) -> Reading:
    return replace(found, value=float(found.value), blind=float(found.blind),
                   error=None if found.error is None else float(found.error))


def ledger(preset=None, runs=None, seed=None, parameters=None) -> list[Judged]:
    """Every claim on the largest preset whose tables are there, with the spread over its seeds.

    `preset`, `runs` and `parameters` (see `measure`) force one preset, another directory than the
    committed tables, and tables of other settings. Of several seeds the named one is judged, or
    else the lowest that has all tables. Raises UserError for an unknown preset.
    """
    order = [presets.get(preset).name] if preset else list(presets.PRESETS)[::-1]

    @functools.cache
    def opened(name, number):
        run = open_run(name, number, runs, parameters)
        run.others = regression_runs(name, runs)
        return run

    found = []
    for claim in entries():
        kind = claim.tables[0]
        name = next((name for name in order if seeds_of(name, kind, runs, parameters)), None)
        seeds = seeds_of(name, kind, runs, parameters) if name else []
        first = seed if seed in seeds else (seeds or [None])[0]
        further = (seeds_of(name, EVALUATION, runs, parameters)
                   if name and kind == "regression" else [])
        spread = [opened(name, other) for other in sorted({*seeds, *further} - {first})]
        found.append(judged(claim, opened(name, first) if name else None, spread))
    return found


def on_tables(*ids, rule=None, others=(), **tables) -> dict[str, Judged]:
    """Claims measured on a page's own results, by id.

    `tables` are regression, development, hessian, calibration, task_sets, primer, two_layers or
    one_layer;
    `rule` the page's rule for regression stages; `others` every regression run of the preset, for
    LR-15. A claim whose tables are not among them is not run. Raises UserError for an id that
    there is not.
    """
    first = next(iter(tables.values())).manifest
    run = Run(first["preset"], first["seed"], {
        {"two_layers": "language-2layer", "one_layer": "language-1layer",
         "task_sets": "task-sets"}.get(kind, kind): found
        for kind, found in tables.items()}, rule=rule)
    if regression := run.results.get("regression") or run.results.get("development"):
        settings = regression.manifest["settings"]
        model = settings.get("regression", settings).get("model", {})
        there = [places_beside(run.preset, run.seed, runs, {"residual": model.get("residual")})
                 for runs in (None, runs_directory())]
        run.places = {kind: (*there[0][kind], *there[1][kind]) for kind in there[0]}
    run.others = [Run(other.manifest["preset"], other.manifest["seed"], {"regression": other})
                  for other in others]
    return {name: judged(claim, run) for name, claim in chosen(ids).items()}


def show(*ids, **tables):
    """Displays claims beside their figure: ids and tables as for `on_tables`, or what it
    returned. A page shows chips and tables, a terminal text."""
    from IPython.display import display

    found = ids[0] if isinstance(ids[0], dict) else on_tables(*ids, **tables)
    display(ShownClaims(found))


def chosen(ids) -> dict[str, Claim]:
    """Claims by id, in the order asked for. Raises UserError with the ids that there are."""
    known = {claim.id: claim for claim in entries()}
    for name in ids:
        if name not in known:
            raise UserError(f"no claim {name!r}; choose one of {', '.join(known)}")
    return {name: known[name] for name in ids}


# --------------------------------------------------------------------------------- finding runs


def open_run(preset, seed, runs=None, parameters=None, rule=None) -> Run:
    """The tables that there are of one preset and seed. Raises UserError as `measure`."""
    keys = [RunKey.of_page(kind, preset, seed, parameters or {}) for kind in (*KINDS, EVALUATION)]
    places = {key.kind: key.own(runs) if runs else key.committed for key in keys}
    found = {kind: load(place) for kind, place in places.items() if (place / MANIFEST).exists()}
    if EVALUATION in found:  # of a seed whose LLC curve was not taken
        found.setdefault("regression", found.pop(EVALUATION))
    return Run(preset, seed, found, rule=rule,
               places=places_beside(preset, seed, runs, parameters))


def places_beside(preset, seed, runs=None, parameters=None) -> dict[str, tuple]:
    """Where the block means and the long chains of a regression run would lie, by kind: its own,
    and those of the checkpoints that the repository keeps of it."""
    def place(kind, reuse):
        key = RunKey.of_page(kind, preset, seed, {**(parameters or {}), "reuse": reuse})
        return key.own(runs) if runs else key.committed

    return {kind: (place(kind, False), place(kind, True)) for kind in (BLOCKS, PROTOCOLS)}


def seeds_of(preset, kind, runs=None, parameters=None) -> list[int]:
    """Seeds whose tables of this kind are there."""
    stem = RunKey.of_page(kind, preset, 0, parameters or {}).stem
    return [key.seed for key in finished(preset, runs) if key.stem == stem]


def regression_runs(preset, runs=None) -> list[Run]:
    """Every regression run of a preset, of either residual stream."""
    keys = [key for key in finished(preset, runs)
            if key.kind == "regression" and not key.reuse and not key.sampler]
    return [Run(preset, key.seed, {"regression": load(key.own(runs) if runs else key.committed)})
            for key in keys]


@functools.cache
def entries() -> tuple[Claim, ...]:
    """The ledger's claims. Raises UserError, with the id, for an entry that is malformed, a claim
    without a measurement, or a measurement without a claim."""
    found = load_entries()
    known = [claim.id for claim in found]
    for name in sorted({*known} ^ {*measures.MEASURES}):
        where, lacks = (("data/claims.yaml", "a measurement in book/companion/claims/measures.py")
                        if name in known else
                        ("book/companion/claims/measures.py", "an entry in data/claims.yaml"))
        raise UserError(f"claim {name} of {where} has no counterpart: it needs {lacks}")
    return found
