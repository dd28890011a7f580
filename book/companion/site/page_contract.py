"""What a committed page of the book has to keep to.

Its first code cell and its last one are those of every page (companion.site.fixed_cells); a cell
tagged `parameters` holds at least `preset`, `seed` and `recompute`, each annotated and commented;
the stored outputs come from one run in order, without an error, and every picture has words for
those who cannot see it.
"""

from pathlib import Path

from companion.site.bounds import BOUNDS
from companion.site.fixed_cells import TAIL, head
from companion.site.notebooks import canonical, inputs, read, read_source
from companion.site.page_parameters import STANDARD, parameters
from devlib.errors import UserError


def check(page, root=None) -> list[str]:
    """What keeps a committed page from the contract above, in words; empty if nothing does. `root`
    holds the _config.yml whose address the head of the page has."""
    import nbformat

    page, nb = Path(page), read(page)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    problems = []
    if canonical(nb) != nb or page.read_text() != nbformat.writes(nb, indent=1) + "\n":
        problems.append("is not in the canonical form")
    if not page.with_suffix(".py").exists() or inputs(nb) != read_source(
            page.with_suffix(".py")):
        problems.append("differs from its .py")
    if not code or code[0].source != head(root):
        problems.append("does not begin with the head of every page")
    if not code or code[-1].source != TAIL:
        problems.append("does not end with the tail of every page")
    try:
        found = parameters(inputs(nb))
        problems += [f"has no parameter {name}: {BOUNDS[name].type}" for name in STANDARD
                     if name not in found or found[name].type != BOUNDS[name].type]
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
