"""The book's pages as files: find, read, store, and the form in which they are stored.

A page is two files, `NN_name.py` (jupytext py:percent, the source) and beside it `NN_name.ipynb`
(executed, committed in the canonical form). What a page has to keep to is in
companion.site.page_contract; companion.site.page_runs runs it.
"""

import base64
from pathlib import Path

from companion.places import project_root
from companion.program import PROGRAM
from devlib.errors import UserError
from devlib.files import write_atomic

NOTEBOOKS = project_root() / "notebooks"
INJECTED = "injected-parameters"  # papermill's tag


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
        return inputs(read(page))
    nb = read_source(source)
    if page.exists() and inputs(read(page)) != nb:
        raise UserError(f"{source.name} and {page.name} differ; put the change into "
                        f"{source.name}, then: {PROGRAM} refresh {page.stem}")
    return nb


def read(page):
    """An .ipynb as it is stored. Raises UserError for a file that is no notebook."""
    import nbformat

    try:
        return nbformat.read(page, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise UserError(f"{page} is no readable notebook ({error})") from error


def read_source(source):
    """A page's .py as a notebook: canonical, without outputs. Raises UserError if it is none."""
    import jupytext

    try:
        return inputs(jupytext.read(source))
    except (OSError, ValueError) as error:
        raise UserError(f"{source} is no readable notebook ({error})") from error


def inputs(nb):
    """The canonical page without what running it adds."""
    nb = canonical(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def write(nb, path):
    """Stores a notebook whole or not at all."""
    import nbformat

    write_atomic(path, (nbformat.writes(nb, indent=1).rstrip("\n") + "\n").encode())


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


def picture(page, path):
    """Saves the first picture of an executed page as a PNG file, for the README."""
    for cell in read(page).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                write_atomic(path, base64.b64decode(output.data["image/png"]))
                return
    raise UserError(f"{page} has no picture")
