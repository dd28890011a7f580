"""Folders of result tables, read and verified. Reading needs no torch; `companion.results` makes
them."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from companion import presets, provenance
from companion.places import project_root
from companion.program import PROGRAM
from companion.runs import MANIFEST
from devlib.errors import UserError
from devlib.files import sha256
from devlib.sealed import read_sealed


class NoTable(KeyError):
    """Results that do not have a table."""


@dataclass(frozen=True)
class Results:
    """Tables by name, the settings that made them, and the manifest's other facts."""

    tables: dict[str, pd.DataFrame]
    manifest: dict

    def __getitem__(self, name) -> pd.DataFrame:
        if name not in self.tables:
            raise NoTable(name)
        return self.tables[name]

    @property
    def description(self) -> str:
        """What a figure says of its origin."""
        preset = presets.get(self.manifest["preset"])
        what = self.manifest.get("words") or (
            preset.language_description if self.manifest.get("about") == "language"
            else preset.description)
        changes = ", ".join(f"{name} {value:g}"
                            for name, value in self.manifest.get("changes", {}).items())
        name = f"{preset.name} preset with {changes}" if changes else f"{preset.name} preset"
        return f"{name}, seed {self.manifest['seed']}: {what}"


def load(place, identity=None) -> Results:
    """Reads a folder of tables. Raises UserError, naming the file, if one is missing or is not
    what the manifest says, or if the folder was made with other settings."""
    place = Path(place)
    try:
        manifest = read_sealed(place / MANIFEST)
        hashes = manifest["tables"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place / MANIFEST} is missing or damaged ({error}); {remedy(place)}"
                        ) from error
    if identity and any(manifest.get(key) != value for key, value in _plain(identity).items()):
        raise UserError(f"{place} was made with other settings than the preset's; delete it and "
                        "compute it again")
    tables = {}
    for name, expected in hashes:
        path = place / f"{name}.csv"
        if not path.exists() or sha256(path.read_bytes()) != expected:
            raise UserError(f"{path} is missing or not the table that its manifest describes; "
                            f"{remedy(place)}")
        try:
            tables[name] = pd.read_csv(path)
        except ValueError as error:  # of pandas' kinds, and of text that is none
            raise UserError(f"{path} is no table ({error}); {remedy(place)}") from error
    provenance.note_tables(place, manifest)
    return Results(tables, manifest)


def remedy(place) -> str:
    """What to do about a damaged file in a folder of tables."""
    if place.is_relative_to(project_root() / "data"):
        return "restore it: " + shlex.join(["git", "-C", str(place), "restore", "."])
    return (f"{PROGRAM} mend sets it aside; then run the same command again, which computes "
            "only what is missing")


def _plain(value):
    return json.loads(json.dumps(value))
