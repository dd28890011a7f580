"""Which module imports which: never in a circle, imports within functions included."""

import ast
from graphlib import TopologicalSorter

from companion.places import project_root

ROOMS = project_root() / "devlib", project_root() / "book" / "companion"


def modules():
    """Every module of both rooms by its name: `devlib.language.model` and so on."""
    paths = {path: path.relative_to(room.parent).with_suffix("").parts
             for room in ROOMS for path in room.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path
            for path, parts in paths.items()}


def imported(path, known):
    """The modules of the library that a file imports, wherever in it it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & known or {node.module}
    return found & known


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    graph = {name: imported(path, {*known}) for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(known)  # the imports are seen
    TopologicalSorter(graph).prepare()  # raises CycleError, which names a circle
