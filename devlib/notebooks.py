"""The book's pages as programs: find, check, rerun, refresh.

A page is two files, `NN_name.py` (jupytext py:percent, the source) and beside it `NN_name.ipynb`
(executed, committed in the canonical form). Its first code cell is `BOOTSTRAP`, which makes it
work on Google Colab; then comes a cell tagged `parameters`, with at least `preset`, `seed` and
`recompute`, each annotated and commented. Its last cell says what the page has read.
"""

import ast
import base64
import contextlib
import logging
import math
import operator
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from devlib import presets, reruns
from devlib.errors import UserError
from devlib.files import make_directory, project_root, runs_directory, sha256, write_atomic
from devlib.fixed_cells import LAST_CELL, bootstrap, settle_source

NOTEBOOKS = project_root() / "notebooks"
STANDARD = {"preset": "str", "seed": "int", "recompute": "bool"}  # what every page takes
INJECTED = "injected-parameters"  # papermill's tag
CHOICES = {"residual": ("doubled", "standard"), "corpus": ("", *presets.CORPORA)}
WORDS = {"int": "a whole number", "float": "a finite number", "bool": "true or false",
         "str": "text"}
LIMITS = {r"above (\d+)": operator.gt, r"(\d+) or more": operator.ge}  # words of a comment


def __getattr__(name):
    if name == "BOOTSTRAP":  # read when asked for: nothing happens on import
        return bootstrap()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------------------------------- pages


def names(folder=NOTEBOOKS) -> list[str]:
    """The pages of a folder, in the book's order."""
    return sorted({path.stem for pattern in ("[0-9]*_*.py", "[0-9]*_*.ipynb")
                   for path in Path(folder).glob(pattern)})


def find(name, folder=NOTEBOOKS) -> Path:
    """The .ipynb of a page, given as `02_stage_boundaries`, `stage_boundaries` or a path to
    either of its two files. Raises UserError with the names there are."""
    given = Path(name)
    if given.suffix in (".py", ".ipynb") and given.exists():
        return given.resolve().with_suffix(".ipynb")
    wanted = given.stem if given.name == str(name) and given.suffix else str(name)
    for known in names(folder):
        if wanted in (known, known.split("_", 1)[1]):
            return Path(folder).resolve() / f"{known}.ipynb"
    raise UserError(f"no notebook {str(name)!r}; choose one of {', '.join(names(folder))}")


def load(page):
    """A page ready to run: its source, without outputs, canonical. Raises UserError if the two
    files of the page say different things, for one of them would be ignored."""
    page = Path(page)
    source = page.with_suffix(".py")
    if not source.exists():
        return _inputs(_read(page))
    nb = _read_source(source)
    if page.exists() and _inputs(_read(page)) != nb:
        raise UserError(f"{source.name} and {page.name} differ; put the change into "
                        f"{source.name}, then: python -m devlib refresh {page.stem}")
    return nb


def _read(page):
    import nbformat

    try:
        return nbformat.read(page, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise UserError(f"{page} is no readable notebook ({error})") from error


def _read_source(source):
    import jupytext

    try:
        return _inputs(jupytext.read(source))
    except (OSError, ValueError) as error:
        raise UserError(f"{source} is no readable notebook ({error})") from error


def _inputs(nb):
    """The canonical page without what running it adds."""
    nb = canonical(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


# ----------------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class Parameter:
    """One parameter of a page."""

    name: str
    type: str  # int, float, bool, str, or what else its annotation says
    default: object
    help: str  # its comment

    def parse(self, text):
        """The value that a user's `text` means; `none` is one where the default is None. Raises
        UserError if it is not of the type."""
        if self.default is None and text.lower() == "none":
            return None
        try:
            if self.type == "bool":
                return {"true": True, "false": False}[text.lower()]
            value = {"int": int, "float": float, "str": str}[self.type](text)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
        except (KeyError, ValueError):
            if self.type not in WORDS:
                raise UserError(f"parameter {self.name} is of type {self.type} and cannot be set "
                                "from here; edit the notebook") from None
            raise UserError(f"parameter {self.name} takes {WORDS[self.type]}, not {text!r}"
                            ) from None
        for limit, inside in LIMITS.items():
            found = re.search(limit, self.help)
            if found and not inside(value, float(found[1])):
                raise UserError(f"parameter {self.name} takes {WORDS[self.type]} {found[0]}, not "
                                f"{text!r}")
        return value


def parameters(notebook) -> dict[str, Parameter]:
    """What a page takes, by name. Raises UserError for a definition that papermill cannot read,
    which it would leave out without a word."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    nb = load(notebook) if isinstance(notebook, str | Path) else notebook
    found = {}
    for name, facts in papermill.inspect_notebook(nb).items():
        with contextlib.suppress(ValueError, SyntaxError):  # named below
            default, kind = ast.literal_eval(facts["default"]), facts["inferred_type_name"]
            found[name] = Parameter(name, type(default).__name__ if kind == "None" else kind,
                                    default, facts["help"])
    cell = next((c.source for c in nb.cells if "parameters" in c.metadata.get("tags", [])), "")
    try:
        tree = ast.parse(cell)
    except SyntaxError as error:
        raise UserError(f"the parameters cell is no Python ({error})") from error
    defined = {node.id for node in ast.walk(tree)
               if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    if unread := sorted(defined - found.keys()):
        raise UserError(f"cannot read the definition of {', '.join(unread)} in the parameters "
                        "cell: write `name: type = literal  # comment`, with no other = sign")
    return found


def _check_scale(preset, seed):
    presets.get(preset)
    presets.check_seed(seed)


def _values(page, preset, seed, extra, known=None):
    """Everything `run` injects, checked. `extra` holds a user's strings, `known` the page's
    parameters."""
    _check_scale(preset, seed)
    known = known or parameters(page)
    if missing := [name for name in STANDARD if name not in known]:
        raise UserError(f"{Path(page).name} has no parameter {', '.join(missing)}; every page "
                        "takes preset, seed and recompute")
    values = {"preset": preset, "seed": seed, "recompute": True}
    for name, text in extra.items():
        if name in ("preset", "seed"):
            raise UserError(f"give the {name} with --{name}, not with -p")
        if name not in known:
            raise UserError(f"{Path(page).stem} has no parameter {name!r}; it takes "
                            f"{', '.join(known)}")
        values[name] = known[name].parse(text)
        _check_value(name, values[name])
    return values


def _check_value(name, value):
    """What a page's own code would refuse too, but only when it has started."""
    if name in CHOICES and value not in CHOICES[name]:
        raise UserError(f"parameter {name} takes {', '.join(filter(None, CHOICES[name]))}, not "
                        f"{value!r}")


# ------------------------------------------------------------------------------- canonical form


def canonical(nb, keep_injected=False):
    """The form in which notebooks are stored: a rerun that finds the same leaves the same bytes.

    Kept: sources, tags, `mystnb` (alternative texts), `accelerator` and outputs, neighbouring
    pieces of one stream joined. Fixed: cell ids, kernel and language. Cells that were run are
    numbered from 1. Dropped: everything else, with the cell papermill injects unless asked for.
    """
    import nbformat

    cells = [_canonical_cell(cell) for cell in nb.cells
             if keep_injected or INJECTED not in cell.metadata.get("tags", [])]
    count = 0
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index:02d}"
        if cell.get("execution_count") is not None:
            count += 1
            cell["execution_count"] = count
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = count
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python",
                          "pygments_lexer": "ipython3"},
        **{key: nb.metadata[key] for key in ("accelerator",) if key in nb.metadata}}
    return nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def _canonical_cell(cell):
    kept = {key: cell[key] for key in ("cell_type", "source", "attachments") if key in cell}
    kept["metadata"] = {key: cell.metadata[key] for key in ("tags", "mystnb")
                        if cell.metadata.get(key)}
    if cell.cell_type == "code":
        kept |= {"execution_count": cell.execution_count, "outputs": []}
        for output in cell.outputs:
            last = kept["outputs"][-1] if kept["outputs"] else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last["text"] += output.text
            else:
                kept["outputs"].append(dict(output))
    return kept


def write(nb, path):
    """Stores a notebook whole or not at all."""
    import nbformat

    write_atomic(path, (nbformat.writes(nb, indent=1).rstrip("\n") + "\n").encode())


def check(page, first_cell) -> list[str]:
    """What keeps a committed page from the contract above, in words; empty if nothing does."""
    import nbformat

    page, nb = Path(page), _read(page)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    problems = []
    if canonical(nb) != nb or page.read_text() != nbformat.writes(nb, indent=1) + "\n":
        problems.append("is not in the canonical form")
    if not page.with_suffix(".py").exists() or _inputs(nb) != _read_source(
            page.with_suffix(".py")):
        problems.append("differs from its .py")
    if not code or code[0].source != first_cell:
        problems.append("does not begin with BOOTSTRAP")
    if not code or code[-1].source != LAST_CELL:
        problems.append("does not end with LAST_CELL")
    try:
        found = parameters(_inputs(nb))
        problems += [f"has no parameter {name}: {kind}" for name, kind in STANDARD.items()
                     if name not in found or found[name].type != kind]
        problems += [f"has no comment on parameter {p.name}" for p in found.values() if not p.help]
    except (UserError, SyntaxError) as error:
        problems.append(str(error))
    for number, cell in enumerate(code, 1):
        if cell.execution_count != number:
            problems.append(f"code cell {number} was not run, or not in order")
        kinds = {output.output_type for output in cell.outputs}
        streams = {output.get("name") for output in cell.outputs}
        pictures = any(mime.startswith("image/") for output in cell.outputs
                       for mime in output.get("data", ()))
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        problems += [f"code cell {number} {what}" for what, bad in (
            ("shows an error", "error" in kinds), ("writes to stderr", "stderr" in streams),
            ("has a picture without alternative text", pictures and not alt.strip())) if bad]
    return problems


# -------------------------------------------------------------------------------------- running


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
        return reruns.run_name(self.values["preset"], self.values["seed"], self.settings)

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
        values = _values(page, preset, seed, extra or {}, known)
        settings = {key: value for key, value in values.items()
                    if key not in STANDARD and value != known[key].default}
        found.append(PageRun(page, values, settings, source, runs))
    return found


def run(name, preset="laptop", seed=0, extra=None, runs_dir=None, folder=NOTEBOOKS) -> Path:
    """Recomputes a page at a preset and seed, and returns the executed copy,
    `runs_dir/RUN/notebooks/NAME.ipynb`; the committed page stays as it is. What was run and what
    came out goes into `runs_dir/RUN/metrics.json` (devlib.reruns).

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
        nb = _execute(nb, job.page, job.out.parent, job.values, bar, DEVLIB_RUNS=str(job.runs),
                      **variables)
    except UserError as error:  # a page may fail because a claim does: what it measured counts
        reruns.record(job, time.monotonic() - begun, failed=str(error))
        raise
    write(canonical(nb, keep_injected=True), job.out)
    reruns.record(job, time.monotonic() - begun)
    return job.out


def refresh(which=(), folder=NOTEBOOKS) -> list[Path]:
    """For maintainers: makes each .ipynb anew from its .py, run with the defaults written there,
    after bringing the cells that all pages share up to date (devlib.fixed_cells). A page that
    fails keeps its old .ipynb."""
    pages = [find(name, folder) for name in which or names(folder)]
    for page in pages:
        if not page.with_suffix(".py").exists():
            raise UserError(f"{page.with_suffix('.py')} is missing; the .py is a page's source")
        settle_source(page.with_suffix(".py"))
        nb = _execute(_read_source(page.with_suffix(".py")), page, runs_directory() / "refresh")
        write(canonical(nb), page)
    return pages


def picture(page, path):
    """Saves the first picture of an executed page as a PNG file, for the README."""
    for cell in _read(page).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                write_atomic(path, base64.b64decode(output.data["image/png"]))
                return
    raise UserError(f"{page} has no picture")


def check_all(preset, seed, root=None) -> list[str]:
    """The pages of the book, after checking that all of them can be run at this preset and seed
    and that the book's sources are there."""
    _check_scale(preset, seed)
    root = Path(root or project_root())
    for part in ("_config.yml", "_toc.yml", "book"):
        if not (root / part).exists():
            raise UserError(f"{root / part} is missing; the book is built in a full checkout")
    folder = root / "notebooks"
    for name in names(folder):
        _values(find(name, folder), preset, seed, {})
    return names(folder)


def book_lock(preset, seed, runs_dir=None):
    """Holds the place of `build_copy` for this process: two builds in it would tear the pages."""
    from devlib.locks import locked

    return locked(_book(preset, seed, runs_dir))


def _book(preset, seed, runs_dir) -> Path:
    return Path(runs_dir or runs_directory()).resolve() / f"{preset}-seed{seed}" / "book"


def build_copy(preset, seed, runs_dir=None, extra=None, root=None) -> Path:
    """Recomputes every page and lays out the book's sources around them, ready for jupyter-book,
    in `runs_dir/PRESET-seedSEED/book`, which it returns. `extra` holds strings for further
    parameters, given to the pages that have them.

    The cell with the injected values is left out where they are the page's own defaults.
    """
    pages = check_all(preset, seed, root)
    root = Path(root or project_root())
    folder = root / "notebooks"
    runs_dir = Path(runs_dir or runs_directory()).resolve()
    copy = make_directory(_book(preset, seed, runs_dir))
    executed = {}  # page -> the further parameters that it was given
    for name in pages:
        known = parameters(folder / f"{name}.ipynb")
        own = {key: value for key, value in (extra or {}).items() if key in known}
        executed[run(name, preset, seed, own, runs_dir, folder)] = own
    for part in ("book", "notebooks"):
        shutil.rmtree(copy / part, ignore_errors=True)
    shutil.copytree(root / "book", copy / "book", ignore=shutil.ignore_patterns("_build"))
    for part in ("_config.yml", "_toc.yml"):
        shutil.copy(root / part, copy / part)
    (copy / "notebooks").mkdir()
    for page, own in executed.items():
        nb, known = _read(page), parameters(folder / page.name)
        for cell in nb.cells:
            if INJECTED in cell.metadata.get("tags", []) and not own and (
                    (preset, seed) == (known["preset"].default, known["seed"].default)):
                cell.metadata.tags.append("remove-cell")
        write(nb, copy / "notebooks" / page.name)
    return copy


def _execute(nb, page, failures, values=None, bar=True, **variables):
    """Runs a notebook in its own folder, by the interpreter that runs this, and returns it."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks that an interrupt leaves behind
    failed = failures / f"{page.stem}.failed.ipynb"
    bar = {"desc": page.stem, "unit": "cell"} if bar and sys.stderr.isatty() else False
    # papermill treats {} in a path as a parameter: give it a path of our own
    with tempfile.TemporaryDirectory() as folder, _environment(**variables):
        partial = Path(folder) / "partial.ipynb"
        try:
            done = papermill.execute_notebook(
                nb, partial, values or {}, kernel_name="python3", cwd=page.parent,
                progress_bar=bar, extra_arguments=["--log-level=CRITICAL"])
        except papermill.PapermillExecutionError as error:
            what = f"cell {error.exec_count} failed: {error.ename}: {error.evalue}"
        except RuntimeError as error:  # nbclient's DeadKernelError is one
            what = f"the kernel died, perhaps for want of memory ({error})"
        else:
            failed.unlink(missing_ok=True)
            return done
        make_directory(failures)
        write(canonical(_read(partial), keep_injected=True), failed)
    what = " ".join(what.split())
    raise UserError(f"{page.stem}: {what}; the notebook up to there: {failed}")


@contextlib.contextmanager
def _environment(**variables):
    """What a kernel started here finds in its environment: this library, this interpreter's
    kernel rather than a user's of the same name, inline figures, no warnings of the debugger."""
    path = [str(project_root()), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables |= {"PYTHONPATH": os.pathsep.join(path), "JUPYTER_PREFER_ENV_PATH": "1",
                  "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                  "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
