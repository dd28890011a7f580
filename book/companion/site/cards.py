"""The provenance card of a page: what its executed notebook says of itself, ready to be drawn.

Nothing here knows of Sphinx; book/_ext/provenance.py draws a card on the page.
"""

import ast
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from companion import provenance
from companion.program import PROGRAM
from companion.site.notebooks import INJECTED
from devlib.errors import UserError

IMPLIED = ("preset", "seed", "recompute")  # what `companion run` sets without -p


@dataclass(frozen=True)
class Card:
    """One page: its name, the parameters that it was run with, and what it read."""

    name: str
    parameters: dict  # every parameter, as it was in force
    changed: dict  # those beyond preset and seed that are not the page's own
    sources: list  # of companion.provenance

    @property
    def rerun(self) -> str:
        """The command that computes the page anew, from the project's folder."""
        more = [f"-p {name} {_spell(value)}" for name, value in self.changed.items()]
        return " ".join([f"{PROGRAM} run {self.name} --preset {self.parameters['preset']} "
                         f"--seed {self.parameters['seed']}", *more])

    @property
    def runs(self) -> list[tuple[str, str]]:
        """For each model and preset that the tables belong to: "model, preset, seeds", and in
        words how far from the paper it is. Without any, the page's own preset and seed."""
        found = {}
        for source in filter(lambda source: source.get("preset"), self.sources):
            seeds, phrases = found.setdefault(
                (source["model"], source["preset"], source["words"]), ({}, {}))
            seeds[source["seed"]] = None
            phrases |= {phrase: None for phrase in source["scale"]
                        if phrase.split()[0] not in source["words"].split()}  # not said twice
        if not found:
            found[("", self.parameters["preset"], "")] = ({self.parameters["seed"]: None}, {})
        return [(", ".join(filter(None, [model, f"{preset} preset", _seeds(seeds)])),
                 "; ".join(filter(None, [words, *phrases])))
                for (model, preset, words), (seeds, phrases) in found.items()]

    @property
    def machines(self) -> dict[str, list]:
        """The sources by the machine and versions that made them."""
        found = {}
        for source in self.sources:
            machine = provenance.machine(source) or "machine not recorded"
            found.setdefault(machine, []).append(source)
        return found

    @property
    def summary(self) -> str:
        """Time, commits and processors in one line."""
        seconds = sum(sum(source.get("seconds", {}).values()) for source in self.sources)
        pieces = any(source.get("pieces") for source in self.sources)
        added = ", in part added up from pieces" * pieces
        made = [source["made with"] for source in self.sources]
        commits = list(dict.fromkeys(m["commit"] for m in made if m.get("commit")))
        processors = list(dict.fromkeys(m["processor"] for m in made if m.get("processor")))
        count = len(self.sources)
        return "; ".join(filter(None, [
            f"{count} stored {'result' if count == 1 else 'results'}",
            f"computed in {seconds / 60:,.0f} minutes{added}" if seconds else "",
            f"on {', '.join(processors)}" if processors else "",
            f"by commit {', '.join(commits)}" if commits else ""]))


def read(path) -> Card:
    """The card of an executed notebook. Raises UserError if its last cell left no record."""
    path = Path(path)
    nb = json.loads(path.read_text(encoding="utf-8"))
    own, injected = _assigned(nb, "parameters"), _assigned(nb, INJECTED)
    outputs = [output for cell in nb["cells"] for output in cell.get("outputs", [])]
    records = [output["metadata"][provenance.KEY]["sources"] for output in outputs
               if provenance.KEY in output.get("metadata", {})]
    if not records or not {"preset", "seed"} <= own.keys():
        raise UserError(f"{path.name} does not say what it has read; "
                        f"{PROGRAM} refresh {path.stem}")
    changed = {name: value for name, value in injected.items()
               if name not in IMPLIED and value != own.get(name)}
    return Card(path.stem, own | injected, changed, records[-1])


def stale(card, root) -> list[str]:
    """The committed tables that the page was not made from: their manifest below `root` has other
    hashes than the page read, or is gone."""
    wrong = []
    for source in card.sources:
        if not source["place"].startswith("data/results/"):
            continue
        manifest = Path(root) / source["place"] / "manifest.json"
        if not manifest.exists() or json.loads(
                manifest.read_text())["tables"] != source["sha256"]:
            wrong.append(source["place"])
    return wrong


def _assigned(nb, tag):
    """The literals that the cell with a tag assigns."""
    found = {}
    for cell in nb["cells"]:
        if tag not in cell["metadata"].get("tags", []):
            continue
        for node in ast.parse("".join(cell["source"])).body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(
                node, "targets", [])
            for target in targets:
                found[target.id] = ast.literal_eval(node.value)
    return found


def _spell(value):
    return shlex.quote(str(value).lower() if isinstance(value, bool) else str(value))


def _seeds(seeds):
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
