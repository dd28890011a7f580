"""A regression run's study, carried to another machine in one file: where a machine is lent for
fewer hours than a study takes, the next one goes on with it."""

import io
import tarfile
import tempfile
from pathlib import Path

from companion import presets, results
from companion.places import runs_directory
from companion.runs import MANIFEST, OF_REGRESSION, RunKey
from devlib.checkpoints import CheckpointStore
from devlib.errors import UserError
from devlib.files import make_directory, storing, write_atomic
from devlib.resume import read_state
from devlib.sealed import write_sealed
from devlib.steps import schedule
from devlib.training import RESUME

PASSING = (".part", ".lock")  # how files end that are of a process, and not of a run


def set_down(file, preset, seed, residual=None) -> Path:
    """Writes to `file` (.tar.xz) what a run's study needs to go on elsewhere, also while it trains:
    the state of training, the checkpoints that the repository would keep, and all that was measured
    so far. Every other checkpoint is evaluated now and left behind. Raises UserError if no training
    state is there yet."""
    from companion.regression import evaluation_table  # torch, only where something is computed

    key = RunKey.of("evaluation", preset, seed, residual=residual)
    scale, place = presets.get(preset), key.checkpoints()
    store = CheckpointStore(place)
    if not (place / RESUME).exists():
        raise UserError(f"{place} has no {RESUME} yet; training writes it every half minute: try "
                        "again then")
    taken = int(read_state(place / RESUME)[1]["step"])  # updates; a later checkpoint is made again
    training = key.settings.training
    kept = results.kept_steps(schedule(training.steps, training.log_checkpoints,
                                       training.linear_checkpoints, training.stop), scale)
    evaluation_table(store, key.settings, key.seed, key.trained.own() / "evaluation")
    lines = {step: entry if int(step) in kept else entry | {"left": True}
             for step, entry in store.manifest["checkpoints"].items() if int(step) < taken}
    folders = [RunKey.of(kind, preset, seed, residual=residual).own() for kind in OF_REGRESSION]
    files = [path for folder in folders for path in sorted(folder.rglob("*"))
             if path.is_file() and path.parent != place and not path.name.endswith(PASSING)]
    files += [place / RESUME, *(store.path(step) for step in kept if str(step) in lines)]
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / MANIFEST
        write_sealed(manifest, store.manifest | {"checkpoints": lines})
        data = _archive([(path, path) for path in files] + [(manifest, place / MANIFEST)])
    write_atomic(make_directory(Path(file).parent) / Path(file).name, data)
    return Path(file)


def _archive(files) -> bytes:
    """A tar archive of (where it lies, where it belongs); the same files give the same bytes."""
    found, top = io.BytesIO(), runs_directory()
    with tarfile.open(fileobj=found, mode="w:xz") as archive:
        for path, place in sorted(files, key=lambda each: str(each[1])):
            data = path.read_bytes()
            entry = tarfile.TarInfo(str(place.relative_to(top)))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def take_up(file, preset, seed, residual=None) -> list[Path]:
    """Unpacks such a file into the runs directory, unless the run is there already, and returns the
    folders. Raises UserError if it is missing, damaged, or of another run."""
    key = RunKey.of("evaluation", preset, seed, residual=residual)
    if (key.checkpoints() / MANIFEST).exists():
        return []
    top = make_directory(runs_directory())
    with storing(top), tempfile.TemporaryDirectory(dir=top) as folder:
        try:
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UserError(f"{file} is no carried study ({error}); take another copy of it, or "
                            "leave it out to begin anew") from error
        if not (key.checkpoints(folder) / MANIFEST).exists():
            raise UserError(f"{file} carries another run than preset {preset}, seed {key.seed}, "
                            f"residual {key.residual}; name that one, or another file")
        CheckpointStore(key.checkpoints(folder))  # refuses a damaged one
        places = []
        # the run last: with it the study counts as taken up
        for path in sorted(Path(folder, preset).iterdir(),
                           key=lambda path: path.name == key.trained.folder):
            place = make_directory(top / preset) / path.name
            if not place.exists():  # nothing that was computed here is replaced
                places.append(path.rename(place))
        return places
