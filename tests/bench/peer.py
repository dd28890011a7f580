"""Other libraries, each in a process and a virtual environment of its own, answering commands.

NAME's environment is made on first use (.venv-bench-NAME, ignored by git) from
tests/bench/requirements-NAME.txt, by the ordinary pip; NAME_side.py runs in it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from companion.places import project_root
from devlib.errors import UserError
from devlib.files import sha256, write_atomic

HERE = Path(__file__).parent
PYTHONS = {"canonical": "python3.12"}  # of libraries that need a newer one than the project does
OURS = {"plain"}  # sides that this Python runs


def requirements(name) -> Path:
    """What the environment of that library is made from."""
    return HERE / f"requirements-{name}.txt"


def environment(name) -> Path:
    """Its interpreter; set up first where it is not there, or not from today's requirements.
    Raises UserError if pip cannot, or where that library's Python is missing."""
    if name in OURS:
        return Path(sys.executable)
    folder = project_root() / f".venv-bench-{name}"
    python, made = folder / "bin" / "python", folder / ".made-from"
    wanted = sha256(requirements(name).read_bytes()).encode()
    if python.exists() and made.exists() and made.read_bytes() == wanted:
        return python
    base = shutil.which(PYTHONS.get(name, sys.executable))
    if base is None:
        raise UserError(f"{name} needs a {PYTHONS[name]} on PATH")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
           requirements(name)]
    for command in ([base, "-m", "venv", folder], pip):
        if subprocess.run(command).returncode:
            raise UserError(f"cannot set up {name}'s environment in {folder}; the messages are "
                            "above, and it needs a package index")
    write_atomic(made, wanted)
    return python


class Peer:
    """`peer("steps", ...)` runs a function of NAME_side.py and returns its answer."""

    def __init__(self, name="devinterp"):
        self.name = name

    def __enter__(self):
        path = os.pathsep.join(filter(None, [str(project_root()), str(project_root() / "book"),
                                             os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [environment(self.name), HERE / f"{self.name}_side.py"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
        return self

    def __call__(self, command, **arguments):
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise UserError(f"{self.name}'s process ended during {command!r}; its messages are "
                            "above")
        return json.loads(line)

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=60)
