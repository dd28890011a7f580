"""data/claims.yaml, read and checked: what is claimed, and how near a measurement must come."""

import math
import re
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path

from companion.places import project_root
from devlib.errors import UserError

PATH = project_root() / "data" / "claims.yaml"
SIDES = ("within", "at least", "at most")
MODELS = ("LR", "LM", "one-layer LM", "toy")


@dataclass(frozen=True)
class Row:
    """One number of a claim.

    `tolerance` is a number in the row's unit, a share of the expected value ("10%"), or a factor
    ("factor 1.5", which half and double raise to the powers 1/2 and 2). `errors` is how many of
    the measurement's own standard errors are allowed besides. With side "at least" the value may
    fall short of `expected` by the tolerance, with "at most" exceed it. `seen_from` is the step
    from which a run can show it (`from` in the file), `at` what the measurement is given, `scale`
    the only preset at which a row is measured.
    """

    what: str
    expected: float
    tolerance: float | str
    side: str = "within"
    errors: float = 0.0
    seen_from: int = 0
    unit: str = ""
    scale: str | None = None
    at: dict = field(default_factory=dict)

    def bounds(self, error, scale=1.0) -> tuple[float, float]:
        """Lowest and highest value that agrees, with `scale` times the tolerance."""
        spare = scale * self.errors * error
        if isinstance(self.tolerance, str) and self.tolerance.startswith("factor"):
            factor = float(self.tolerance.split()[1]) ** scale
            low, high = self.expected / factor - spare, self.expected * factor + spare
        else:
            allowed = scale * self.allowed + spare
            low, high = self.expected - allowed, self.expected + allowed
        return (-math.inf if self.side == "at most" else low,
                math.inf if self.side == "at least" else high)

    @property
    def allowed(self) -> float:
        """The tolerance in the row's unit; not for a factor."""
        if isinstance(self.tolerance, str):
            return abs(self.expected) * float(self.tolerance.rstrip("%")) / 100
        return self.tolerance


@dataclass(frozen=True)
class Claim:
    """One claim: what is said and where, the source of the values, where the tolerance comes from
    (`basis`), the notebook that shows it, and its numbers."""

    id: str
    what: str
    where: str
    model: str
    page: str
    unit: str
    source: str
    basis: str
    rows: tuple[Row, ...]


def load_entries(path=PATH) -> tuple[Claim, ...]:
    """The claims of the file, in its order. Raises UserError, naming claim and field."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read as a list of claims ({error})") from error
    claims = tuple(_claim(number, entry) for number, entry in enumerate(found, 1))
    ids = [claim.id for claim in claims]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise UserError(f"claim {twice} is in {Path(path).name} twice")
    return claims


def _claim(number, entry) -> Claim:
    name = entry.get("id") if isinstance(entry, dict) else None
    label = f"claim {name or f'no. {number}'} of data/claims.yaml"
    names = [f.name for f in dataclass_fields(Claim)]
    _check_keys(label, entry, {*names, "from"}, names)
    if bad := [key for key in names if key != "rows" and not _text(entry[key])]:
        raise UserError(f"{label}: {bad[0]} must be text")
    if entry["model"] not in MODELS:
        raise UserError(f"{label}: model must be one of {', '.join(MODELS)}")
    if not isinstance(entry["rows"], list) or not entry["rows"]:
        raise UserError(f"{label}: rows must be a list of at least one number")
    rows = tuple(_row(f"{label}, row {i}", row, entry.get("from", 0))
                 for i, row in enumerate(entry["rows"], 1))
    if all(row.scale for row in rows):
        raise UserError(f"{label}: some row must be measured at every scale")
    return Claim(**{key: entry[key] for key in names if key != "rows"}, rows=rows)


def _row(label, row, seen_from) -> Row:
    optional = {"side", "errors", "from", "unit", "scale", "at"}
    _check_keys(label, row, {"what", "expected", "tolerance", *optional},
                ["what", "expected", "tolerance"])
    row = {"from": seen_from, **row}
    checks = {
        "what": (_text, "text"),
        "expected": (_number, "a number"),
        "tolerance": (_tolerance, "a number of 0 or more, such as 10% or factor 1.5"),
        "side": (SIDES.__contains__, f"one of {', '.join(SIDES)}"),
        "errors": (lambda value: _number(value) and value >= 0, "a number of 0 or more"),
        "from": (lambda value: isinstance(value, int) and value >= 0, "a step"),
        "unit": (_text, "text"),
        "scale": (_text, "a preset"),
        "at": (lambda value: isinstance(value, dict), "a mapping")}
    for key, value in row.items():
        fits, wanted = checks[key]
        if not fits(value):
            raise UserError(f"{label}: {key} must be {wanted}, not {value!r}")
    row["seen_from"] = row.pop("from")
    return Row(**row)


def _check_keys(label, entry, known, required):
    if not isinstance(entry, dict):
        raise UserError(f"{label} must be a mapping, not {entry!r}")
    for key in required:
        if key not in entry:
            raise UserError(f"{label} has no {key}")
    if unknown := sorted(map(str, set(entry) - set(known))):
        raise UserError(f"{label} has an unknown field {unknown[0]}")


def _text(value):
    return isinstance(value, str) and bool(value.strip())


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tolerance(value):
    if isinstance(value, str):
        return bool(re.fullmatch(r"\d+(\.\d+)?%|factor [1-9]\d*(\.\d+)?", value))
    return _number(value) and value >= 0
