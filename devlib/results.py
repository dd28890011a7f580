"""Result tables with provenance: computed once, kept as CSV, read by notebooks.

Committed tables live in data/results/<preset>/<name>/, a user's own in the runs directory under
the same path. Each folder's manifest.json holds the settings, what made the tables, how long it
took, and a sha256 of each table, so that a table that was changed by hand or torn is refused.
"""

import functools
import re
import time
from pathlib import Path

from devlib import presets, sources
from devlib.checkpoints import CheckpointStore, nearest, thin
from devlib.errors import UserError
from devlib.files import (
    make_directory,
    project_root,
    provenance,
    runs_directory,
    settings_hash,
    sha256,
    write_atomic,
)
from devlib.locks import locked
from devlib.packed import Packed, pack
from devlib.presets import RegressionSettings, as_dict
from devlib.program import PROGRAM
from devlib.sealed import read_sealed, write_sealed
from devlib.tables import (
    COMMITTED,
    MANIFEST,
    Results,
    changed,
    load,
    remedy,
    with_changes,
)

SECONDS = "seconds.json"
CHECKPOINTS = project_root() / "data" / "checkpoints"
DIGITS = "%.6g"  # in every table: enough for any reader, and the same text on every machine


def load_or_compute(kind, preset, seed, settings: dict, recompute, compute, page="NOTEBOOK",
                    about="regression", changes=None) -> Results:
    """The tables of folder `kind-seedSEED`: the committed ones, or else those in the runs
    directory; with `recompute` the latter, made by `compute(place, timed)` -> {name: table}
    unless they are finished.

    `timed(part, work)` calls `work()` and counts its seconds, over interrupted goes too. `about`
    says which model's words go with the tables, `changes` which settings are not the preset's.
    Raises UserError if nothing is there and `recompute` is off.
    """
    name = f"{kind}-seed{presets.check_seed(seed)}"
    identity = {"preset": preset, "seed": seed, "settings": settings}
    own = runs_directory() / preset / name
    for place in [own] if recompute else [COMMITTED / preset / name, own]:
        if (place / MANIFEST).exists():
            return load(place, identity)
    if not recompute:
        raise UserError(f"no results for preset {preset!r}, seed {seed}; compute them with "
                        f"recompute=True, or {PROGRAM} run {page} --preset "
                        f"{preset} --seed {seed}")
    with locked(own):
        if not (own / MANIFEST).exists():  # or else another process made them meanwhile
            tables = compute(own, timer(own))
            save(own, tables, identity | {"seconds": spent(own / SECONDS), "about": about}
                 | ({"changes": changes} if changes else {}))
        return load(own, identity)


def regression(preset: str, seed: int, recompute=False, residual=None, reuse=False,
               llc=None) -> Results:
    """Tables of one regression run: "evaluation" (loss, predictions, norms at each checkpoint)
    and "llc" (the LLC curve). With `recompute` (see `load_or_compute`) training, evaluation and the
    LLC of each checkpoint go on where they were; with `reuse` too, the committed checkpoints are
    measured and nothing is trained. `llc` changes the sampler (see `regression_settings`): such
    tables have a folder of their own, and share the checkpoints with those of the preset."""
    settings = regression_settings(preset, residual, llc)
    kind = _kind("regression", settings, recompute and reuse)

    def compute(place, timed):
        # torch, only where something is computed
        from devlib.tables_regression import evaluation_table, llc_table

        store = checkpoints(preset, seed, timed, residual, reuse)
        steps = thin(store.steps, settings.evaluation.curve_checkpoints)
        run = place.with_name(f"{kind}-seed{seed}")  # whatever the sampler, one evaluation
        return {"evaluation": timed("evaluation", lambda: evaluation_table(
                    store, settings, seed, run / "evaluation")),
                "llc": timed("llc", lambda: llc_table(store, steps, settings, seed,
                                                      place / "llc"))}

    return load_or_compute(with_changes(kind, llc), preset, seed, as_dict(settings), recompute,
                           compute, page="02_stage_boundaries", changes=changed(llc))


def finished_runs(preset: str) -> list[tuple[str, int]]:
    """(residual, seed) of every regression run of a preset whose tables are there, committed or
    in the runs directory."""
    found = {path.parent.name for root in (COMMITTED, runs_directory())
             for path in (root / preset).glob(f"regression-*-seed*/{MANIFEST}")}
    names = (re.fullmatch(r"regression-(doubled|standard)-seed(\d+)", name) for name in found)
    return sorted((name[1], int(name[2])) for name in names if name)


def development(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """The metrics of Appendix D of the same run: "behaviour", "structure" and "path" (essential
    dynamics, with "explained"), one row a step, and "heads", one row a half-head and step."""
    settings, metrics = regression_settings(preset, residual), presets.get(preset).metrics

    def compute(place, timed):
        from devlib.tables_regression import metric_tables, path_tables

        store = checkpoints(preset, seed, timed, residual, reuse)
        steps = thin(store.steps, settings.evaluation.curve_checkpoints)
        tables = timed("metrics", lambda: metric_tables(store, steps, settings, metrics, seed,
                                                        place / "metrics"))
        return tables | timed("path", lambda: path_tables(store, steps, settings, metrics, seed))

    return load_or_compute(_kind("development", settings, recompute and reuse), preset, seed,
                           {"regression": as_dict(settings), "metrics": as_dict(metrics)},
                           recompute, compute)


def hessian(preset: str, seed: int, recompute=False, residual=None, reuse=False) -> Results:
    """Hessian statistics of the same run (B.5): "statistics" and "density"."""
    settings, chosen = regression_settings(preset, residual), presets.get(preset).hessian

    def compute(place, timed):
        from devlib.tables_regression import hessian_tables

        store = checkpoints(preset, seed, timed, residual, reuse)
        return timed("Hessian", lambda: hessian_tables(store, settings, chosen, seed,
                                                       place / "hessian"))

    return load_or_compute(_kind("hessian", settings, recompute and reuse), preset, seed,
                           {"regression": as_dict(settings), "hessian": as_dict(chosen)},
                           recompute, compute, page="08_hessian_comparison")


def check(preset: str, seed: int, recompute=False, residual=None) -> Results | None:
    """Table "llc": the LLC of a few checkpoints by the paper's sampler (`Preset.check`), None
    where the preset asks for none."""
    settings, chosen = regression_settings(preset, residual), presets.get(preset).check
    if not chosen.steps:
        return None
    llc = by_the_paper(settings.llc, chosen)

    def compute(place, timed):
        from devlib.tables_regression import llc_table

        store = checkpoints(preset, seed, timed, residual)
        return {"llc": timed("check", lambda: llc_table(
            store, nearest(store.loadable, chosen.steps), presets.replace(settings, llc=llc), seed,
            place / "llc"))}

    return load_or_compute(_kind("check", settings, False), preset, seed,
                           {"regression": as_dict(settings), "check": as_dict(chosen)}, recompute,
                           compute, page="02_stage_boundaries")


def by_the_paper(llc, chosen):
    """LLC settings with the paper's batch and burn-in, as far as the set and the draws go."""
    paper = presets.PAPER.regression.llc
    return presets.replace(
        llc, batch=min(paper.batch, llc.samples), chains=chosen.chains, draws=chosen.draws,
        burn_in=min(paper.burn_in, chosen.draws // 2), precision=None)


def _kind(name, settings, reused):
    return f"{name}-{settings.model.residual}" + ("-reused" if reused else "")


def checkpoints(preset, seed, timed, residual=None, reuse=False):
    """The checkpoints of a run, trained as far as they are missing, or with `reuse` those in the
    repository. Raises UserError if it has none."""
    from devlib.training import train

    settings = regression_settings(preset, residual)
    if reuse:
        return committed_checkpoints(preset, seed, residual)
    return timed("training", lambda: train(
        settings, seed, training_directory(settings, seed, preset)))


def kept_checkpoints(preset, seed, residual=None, recompute=False):
    """Checkpoints for a page to draw from: the committed few, or with `recompute` or where there
    are none, those of the run in the runs directory. Raises UserError if it was not trained."""
    settings = regression_settings(preset, residual)
    if not recompute and _packed(preset, settings, seed).exists():
        return committed_checkpoints(preset, seed, residual)
    return CheckpointStore(training_directory(settings, seed, preset))


def committed_checkpoints(preset, seed, residual=None):
    """The few checkpoints of a run that the repository holds. Raises UserError if it has none."""
    path = _packed(preset, regression_settings(preset, residual), seed)
    if not path.exists():
        raise UserError(f"the repository has no checkpoints of preset {preset!r}, seed {seed}; "
                        "leave reuse off to train them")
    packed = Packed(path)
    sources.note_file(path, packed.manifest["made with"], packed.manifest["file"])
    return packed


def _packed(preset, settings, seed) -> Path:
    return CHECKPOINTS / preset / f"{run_name(settings, seed)}.safetensors"


def regression_settings(preset: str, residual=None, llc=None) -> RegressionSettings:
    """The regression settings of a preset, with another residual if one is named, and with
    another sampler: `llc` maps eps, nbeta and gamma to a number, or to None for the preset's.
    Raises UserError for a value out of its range."""
    settings = presets.get(preset).regression
    if given := changed(llc):
        from devlib.samplers import SGLD

        found = presets.replace(settings.llc, **given)
        SGLD(found.eps, found.nbeta, found.gamma)  # checks them
        settings = presets.replace(settings, llc=found)
    if residual is None:
        return settings
    if residual not in ("doubled", "standard"):
        raise UserError(f"residual must be 'doubled' or 'standard', not {residual!r}")
    return presets.replace(settings, model=presets.replace(settings.model, residual=residual))


def training_directory(settings: RegressionSettings, seed, preset: str, runs=None) -> Path:
    """Where the checkpoints of a run go."""
    return Path(runs or runs_directory()) / preset / run_name(settings, seed) / "checkpoints"


def run_name(settings: RegressionSettings, seed) -> str:
    """The folder of a run below its preset's."""
    return f"regression-{settings.model.residual}-seed{presets.check_seed(seed)}"


def adopt(preset, seed) -> list[Path]:
    """Copies every finished folder of tables from the runs directory into data/results, and the
    preset's number of checkpoints of each run into data/checkpoints, to be committed. Raises
    UserError if there is none, or one is damaged."""
    presets.get(preset)
    runs = runs_directory() / preset
    finished = sorted(path.parent for path in
                      runs.glob(f"*-seed{presets.check_seed(seed)}/{MANIFEST}")
                      if "=" not in path.parent.name)  # settings of a sweep are its own
    if not finished:
        raise UserError(f"{runs} has no finished tables of seed {seed}; compute them first, with "
                        f"{PROGRAM} reproduce --preset {preset} --seed {seed}")
    tables = {own: load(own).tables for own in finished}  # verifies them all before the first copy
    places = []
    for own in finished:
        places.append(make_directory(COMMITTED / preset / own.name))
        for file in (*(f"{table}.csv" for table in tables[own]), MANIFEST):  # the manifest last
            write_atomic(places[-1] / file, (own / file).read_bytes())
    for run in sorted(runs.glob(f"regression-*-seed{seed}/checkpoints")):
        store = CheckpointStore(run)
        places.append(pack(store, thin(store.loadable, presets.get(preset).kept),
                           CHECKPOINTS / preset / f"{run.parent.name}.safetensors"))
    return places


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


