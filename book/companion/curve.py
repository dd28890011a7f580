"""A measurement at every checkpoint of a run: in parallel, and never twice.

Each finished checkpoint leaves a small JSON file whose name carries a hash of the settings and of
the measurement's version, so that an interrupted curve goes on where it was and a changed setting
starts a new one.
"""

import functools

import pandas as pd

from companion.compute.parallel import each
from companion.packed import open_run
from companion.program import PROGRAM
from devlib.devices import move
from devlib.errors import UserError
from devlib.files import settings_hash
from devlib.locks import locked
from devlib.sealed import read_sealed, write_sealed


def rows(measure, store, steps, directory, settings, label, jobs=None) -> pd.DataFrame:
    """`measure(params)` -> a row, or a list of rows, at each step, as a table; finished steps are
    read back. `settings` are all that the rows depend on besides the checkpoint, the measurement's
    version among them (companion.measurements). `measure` travels to other processes."""
    one = functools.partial(_as_one_table, measure)
    return tables(one, store, steps, directory, settings, label, jobs)["rows"]


def _as_one_table(measure, params):
    return {"rows": measure(params)}


def tables(measure, store, steps, directory, settings, label, jobs=None) -> dict:
    """The same for several tables at once: `measure(params)` -> {name: row or list of rows}."""
    identity = settings_hash({"run": store.manifest["hash"], **settings})
    with locked(directory) as directory:
        paths = {step: directory / f"{identity}_step_{step:07d}.json" for step in steps}
        missing = [step for step in steps if not paths[step].exists()]
        each(functools.partial(_at_checkpoint, measure, store.directory, paths), missing,
             jobs=jobs, label=label)
        found = [read_rows(paths[step]) for step in steps]
    return {name: pd.DataFrame([row for part in found for row in part[name]])
            for name in found[0]}


def _at_checkpoint(measure, run, paths, step):
    """Measures one checkpoint and files the rows."""
    def found():
        params = move(open_run(run).load(step))
        return {name: [{"step": step, **row} for row in
                       (part if isinstance(part, list) else [part])]
                for name, part in measure(params).items()}

    file_once(paths[step], found)


def file_once(path, measure):
    """Files what `measure()` -> {name: row or rows} finds, unless it is there."""
    if not path.exists():
        write_sealed(path, measure())


def read_rows(path) -> dict:
    """The tables in one such file. Raises UserError, naming it, if it is damaged."""
    try:
        return read_sealed(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); {PROGRAM} mend sets it aside; then "
                        "run the same command again, and this checkpoint is measured anew"
                        ) from error
