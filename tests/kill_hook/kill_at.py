"""Kill -9 at the n-th time that a file is at a moment of its being written.

The moments: "before" its temporary file is made, "written" but not renamed, "renamed", "opened"
for writing in place. They are counted over all processes of a command, and all of them die.
"""

import builtins
import fnmatch
import io
import json
import os
import signal
import tempfile


def install():
    """Arms this process, as $KILL_AT says: moment, pattern of the path, number, file that counts.
    The first process to be armed is the command's own."""
    moment, pattern, number, counter = json.loads(os.environ["KILL_AT"])
    os.environ.setdefault("KILL_ROOT", str(os.getpid()))

    def passing(here, path):
        if here == moment and fnmatch.fnmatch(os.fspath(path), pattern):
            with real_open(counter, "ab", buffering=0) as file:
                file.write(b".")
                if file.tell() >= number:
                    kill_all()

    mkstemp, replace, real_open = tempfile.mkstemp, os.replace, builtins.open

    def begun(*args, **kwargs):
        if kwargs.get("dir") and kwargs.get("prefix"):
            passing("before", os.path.join(kwargs["dir"], kwargs["prefix"].strip(".")))
        return mkstemp(*args, **kwargs)

    def replaced(source, target, **kwargs):
        passing("written", target)
        replace(source, target, **kwargs)
        passing("renamed", target)

    def opened(file, mode="r", *args, **kwargs):
        if "w" in mode and isinstance(file, str | os.PathLike):
            passing("opened", file)
        return real_open(file, mode, *args, **kwargs)

    tempfile.mkstemp, os.replace = begun, replaced
    builtins.open = io.open = opened


def kill_all():
    """The command first, so that it cannot clean up after its children, this process last."""
    import psutil

    root = psutil.Process(int(os.environ["KILL_ROOT"]))
    family = [root, *root.children(recursive=True)]
    for process in family:
        if process.pid != os.getpid():
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
