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
    so far. Every other checkpoint is evaluated now and left behind. Raises UserError before that if
    no training state is there yet, or `file` cannot be written."""
    file = Path(file)
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file in it, such as "
                        f"{file / f'study-seed{seed}.tar.xz'}")
    make_directory(file.parent, "another name for the file")
    key = RunKey.of("evaluation", preset, seed, residual=residual)
    place = key.checkpoints()
    with tempfile.TemporaryDirectory() as folder:
        resume = Path(folder) / RESUME
        if (place / RESUME).exists():  # a copy, as training may go on; read before the manifest is
            resume.write_bytes((place / RESUME).read_bytes())
        store = CheckpointStore(place)
        if not resume.exists():
            raise UserError(f"{place} has no {RESUME} yet; training writes it every half minute: "
                            "try again then")
        lines, files = _what_goes(key, store, int(read_state(resume)[1]["step"]))
        manifest = Path(folder) / MANIFEST
        write_sealed(manifest, store.manifest | {"checkpoints": lines})
        write_atomic(file, _archive([(path, path) for path in files] + [
            (copy, place / copy.name) for copy in (resume, manifest)]))
    return file


def _what_goes(key, store, taken):
    """The manifest's lines of a run's checkpoints, after so many updates, and the files that go
    with it. Of a later checkpoint there is no line: it is made again."""
    from companion.regression import evaluation_table  # torch, only where something is computed

    training = key.settings.training
    kept = results.kept_steps(schedule(training.steps, training.log_checkpoints,
                                       training.linear_checkpoints, training.stop),
                              presets.get(key.preset))
    evaluation_table(store, key.settings, key.seed, key.trained.own() / "evaluation")
    lines = {step: entry if int(step) in kept else entry | {"left": True}
             for step, entry in store.manifest["checkpoints"].items() if int(step) < taken}
    folders = [RunKey.of(kind, key.preset, key.seed, residual=key.residual).own()
               for kind in OF_REGRESSION]
    files = [path for folder in folders for path in sorted(folder.rglob("*"))
             if path.is_file() and path.parent != store.directory
             and not path.name.endswith(PASSING)]
    return lines, files + [store.path(step) for step in kept if str(step) in lines]


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
        return _move(Path(folder, preset), top / preset, key.trained.folder)


def _move(source, target, run):
    """Moves the folders that the target has not; of the folder `run` each file that it has not, the
    manifest of its checkpoints last: with it the study counts as taken up."""
    places = []
    for path in sorted(source.iterdir(), key=lambda path: path.name == run):
        place = make_directory(target) / path.name
        if not place.exists():
            places.append(path.rename(place))
        elif path.name == run:
            for file in sorted(filter(Path.is_file, path.rglob("*")),
                               key=lambda file: file.name == MANIFEST):
                copy = place / file.relative_to(path)
                if not copy.exists():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    file.rename(copy)
            places.append(place)
    return places
