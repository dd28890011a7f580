"""The two rooms: devlib is the science, the companion makes the book, and one way leads down."""

import ast
import subprocess
import sys
from pathlib import Path

import companion
import devlib

ROOMS = {"devlib": Path(devlib.__file__).parent, "companion": Path(companion.__file__).parent}


def imports(path):
    """What a file imports from either room, as dotted names, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ROOMS)


def test_devlib_imports_nothing_of_the_companion():
    upwards = {path.name: name for path in ROOMS["devlib"].rglob("*.py")
               for name in imports(path) if name.startswith("companion")}
    assert not upwards


def test_the_estimator_loads_little():
    """Nothing that draws, no language model's library, no smoother, and not the companion."""
    code = ("import sys, devlib.llc, devlib.sampling; "
            "print(*{name.split('.')[0] for name in sys.modules} & {'companion', 'matplotlib', "
            "'pandas', 'sklearn', 'transformer_lens'})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
