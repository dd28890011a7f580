"""Writes that are whole or absent, hashes, and what made a file."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from devlib.errors import StorageError, UserError

TEMPORARY = ".part"  # how the name of a file that is being written ends
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def write_atomic(path, data: bytes):
    """Writes `data` so that `path` holds either its old content or all of the new, also after a
    kill or a power cut. Raises StorageError if the disk is full or read-only."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path):
    """The name of a temporary file that at the end, unless there is an error, replaces `path`.
    Raises UserError if there is no folder to hold it."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: {path.parent} is no folder; make it first")
    with storing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.",
                                             suffix=TEMPORARY)
        os.close(handle)
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def storing(path):
    """One clear line for a disk that takes no more: raises StorageError for its OSError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageError(f"cannot write {path} ({os.strerror(error.errno)}); make room, or name "
                           "another disk with --runs, DEVLIB_RUNS or DEVLIB_CACHE, and run the "
                           "same command again: what is finished is kept") from error


def remove_temporaries(folder):
    """Removes what writers that were killed left behind in a folder. Only for one whose writers
    all wait for the caller (devlib.locks)."""
    for path in Path(folder).glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def write_json(path, value):
    """JSON with a fixed key order, written atomically."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def settings_hash(settings: dict) -> str:
    """Twelve hex digits that change when any setting does."""
    return sha256(json.dumps(settings, sort_keys=True).encode())[:12]


def make_directory(path, how="--runs or the variable DEVLIB_RUNS") -> Path:
    """Creates a directory and proves that it can be written. Raises UserError, with `how` to name
    another one, if it cannot."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}); name another directory, "
                        f"with {how}") from error
    return path


def provenance() -> dict:
    """What made a result: commit, versions, machine."""
    return {"commit": _commit(), "python": platform.python_version(), "processor": _processor(),
            **_gpu(),
            **{name: _version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}}


def _gpu():
    devices = sys.modules.get("devlib.devices")  # torch, only where something was computed
    name = devices and devices.gpu_name()
    return {"GPU": name} if name else {}


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit():
    here = Path(__file__).resolve().parent
    run = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"],
                         capture_output=True, text=True)
    return run.stdout.strip() or None


def _processor():
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
