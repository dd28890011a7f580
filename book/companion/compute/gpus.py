"""A GPU for each process, where a machine has several."""

import contextlib
import os
import tempfile
from pathlib import Path

import torch

_held = []  # the lock of this process's GPU, open as long as it lives


def gpus() -> list[str]:
    """The GPUs that this process may use, in CUDA's names, without touching any; none where
    $DEVLIB_DEVICE asks for another device."""
    if (os.environ.get("DEVLIB_DEVICE") or "auto") not in ("auto", "cuda"):
        return []
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if named is None else named.split(",")[:count]


def claim_gpu(names=None, folder=None):
    """Takes one of several GPUs for this process, the first that no other process of this machine
    has claimed, by showing it that one alone ($CUDA_VISIBLE_DEVICES). Returns its name.

    The claim ends with the process, however it ends. With one GPU or none nothing happens, nor a
    second time. Where all are taken the process shares one. To be called before CUDA starts.
    """
    names = gpus() if names is None else names
    if _held or len(names) < 2:
        return None
    import fcntl  # where there are several GPUs there is Linux

    folder = Path(folder or Path(tempfile.gettempdir()) / f"devlib-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    taken = names[os.getpid() % len(names)]
    for name in names:
        lock = open(folder / name.replace("/", "-"), "w")  # noqa: SIM115 (held)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.append(lock)
            taken = name
            break
        lock.close()
    os.environ["CUDA_VISIBLE_DEVICES"] = taken
    return taken
