"""Which module imports which: never in a circle, imports within functions included."""

import ast
from graphlib import TopologicalSorter

from devlib.files import project_root

LIBRARY = project_root() / "devlib"


def modules():
    """Every module of the library by its name: `devlib.models.language` and so on."""
    paths = {path: path.relative_to(LIBRARY.parent).with_suffix("").parts
             for path in LIBRARY.rglob("*.py")}
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
