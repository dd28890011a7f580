"""devinterp 1.3.2 in a process and a virtual environment of its own, answering commands.

The environment is made on first use (.venv-bench, ignored by git) from
tests/bench/requirements-devinterp.txt, by the ordinary pip.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from devlib.errors import UserError
from devlib.files import project_root, sha256, write_atomic

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-devinterp.txt"
ENVIRONMENT = project_root() / ".venv-bench"


def environment(folder=ENVIRONMENT) -> Path:
    """Its interpreter; set up first where it is not there, or not from today's requirements.
    Raises UserError if pip cannot."""
    python, made = folder / "bin" / "python", folder / ".made-from"
    wanted = sha256(REQUIREMENTS.read_bytes()).encode()
    if python.exists() and made.exists() and made.read_bytes() == wanted:
        return python
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
           REQUIREMENTS]
    for command in ([sys.executable, "-m", "venv", folder], pip):
        if subprocess.run(command).returncode:
            raise UserError(f"cannot set up devinterp's environment in {folder}; the messages are "
                            "above, and it needs a package index")
    write_atomic(made, wanted)
    return python


class Peer:
    """`peer("steps", ...)` runs a function of devinterp_side.py and returns its answer."""

    def __enter__(self):
        path = os.pathsep.join(filter(None, [str(project_root()), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [environment(), HERE / "devinterp_side.py"], stdin=subprocess.PIPE,
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
            raise UserError(f"devinterp's process ended during {command!r}; its messages are above")
        return json.loads(line)

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=60)
