"""What a page has read: the provenance of its numbers.

`companion.results` and the other readers of stored measurements note here each file or folder that
they hand out, so the record is what was read and not what someone thinks was. The last cell of a
page shows it: as text for a reader of the notebook, and in the output's metadata for the book's
provenance card (companion.site.cards).
"""

import json
import textwrap
from pathlib import Path

from companion import presets
from companion.places import project_root, runs_directory
from companion.scale import model_of, of_model, scale
from devlib.files import sha256

KEY = "devlib"  # of the output's metadata
NAMES = {"regression": "Regression model", "language": "Two-layer language model",
         "one_layer": "One-layer language model", None: "No model trained"}
_read: dict[str, dict] = {}  # of this process, in the order of reading


def note_tables(place, manifest):
    """Notes a folder of result tables, by its manifest."""
    settings, tables = manifest.get("settings", {}), manifest["tables"]
    model, preset = model_of(settings), presets.PRESETS.get(manifest.get("preset"))
    description = manifest.get("words") or (preset and {
        None: "", "regression": preset.description}.get(model, preset.language_description))
    _note(place, {
        "model": NAMES[model], "preset": manifest.get("preset"), "seed": manifest.get("seed"),
        "words": description or "", "scale": scale(settings, tables),
        "seconds": manifest.get("seconds", {}), "made with": manifest.get("made with", {}),
        **({"pieces": True} if manifest.get("pieces") else {}),
        "sha256": dict(tables), **_corpus(of_model(settings))})


def note_file(path, made_with=None, digest=None):
    """Notes one stored file, with what made it if that is known."""
    path = Path(path)
    _note(path, {"made with": made_with or {},
                 "sha256": {path.name: digest or sha256(path.read_bytes())}})


def noted() -> list[dict]:
    """What this process has read, each place once."""
    return list(_read.values())


def forget():
    """Empties the record, for tests."""
    _read.clear()


def show():
    """Displays the record: a page's last cell."""
    from IPython.display import display

    display({"text/plain": text(noted())}, raw=True, metadata={KEY: {"sources": noted()}})


def text(sources) -> str:
    """The record for a reader of the notebook."""
    if not sources:
        return "Nothing stored was read on this page."
    lines = ["Where the numbers of this page come from:"]
    for source in sources:
        lines.append(source["place"])
        for line in described(source):
            lines += textwrap.wrap(line, 74, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def described(source) -> list[str]:
    """One source in a few lines: scale, time and commit, machine and versions, hashes."""
    lines = [of_run(source), *source.get("scale", ())]
    made = source["made with"]
    commit = f"commit {made['commit']}" if made.get("commit") else ""
    lines += ["; ".join(filter(None, [spent(source), commit])), machine(source), hashes(source)]
    return [line for line in lines if line]


def of_run(source) -> str:
    """Model, preset and seed in words."""
    if source.get("preset") is None:
        return ""
    description = f": {source['words']}" if source["words"] else ""
    return f"{source['model']}, {source['preset']} preset, seed {source['seed']}{description}"


def spent(source) -> str:
    """The minutes of each part. Those of tables whose rows were measured apart, beside other work
    or on several machines, are added up from the rows: the manifest says "pieces"."""
    parts = ", ".join(f"{part} {seconds / 60:.1f} min"
                      for part, seconds in source.get("seconds", {}).items())
    return parts + " (added up from pieces)" * bool(parts and source.get("pieces"))


def machine(source) -> str:
    """Where it ran, and with which versions."""
    made = source["made with"]
    versions = [f"{name} {value}" for name, value in made.items()
                if value and name not in ("processor", "commit")]
    return ", ".join(filter(None, [made.get("processor"), *versions]))


def hashes(source) -> str:
    """The first digits of each sha256."""
    known = [f"{name} {digest[:12]}" for name, digest in source["sha256"].items()]
    if corpus := source.get("corpus"):
        known.append(" ".join(filter(None, [f"corpus {corpus['name']}", corpus["sha256"][:12]])))
    return "sha256 " + ", ".join(known)


def _corpus(settings):
    """The text that a language model was trained on: its name and, where the streams are pinned
    (data/corpus.json), the hash of the train split."""
    name = settings.get("training", {}).get("corpus")
    if name is None:
        return {}
    pinned = {}
    if name == "offline":
        pinned = json.loads((project_root() / "data" / "corpus.json").read_text())
    split = pinned.get(str(settings["model"]["vocabulary"]), {}).get("train", {})
    return {"corpus": {"name": name, "sha256": split.get("sha256", "")}}


def _note(place, facts):
    name = _spell(place)
    _read.setdefault(name, {"place": name, **json.loads(json.dumps(facts))})


def _spell(place):
    """A place as a reader finds it: from the project's folder, or from that of the runs."""
    place = Path(place).resolve()
    for folder, name in ((runs_directory().resolve(), "runs"), (project_root(), "")):
        if place.is_relative_to(folder):
            return (Path(name) / place.relative_to(folder)).as_posix()
    return place.name
