"""Commands and functions that die at a chosen moment (tests/kill_hook/kill_at.py says which)."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from companion.places import project_root

HOOK = str(Path(__file__).parent / "kill_hook")


def kill_at(moment, pattern, number, counter) -> dict:
    """The environment of what is to be killed."""
    path = [HOOK, str(project_root()), str(project_root() / "book"),
            *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"KILL_AT": json.dumps([moment, pattern, number, str(counter)]),
            "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def command(arguments, moment=None, pattern=None, number=None, counter=None, **variables):
    """`python -m companion ARGUMENTS` in a process of its own, to be killed or (no moment) not."""
    own = {} if moment is None else kill_at(moment, pattern, number, counter)
    return subprocess.run([sys.executable, "-m", "companion", *map(str, arguments)],
                          env=os.environ | own | variables, capture_output=True, text=True)


def processes():
    """A context whose processes start in no time: torch is imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["companion.results", "companion.curve", "devlib.language.train",
                                    "companion.regression", "companion.corpus.hub",
                                    "torch._dynamo", "datasets"])
    return context


def run_victim(context, function, arguments, spec) -> int:
    """`function(*arguments)` in a process of its own, killed as `spec` says; its exit code."""
    process = context.Process(target=_victim, args=(function, arguments, spec))
    process.start()
    process.join(3_000)
    return process.exitcode


def in_a_process(context, function, *arguments):
    """`function(*arguments)`, text, in a process of its own that ends at once, whatever threads
    it leaves."""
    answer = context.SimpleQueue()
    process = context.Process(target=_answering, args=(function, arguments, answer))
    process.start()
    process.join(3_000)
    return None if answer.empty() else answer.get()


def _answering(function, arguments, answer):
    answer.put(function(*arguments))
    os._exit(0)


def _victim(function, arguments, spec):
    arm(*spec)
    function(*arguments)


def arm(*spec):
    """Lets this process, and those that it starts, die at that moment."""
    import torch

    os.environ.update(kill_at(*spec))
    os.environ.pop("KILL_ROOT", None)
    sys.path.insert(0, HOOK)
    import kill_at as hook

    torch.set_num_threads(1)
    hook.install()
