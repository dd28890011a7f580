"""data/claims.yaml, read and checked by data/claims.schema.json: what is claimed, how near a
measurement must come, and how large the effect is that the claim speaks of."""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

from companion.places import project_root
from devlib.errors import UserError

PATH = project_root() / "data" / "claims.yaml"
SCHEMA = project_root() / "data" / "claims.schema.json"


@dataclass(frozen=True)
class Row:
    """One number of a claim, of one of four kinds.

    `released` names values of the five released seeds (companion.claims.seeds): a further run must
    lie in their prediction interval; with `shared` they have their test contexts in common, whose
    error their spread does not show, and it is taken to be as large as ours. `expected` with
    `tolerance` is a value, and how far off agrees. `at_least` or `at_most` is a bound, of which
    `expected` says what the paper has. `between` holds two steps, of which the measured one must
    lie between. With `log` values are steps or norms, and deviations are factors.

    `effect` is the size of what the claim speaks of, in the row's unit (of `log` and `between` a
    factor): a measurement that would not notice half of it tells nothing. Rows of one `question`
    are judged together. `seen_from` is the step from which a run can show the row (`from` in the
    file), `at` what the measurement is given, `scale` where it belongs: "any"; "steps" where it
    says when something comes, or what is so by then, and needs the paper's optimiser
    (companion.scale.steps_are_the_papers); "paper" where the number owes to the paper's own text
    and batches too.
    """

    what: str
    effect: float
    released: dict | None = None
    expected: float | None = None
    tolerance: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    between: tuple | None = None
    log: bool = False
    shared: bool = False
    seen_from: int = 0
    unit: str = ""
    scale: str = "any"
    question: str = ""
    at: dict = field(default_factory=dict)

    @property
    def bound(self) -> float | None:
        """The bound of a row that has one."""
        return self.at_least if self.at_least is not None else self.at_most


@dataclass(frozen=True)
class Claim:
    """One claim: what is said and where, the source of the values, where tolerances come from
    (`basis`), the notebook that shows it, what it needs (`tables`, the first of which decides
    which run is taken; `seeds`, so many runs; `scale`, the least at which all of it shows), and
    its numbers."""

    id: str
    what: str
    where: str
    model: str
    page: str
    unit: str
    source: str
    basis: str
    needs: dict
    rows: tuple[Row, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        """The kinds of tables that it reads."""
        return tuple(self.needs["tables"])


def load_entries(path=PATH) -> tuple[Claim, ...]:
    """The claims of the file, in its order. Raises UserError, naming claim, row and field."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read as a list of claims ({error})") from error
    for number, entry in enumerate(found, 1):
        _check(number, entry)
    claims = tuple(_claim(entry) for entry in found)
    ids = [claim.id for claim in claims]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise UserError(f"claim {twice} is in {Path(path).name} twice")
    return claims


def _claim(entry) -> Claim:
    begin = entry.get("from", 0)
    rows = tuple(_row({"from": begin, **row}) for row in entry["rows"])
    return Claim(**{key: value for key, value in entry.items() if key not in ("from", "rows")},
                 rows=rows)


def _row(row) -> Row:
    between = row.get("between")
    return Row(**{key: value for key, value in row.items() if key not in ("from", "between")},
               seen_from=row["from"], between=tuple(between) if between else None)


def _check(number, entry):
    """Refuses an entry that is not as the schema says, by its id and the place in it."""
    name = entry.get("id") if isinstance(entry, dict) else None
    label = f"claim {name or f'no. {number}'} of data/claims.yaml"
    errors = list(_validator().iter_errors(entry))
    if errors:
        worst = min(errors, key=lambda error: [str(part) for part in error.absolute_path])
        where = ", ".join(f"row {part + 1}" if isinstance(part, int) else part
                          for part in worst.absolute_path if part != "rows")
        raise UserError(f"{label}{', ' + where if where else ''}: {_said(worst)}")


def _said(error):
    """What is wrong, in a line."""
    if error.validator in ("oneOf", "not"):
        return ("a row has one of released, expected with tolerance, at_least, at_most or "
                "between, and each an effect")
    return error.message.replace("\n", " ")[:200]


@functools.cache
def _validator():
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
