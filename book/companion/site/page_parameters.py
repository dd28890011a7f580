"""What a page of the book takes: the parameters that its source defines, and a user's values for
them, checked before anything runs."""

import ast
import contextlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from companion import presets
from companion.site.bounds import BOUNDS, WORDS, Bound
from companion.site.notebooks import load
from devlib.checks import check_seed
from devlib.errors import UserError

STANDARD = ("preset", "seed", "recompute")  # what every page takes


@dataclass(frozen=True)
class Parameter:
    """One parameter of a page."""

    name: str
    type: str  # int, float, bool, str, or what else its annotation says
    default: object
    help: str  # its comment

    def parse(self, text):
        """The value that a user's `text` means; `none` is one where the default is None. Raises
        UserError if it is not of the type, or out of its bounds (companion.site.bounds)."""
        if self.default is None and text.lower() == "none":
            return None
        if self.type not in WORDS:
            raise UserError(f"parameter {self.name} is of type {self.type} and cannot be set "
                            "from here; edit the notebook")
        try:
            value = TYPES[self.type](text)
        except (KeyError, ValueError):
            raise UserError(f"parameter {self.name} takes {WORDS[self.type]}, not {text!r}"
                            ) from None
        bound = BOUNDS.get(self.name, Bound(self.type))
        if not bound.allows(value):
            raise UserError(f"parameter {self.name} takes {bound.message}, not {text!r}")
        return value


def _finite(text):
    if not math.isfinite(value := float(text)):
        raise ValueError
    return value


TYPES = {"int": int, "float": _finite, "str": str,
         "bool": lambda text: {"true": True, "false": False}[text.lower()]}


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


def check_scale(preset, seed):
    """Raises UserError for a preset or a seed that no page takes."""
    presets.get(preset)
    check_seed(seed)


def values_of(page, preset, seed, extra, known=None) -> dict:
    """Everything that a run of a page injects, checked: `extra` holds a user's strings, `known`
    the page's parameters. Raises UserError for a name, a type or a value that it does not take."""
    check_scale(preset, seed)
    known = known or parameters(page)
    if missing := [name for name in STANDARD if name not in known]:
        raise UserError(f"{Path(page).name} has no parameter {', '.join(missing)}; every page "
                        "takes preset, seed and recompute")
    found = {"preset": preset, "seed": seed, "recompute": True}
    for name, text in extra.items():
        if name in ("preset", "seed"):
            raise UserError(f"give the {name} with --{name}, not with -p")
        if name not in known:
            raise UserError(f"{Path(page).stem} has no parameter {name!r}; it takes "
                            f"{', '.join(known)}")
        found[name] = known[name].parse(text)
    return found
