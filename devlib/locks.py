"""One process at a time at a place: the second waits, and says so.

The lock is the operating system's (flock): it goes with the process that held it, however that
ended, so that none is ever left behind. The empty file that it needs stays.
"""

import contextlib
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from devlib.files import make_directory, remove_temporaries, storing

PATIENCE = 1.0  # seconds until a wait is worth a word


@contextlib.contextmanager
def locked(folder):
    """Holds a folder (made if need be) for this process until the block ends. Within one process
    a block may hold it again. Raises UserError if the folder cannot be written."""
    folder = make_directory(folder).resolve()
    lock = FileLock(lock_path(folder), is_singleton=True)
    with storing(lock.lock_file):
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(f"devlib: another process is at work in {folder}; waiting for it to end",
                  file=sys.stderr, flush=True)
            lock.acquire()
    try:
        if lock.lock_counter == 1:
            remove_temporaries(folder)
        yield folder
    finally:
        lock.release()


def lock_path(folder) -> Path:
    """Beside the folder, so that the folder can be deleted by whoever holds it."""
    return folder.parent / f".{folder.name}.lock"
