"""The two rooms: devlib is the science, the companion makes the book, and one way leads down."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import companion
import devlib
from companion.places import project_root

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


# ---------------------------------------------------------------------------------------- sizes

# What a reader of the science has before him: 4,400 lines of code, the rest docstrings, comments.
# Raised on 30 November 2026 by 185 for mistakes that gave a number without a word, and by 180 for
# saddles, interrupts, 16-bit arithmetic within a loss, draws of two regimes, and raw errors.
MOST_LINES = {"devlib": 7_295}
FILE, FUNCTION = 350, 60  # lines, at most


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("room, most", MOST_LINES.items())
def test_a_room_stays_as_small_as_it_is(room, most):
    found = sum(map(lines, ROOMS[room].rglob("*.py")))
    assert found <= most, (f"{room} has {found:,} lines, and may have {most:,}: take out as many "
                           "as you put in, or raise MOST_LINES and say why")


def test_no_file_and_no_function_is_long():
    files = [path for folder in (*ROOMS.values(), project_root() / "book" / "_ext")
             for path in folder.rglob("*.py")]
    long = [f"{path.name}: {lines(path)}" for path in files if lines(path) > FILE]
    long += [f"{path.name}, {node.name}: {node.end_lineno - node.lineno + 1}" for path in files
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.FunctionDef)
             and node.end_lineno - node.lineno + 1 > FUNCTION]
    assert not long
