"""The code that each measurement rests on, as a digest: `python -m tests.measured_code` puts the
digests on record, once a version was raised or a change was found to leave every number as it is.

A measurement rests on the definitions where it begins (companion.measurements) and on every
function, class and constant of the library that these name, and so on. Comments, docstrings,
imports, and the file in which a definition stands are no part of the digest.
"""

import ast
import functools
import hashlib
import json
from pathlib import Path

from companion.measurements import MEASUREMENTS
from companion.places import project_root

RECORD = Path(__file__).parent / "data" / "measurements.json"
# of each package whose code counts, the folder that holds it
ROOTS = {"devlib": project_root(), "companion": project_root() / "book"}
NO_PART = {  # their names end the search: what they do is in the key already, or in no number
    "devlib.errors", "devlib.files", "devlib.locks", "companion.compute.parallel", "devlib.sealed",
    "devlib.checkpoints", "companion.packed",  # a checkpoint is known by the hash of its run
    "companion.presets", "devlib.settings",  # settings enter the key
    "companion.places", "devlib.checks:check_seed",
    "devlib.regression.train:train",  # checkpoints are stored, not measured
    "companion.curve:file_once", "companion.curve:read_rows", "companion.program",
    "companion.runs", "companion.results", "companion.measurements", "companion.provenance",
    "companion.corpus.files", "companion.corpus.hub", "companion.corpus.offline",
    "companion.corpus.text",
    "companion.corpus.toy",  # the text's hash enters that of its run
}


def digests() -> dict:
    """Of every measurement its version and the digest of its code."""
    return {name: {"version": measurement.version, "code": digest(measurement.begins)}
            for name, measurement in MEASUREMENTS.items()}


def digest(begins) -> str:
    """Sixteen hex digits that change when any definition does that these rest on."""
    forms = sorted(normal_form(node) for node in definitions(begins).values())
    return hashlib.sha256("\n".join(forms).encode()).hexdigest()[:16]


def definitions(begins) -> dict:
    """(module, name) -> syntax tree of every definition that these rest on."""
    found, waiting = {}, [tuple(place.split(":")) for place in begins]
    while waiting:
        module, name = place = waiting.pop()
        if place in found or {module, f"{module}:{name}"} & NO_PART:
            continue
        own, imported = read(module)
        if name in own:
            found[place] = own[name]
            waiting += used(module, own[name])
        elif name in imported:  # handed on from another module
            waiting.append(imported[name])
        else:
            raise LookupError(f"{module} defines no {name}")
    return found


def used(module, node):
    """The places of the library's definitions that one of them names."""
    own, imported = read(module)
    imported = imported | imports(ast.walk(node))
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            whole, name = imported.get(part.value.id, (None, None))
            if whole and name is None and part.attr in {**read(whole)[0], **read(whole)[1]}:
                yield whole, part.attr
        elif isinstance(part, ast.Name):
            place = imported.get(part.id, (module, part.id))
            if place[1] and (place[0] != module or part.id in own):
                yield place


@functools.cache
def read(module):
    """Name -> syntax tree of what a module defines, and name -> place of what it imports."""
    tree, own = ast.parse(path(module).read_text(encoding="utf-8")), {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {part.id: node for target in targets for part in ast.walk(target)
                    if isinstance(part, ast.Name)}
    return own, imports(tree.body)


def path(module) -> Path | None:
    """The file of a module of the library; None for a name that is none."""
    place = ROOTS[module.split(".")[0]].joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py")
                 if file.exists()), None)


def imports(nodes) -> dict:
    """Name -> (module, name there) of what is imported from the library; the latter is None where
    the module itself is."""
    found = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOTS:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (
                    (whole, None) if path(whole) else (node.module, alias.name))
    return found


def normal_form(node) -> str:
    """A syntax tree as text, the same in every version of Python, without docstrings and
    imports."""
    if isinstance(node, list):
        kept = [part for part in node if not isinstance(part, ast.Import | ast.ImportFrom)]
        return f"[{' '.join(map(normal_form, kept))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    kept = {name: value for name, value in fields.items()
            if value not in (None, []) and name not in ("ctx", "kind", "type_comment")}
    return f"{type(node).__name__}({' '.join(f'{k}={normal_form(v)}' for k, v in kept.items())})"


def refresh():
    """Puts the digests on record and says what that declares."""
    before, now = json.loads(RECORD.read_text()) if RECORD.exists() else {}, digests()
    for name, entry in now.items():
        old = before.get(name, entry)
        if old["version"] != entry["version"]:
            print(f"{name}: version {entry['version']}")
        elif old["code"] != entry["code"]:
            print(f"{name}: changed, and every number as before")
    RECORD.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    refresh()
