"""The paper's claims, measured on result tables.

data/claims.yaml holds what the paper or its released files say, and how near a measurement must
come; book/companion/claims/measures.py how each claim is read off tables. Here the two are put
together. Nothing is trained or sampled, and torch is not loaded.
"""

import functools
import math
from dataclasses import dataclass, field

from companion import presets
from companion.claims import measures
from companion.claims.entries import Claim, load_entries
from companion.claims.judge import NOT_REACHED, NOT_RUN, Judged, Measured, judge
from companion.claims.text import brief
from companion.runs import MANIFEST, RunKey, finished
from companion.tables import Results, load
from devlib.errors import UserError

# A table's kind and the table whose last step says how far the run went.
LENGTHS = {"regression": "evaluation", "development": "behaviour", "hessian": "statistics",
           "calibration": "runs", "language-2layer": "behaviour", "language-1layer": "behaviour"}
KINDS = (*LENGTHS, "primer")


class NotRun(Exception):
    """A measurement's tables are not there."""


@dataclass
class Run:
    """The tables of one preset and seed by kind, as measurements take them. `others` are the
    preset's regression runs, itself included, where several are there. `rule` replaces the
    preset's rule for regression stages."""

    preset: str
    seed: int
    results: dict[str, Results]
    others: list["Run"] = field(default_factory=list)
    rule: object = None

    def __getitem__(self, kind) -> Results:
        if kind not in self.results:
            raise NotRun(kind)
        return self.results[kind]

    def last(self, kind) -> int | None:
        """The last step of a run; None where nothing is trained."""
        if kind not in LENGTHS:
            return None
        return int(self[kind][LENGTHS[kind]].step.max())

    @functools.cached_property
    def scale(self):
        """The preset."""
        return presets.get(self.preset)

    @property
    def regression_rule(self):
        """The rule for stages: the preset's, unless another is given."""
        return self.rule or self.scale.regression.stages

    @functools.cache  # noqa: B019 (runs are few)
    def stages(self, kind):
        """What `find_stages` says of the run's LLC."""
        from devlib.stages import find_stages

        tables = self[kind]
        if kind == "regression":
            return find_stages(tables["llc"], tables["evaluation"], self.regression_rule)
        settings = self.scale.language if kind == "language-2layer" else self.scale.one_layer
        return find_stages(tables["llc"], tables["behaviour"], settings.stages, "LM")

    __hash__ = object.__hash__


# ------------------------------------------------------------------------------------ measuring


def measure(preset, seed, runs=None, parameters=None) -> list[dict]:
    """Every claim measured on one run: plain dictionaries, ready for JSON, one for each number
    of a claim, in the ledger's order.

    A dictionary holds `id`; `what`, the quantity in words; `measured` and `error` (standard
    error), None where there is none; `expected` and `tolerance`, the paper's or released value
    and what is allowed (a number, or text such as "10%", "factor 1.5"); `side` ("within", "at
    least", "at most"); `verdict`, one of "agrees", "differs", "not reached at this scale" and
    "not run"; `verdict_half` and `verdict_double`, the same with half and double the tolerance;
    `unit`, `preset`, `seed`; and the verdicts of the whole claim, which are the same in all its
    rows: `claim_verdict`, `claim_verdict_half`, `claim_verdict_double`, with `claim`, its
    sentence.

    `runs` is a runs directory (default: the committed tables). `parameters` are a page's, as for
    `RunKey.of_page`: {"residual": "standard"} measures the standard residual stream,
    {"corpus": "toy"} another corpus. Claims whose tables are not there say "not run". Raises
    UserError for an unknown preset or a damaged table.
    """
    run = open_run(preset, seed, runs, parameters)
    return [record for claim in entries()
            for record in records(judged(claim, run, measures.NEEDS[claim.id]))]


def records(found: Judged) -> list[dict]:
    """A judged claim as `measure` returns it."""
    claim = found.claim
    return [{"id": claim.id, "what": m.row.what, "measured": _plain(m.value),
             "error": _plain(m.error), "expected": m.row.expected, "tolerance": m.row.tolerance,
             "side": m.row.side, "verdict": m.verdict,
             "verdict_half": m.verdict_at_half_tolerance,
             "verdict_double": m.verdict_at_double_tolerance, "unit": m.row.unit or claim.unit,
             "preset": found.preset, "seed": found.seed, "claim": claim.what,
             "claim_verdict": found.verdict,
             "claim_verdict_half": found.verdict_at_half_tolerance,
             "claim_verdict_double": found.verdict_at_double_tolerance} for m in found.rows]


def _plain(value):
    return float(value) if value is not None and math.isfinite(value) else None


def judged(claim: Claim, run: Run | None, needs, spread=()) -> Judged:
    """A claim on one run, with the spread over further runs of the same preset."""
    if run is None or any(kind not in run.results for kind in needs[:1]):
        rows = [Measured(row, None, None, NOT_RUN, NOT_RUN, NOT_RUN) for row in claim.rows
                if not row.scale]
        return Judged(claim, run and run.preset, run and run.seed, "", tuple(rows))
    wanted = [row for row in claim.rows if row.scale in (None, run.preset)]
    rows = [_measured(claim, row, run, needs[0], spread) for row in wanted]
    description = run[needs[0]].description if needs[0] in LENGTHS else (
        f"{run.preset} preset, seed {run.seed}: examples with exact answers; nothing is trained")
    return Judged(claim, run.preset, run.seed, description, tuple(rows))


def _measured(claim, row, run, kind, spread) -> Measured:
    found = _value(claim, row, run, kind)
    if isinstance(found, str):
        return Measured(row, None, None, found, found, found)
    others = [_value(claim, row, other, kind) for other in spread]
    return Measured(row, *found, *(judge(row, *found, scale) for scale in (1.0, 0.5, 2.0)),
                    tuple(other[0] for other in others if not isinstance(other, str)))


def _value(claim, row, run, kind):
    """(value, error), or the verdict that stands in its place."""
    last = run.last(kind)
    if last is not None and last + 1 < row.seen_from:
        return NOT_REACHED
    try:
        found = measures.MEASURES[claim.id](run, **row.at)
    except NotRun:
        return NOT_RUN
    if found is None:
        return NOT_REACHED
    value, error = found
    return float(value), None if error is None else float(error)


def ledger(preset=None, runs=None, seed=None, parameters=None) -> list[Judged]:
    """Every claim on the largest preset whose tables are there, with the spread over its seeds.

    `preset`, `runs` and `parameters` (see `measure`) force one preset, another directory than the
    committed tables, and tables of other settings. Of several seeds the named one is judged, or
    else the lowest. Raises UserError for an unknown preset.
    """
    order = [presets.get(preset).name] if preset else list(presets.PRESETS)[::-1]

    @functools.cache
    def opened(name, number):
        run = open_run(name, number, runs, parameters)
        run.others = regression_runs(name, runs)
        return run

    found = []
    for claim in entries():
        needs = measures.NEEDS[claim.id]
        name = next((name for name in order if seeds_of(name, needs[0], runs, parameters)), None)
        seeds = seeds_of(name, needs[0], runs, parameters) if name else []
        first = seed if seed in seeds else (seeds or [None])[0]
        spread = [opened(name, other) for other in seeds if other != first]
        found.append(judged(claim, opened(name, first) if name else None, needs, spread))
    return found


def on_tables(*ids, rule=None, others=(), **tables) -> dict[str, Judged]:
    """Claims measured on a page's own results, by id.

    `tables` are regression, development, hessian, calibration, primer, two_layers or one_layer;
    `rule` the page's rule for regression stages; `others` every regression run of the preset, for
    LR-15. A claim whose tables are not among them is not run. Raises UserError for an id that
    there is not.
    """
    first = next(iter(tables.values())).manifest
    run = Run(first["preset"], first["seed"], {
        {"two_layers": "language-2layer", "one_layer": "language-1layer"}.get(kind, kind): found
        for kind, found in tables.items()}, rule=rule)
    run.others = [Run(other.manifest["preset"], other.manifest["seed"], {"regression": other})
                  for other in others]
    return {name: judged(claim, run, measures.NEEDS[name])
            for name, claim in chosen(ids).items()}


def show(*ids, **tables):
    """Prints claims beside their figure: ids and tables as for `on_tables`, or what it returned."""
    found = ids[0] if isinstance(ids[0], dict) else on_tables(*ids, **tables)
    print("\n".join(map(brief, found.values())))


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
    keys = [RunKey.of_page(kind, preset, seed, parameters or {}) for kind in KINDS]
    places = {key.kind: key.own(runs) if runs else key.committed for key in keys}
    found = {kind: load(place) for kind, place in places.items() if (place / MANIFEST).exists()}
    return Run(preset, seed, found, rule=rule)


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
