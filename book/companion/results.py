"""Result tables with provenance: computed once, kept as CSV, read by notebooks.

Committed tables live in data/results/<preset>/<name>/, a user's own in the runs directory under
the same path. Each folder's manifest.json holds the settings, what made the tables, how long it
took, and a sha256 of each table, so that a table that was changed by hand or torn is refused.
"""

import functools
import time
from pathlib import Path

from companion import presets, runs
from companion.measurements import versions
from companion.packed import Packed, pack
from companion.places import runs_directory
from companion.program import PROGRAM
from companion.provenance import note_file
from companion.runs import MANIFEST, OF_LANGUAGE, RunKey
from companion.tables import Results, load, remedy
from devlib.checkpoints import CheckpointStore
from devlib.checks import check_seed
from devlib.errors import UserError
from devlib.files import make_directory, provenance, settings_hash, sha256, write_atomic
from devlib.locks import locked
from devlib.sealed import read_sealed, write_sealed
from devlib.settings import RegressionSettings, as_dict, replace
from devlib.steps import nearest_each, thin

SECONDS = "seconds.json"
DIGITS = "%.6g"  # in every table: enough for any reader, and the same text on every machine


def load_or_compute(key: RunKey, settings: dict, recompute, compute, page="NOTEBOOK") -> Results:
    """The tables of a key: the committed ones, or else those in the runs directory; with
    `recompute` the latter, made by `compute(place, timed)` -> {name: table} unless they are
    finished and every measurement in them is of the version of today (companion.measurements).

    `timed(part, work)` calls `work()` and counts its seconds, over interrupted goes too. Raises
    UserError if nothing is there and `recompute` is off.
    """
    identity = {"preset": key.preset, "seed": key.seed, "settings": settings}
    own = key.own()
    if found := _finished(key, identity) if recompute else (
            _read(key.committed, identity) or _read(own, identity)):
        return found
    if not recompute:
        raise UserError(f"no results for preset {key.preset!r}, seed {key.seed}; compute them with "
                        f"recompute=True, or {PROGRAM} run {page} --preset "
                        f"{key.preset} --seed {key.seed}")
    with locked(own):
        if found := _finished(key, identity):  # another process made them meanwhile
            return found
        tables = compute(own, timer(own))
        (own / MANIFEST).unlink(missing_ok=True)  # of an earlier version: no kill leaves it beside
        save(own, tables, identity | {"seconds": spent(own / SECONDS), **origin(key)})
        return load(own, identity)


def _finished(key, identity) -> Results | None:
    """The tables in the runs directory, if they are of the versions of today."""
    found = _read(key.own(), identity)
    return found if found and found.manifest.get("versions", {}) == versions(key.kind) else None


def _read(place, identity) -> Results | None:
    return load(place, identity) if (place / MANIFEST).exists() else None


def origin(key) -> dict:
    """What a manifest says of a key's tables: which model they are about, what of the sampler is
    not the preset's, and which measurements are not of version 1."""
    made = {"changes": dict(key.sampler), "versions": versions(key.kind)}
    return {"about": "language" if key.kind in OF_LANGUAGE else "regression",
            **{name: value for name, value in made.items() if value}}


def regression(preset: str, seed: int, recompute=False, residual=None, reuse=False,
               llc=None) -> Results:
    """Tables of one regression run: "evaluation" (loss, predictions, norms at each checkpoint)
    and "llc" (the LLC curve). With `recompute` (see `load_or_compute`) training, evaluation and the
    LLC of each checkpoint go on where they were; with `reuse` too, the committed checkpoints are
    measured and nothing is trained. `llc` changes the sampler (see `regression_settings`): such
    tables have a folder of their own, and share the checkpoints with those of the preset."""
    key = RunKey.of("regression", preset, seed, residual=residual, reuse=recompute and reuse,
                    **(llc or {}))
    settings = key.settings

    def compute(place, timed):
        # torch, only where something is computed
        from companion.regression import evaluation_table, llc_table

        store = checkpoints(key, timed)
        steps = thin(store.steps, settings.evaluation.curve_checkpoints)
        return {"evaluation": timed("evaluation", lambda: evaluation_table(
                    store, settings, seed, key.evaluated.own() / "evaluation")),
                "llc": timed("llc", lambda: llc_table(store, steps, settings, seed,
                                                      place / "llc"))}

    return load_or_compute(key, as_dict(settings), recompute, compute, page="02_stage_boundaries")


def evaluation(preset: str, seed: int, recompute=False, residual=None) -> Results:
    """Table "evaluation" of a run alone, for a seed whose LLC curve was not taken (see
    `regression`, with which it shares its pieces)."""
    key = RunKey.of("evaluation", preset, seed, residual=residual)
    settings = key.settings

    def compute(place, timed):
        from companion.regression import evaluation_table

        store = checkpoints(key, timed)
        return {"evaluation": timed("evaluation", lambda: evaluation_table(
            store, settings, seed, key.trained.own() / "evaluation"))}

    return load_or_compute(key, as_dict(settings), recompute, compute, page="07_more_seeds")


def finished_runs(preset: str, kind="regression") -> list[tuple[str, int]]:
    """(residual, seed) of every regression run of a preset whose tables of a kind are there,
    committed or in the runs directory."""
    found = {*runs.finished(preset), *runs.finished(preset, runs_directory())}
    return sorted((key.residual, key.seed) for key in found
                  if key.kind == kind and not key.reuse and not key.sampler)


def evaluated_runs(preset: str) -> dict[tuple[str, int], Results]:
    """(residual, seed) -> the table "evaluation" of every run that has one, with an LLC curve or
    without."""
    read = {"regression": regression, "evaluation": evaluation}
    found = {run: read[kind](preset, run[1], residual=run[0])
             for kind in ("evaluation", "regression") for run in finished_runs(preset, kind)}
    return dict(sorted(found.items()))


def development(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """The metrics of Appendix D of the same run: "behaviour", "structure" and "path" (essential
    dynamics, with "explained"), one row a step, and "heads", one row a half-head and step."""
    key = RunKey.of("development", preset, seed, residual=residual, reuse=recompute and reuse)
    settings, metrics = key.settings, presets.get(preset).metrics

    def compute(place, timed):
        from companion.regression import metric_tables, path_tables

        store = checkpoints(key, timed)
        steps = thin(store.loadable, settings.evaluation.curve_checkpoints)
        tables = timed("metrics", lambda: metric_tables(store, steps, settings, metrics, seed,
                                                        place / "metrics"))
        return tables | timed("path", lambda: path_tables(store, steps, settings, metrics, seed))

    return load_or_compute(key, {"regression": as_dict(settings), "metrics": as_dict(metrics)},
                           recompute, compute)


def blocks(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """Table "blocks" of the same run: block means of the loss and of the behaviour, from which a
    change has its error (companion.regression.block_table)."""
    key = RunKey.of("blocks", preset, seed, residual=residual, reuse=reuse)
    settings, scale = key.settings, presets.get(preset)

    def compute(place, timed):
        from companion.regression import block_table

        store = checkpoints(key, timed)
        return {"blocks": timed("blocks", lambda: block_table(
            store, scale.kept, settings, scale.metrics, seed, place / "blocks"))}

    return load_or_compute(key, {"regression": as_dict(settings),
                                 "metrics": as_dict(scale.metrics)}, recompute, compute)


def hessian(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """Hessian statistics of the same run (B.5): "statistics" and "density"."""
    key = RunKey.of("hessian", preset, seed, residual=residual, reuse=recompute and reuse)
    settings, chosen = key.settings, presets.get(preset).hessian

    def compute(place, timed):
        from companion.regression import hessian_tables

        store = checkpoints(key, timed)
        return timed("Hessian", lambda: hessian_tables(store, settings, chosen, seed,
                                                       place / "hessian"))

    return load_or_compute(key, {"regression": as_dict(settings), "hessian": as_dict(chosen)},
                           recompute, compute, page="08_hessian_comparison")


def check(preset: str, seed: int, recompute=False, residual=None) -> Results | None:
    """Table "llc": the LLC of a few checkpoints by the paper's sampler (`Preset.check`), None
    where the preset asks for none."""
    key = RunKey.of("check", preset, seed, residual=residual)
    settings, chosen = key.settings, presets.get(preset).check
    if not chosen.steps:
        return None
    llc = by_the_paper(settings.llc, chosen)

    def compute(place, timed):
        from companion.regression import llc_table

        store = checkpoints(key, timed)
        return {"llc": timed("check", lambda: llc_table(
            store, nearest_each(store.loadable, chosen.steps), replace(settings, llc=llc),
            seed, place / "llc"))}

    return load_or_compute(key, {"regression": as_dict(settings), "check": as_dict(chosen)},
                           recompute, compute, page="02_stage_boundaries")


def protocols(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """The LLC by three protocols at the kept checkpoints of the same run (companion.protocols):
    "estimates", "climb", "positions" and "profile"."""
    key = RunKey.of("protocols", preset, seed, residual=residual, reuse=recompute and reuse)
    settings, chosen = key.settings, presets.get(preset).protocols

    def compute(place, timed):
        from companion.protocols import protocol_tables

        store = checkpoints(key, timed)
        return timed("protocols", lambda: protocol_tables(store, settings, chosen, seed,
                                                          place / "protocols"))

    return load_or_compute(key, {"regression": as_dict(settings), "protocols": as_dict(chosen)},
                           recompute, compute, page="16_what_the_curve_measures")


def by_the_paper(llc, chosen):
    """LLC settings with the paper's batch and burn-in, as far as the set and the draws go."""
    paper = presets.PAPER.regression.llc
    return replace(
        llc, batch=min(paper.batch, llc.samples), chains=chosen.chains, draws=chosen.draws,
        burn_in=min(paper.burn_in, chosen.draws // 2), precision=None)


def checkpoints(key: RunKey, timed):
    """The checkpoints of a regression run, trained as far as they are missing, or those in the
    repository if the key reuses them. Raises UserError if it has none."""
    from devlib.regression.train import train

    if key.reuse:
        return packed(key)
    run = key.trained
    return timed("training", lambda: train(run.settings, run.seed, run.checkpoints()))


def kept_checkpoints(preset, seed, residual=None, recompute=False):
    """Checkpoints for a page to draw from: the committed few, or with `recompute` or where there
    are none, those of the run in the runs directory. Raises UserError if it was not trained."""
    key = RunKey.of("regression", preset, seed, residual=residual)
    if not recompute and key.packed.exists():
        return packed(key)
    return CheckpointStore(key.checkpoints())


def committed_checkpoints(preset, seed, residual=None):
    """The few checkpoints of a regression run that the repository holds. Raises UserError if it
    has none."""
    return packed(RunKey.of("regression", preset, seed, residual=residual))


def packed(key: RunKey):
    """The few checkpoints of a run that the repository holds. Raises UserError if it has none."""
    path = key.packed
    if not path.exists():
        raise UserError(f"the repository has no checkpoints of preset {key.preset!r}, seed "
                        f"{key.seed}; leave reuse off to train them")
    found = Packed(path)
    note_file(path, found.manifest["made with"], found.manifest["file"])
    return found


def regression_settings(preset: str, residual=None, llc=None) -> RegressionSettings:
    """The regression settings of a preset, with another residual if one is named, and with
    another sampler: `llc` maps eps, nbeta and gamma to a number, or to None for the preset's.
    Raises UserError for a value out of its range."""
    return RunKey.of("regression", preset, seed=0, residual=residual, **(llc or {})).settings


def adopt(preset, seed) -> list[Path]:
    """Copies every finished folder of tables from the runs directory into data/results, and the
    kept checkpoints of each run into data/checkpoints, to be committed. Raises
    UserError if there is none, or one is damaged."""
    presets.get(preset), check_seed(seed)
    ready = [key for key in runs.finished(preset, runs_directory())
             if key.seed == seed and not key.sampler]  # settings of a sweep are its own
    if not ready:
        raise UserError(f"{runs_directory() / preset} has no finished tables of seed {seed}; "
                        f"compute them first, with {PROGRAM} reproduce --preset "
                        f"{preset} --seed {seed}")
    tables = {key: load(key.own()).tables for key in ready}  # verifies all before the first copy
    places = []
    for key in ready:
        places.append(make_directory(key.committed))
        for file in (*(f"{table}.csv" for table in tables[key]), MANIFEST):  # the manifest last
            write_atomic(places[-1] / file, (key.own() / file).read_bytes())
    for residual in runs.RESIDUALS:
        key = RunKey.of("regression", preset, seed, residual=residual)
        if key.checkpoints().exists():
            store = CheckpointStore(key.checkpoints())
            places.append(pack(store, kept_steps(store.loadable, presets.get(preset)), key.packed))
    return places


def kept_steps(steps, preset) -> list[int]:
    """Which checkpoints of a run the repository keeps: the preset's number over the whole run, and
    those that its protocols are measured at."""
    return sorted({*thin(steps, preset.kept), *nearest_each(steps, preset.protocols.steps)})


def save(place, tables, facts):
    """Writes the tables, then the manifest that makes them valid."""
    place, hashes = make_directory(place), {}
    for name, table in tables.items():
        data = table.to_csv(index=False, float_format=DIGITS).encode()
        write_atomic(place / f"{name}.csv", data)
        hashes[name] = sha256(data)
    write_sealed(place / MANIFEST, {**facts, "hash": settings_hash(facts["settings"]),
                                    "made with": provenance(), "tables": hashes})


def timer(place):
    """`timed(part, work)` of a folder of tables (see `load_or_compute`)."""
    return functools.partial(_timed, Path(place) / SECONDS)


def _timed(path, name, work):
    """Runs a part and adds its seconds to those of earlier, interrupted goes."""
    if path.exists():
        spent(path)  # refused now rather than after the work
    begun = time.monotonic()
    try:
        return work()
    finally:
        known = spent(path) if path.exists() else {}
        known[name] = round(known.get(name, 0.0) + time.monotonic() - begun, 1)
        write_sealed(path, known)


def spent(path) -> dict:
    """Seconds by part. Raises UserError, naming the file, if it is damaged."""
    try:
        return read_sealed(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy(path.parent)}") from error
