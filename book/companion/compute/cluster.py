"""Work on a dask cluster: named by its scheduler's address, checked before anything is sent.

A cluster is sound for devlib when every worker (1) takes one piece of work at a time, (2) has this
devlib and the same versions of what computes, and (3) sees the runs directory under the same path:
checkpoints are read from it and finished pieces filed in it, so that nothing is computed twice. A
worker that dies loses only its own piece, which another takes over. Pieces are functions of their
arguments and seeds, so that a piece done again is the same.
"""

import contextlib
import hashlib
import os
import platform
import uuid
from functools import partial
from importlib import metadata
from pathlib import Path

import devlib
from companion.compute.gpus import claim_gpu
from companion.environment import environment
from companion.places import runs_directory
from devlib.devices import one_thread
from devlib.errors import UserError
from devlib.files import make_directory

TIMEOUT = 10  # seconds to wait for the scheduler, and for a first worker
COMPUTES = ("torch", "numpy", "scipy", "pandas", "dask", "distributed", "cloudpickle")
START = "dask worker {} --nworkers auto --nthreads 1"


def stream(function, items, address):
    """(place, function(items[place])) of every item, in the order in which they end, from the
    workers of the scheduler at `address`.

    Raises UserError, before any work, if dask is missing, the scheduler is out of reach or has no
    worker, or a worker is not fit; and in mid-work if the scheduler is lost, or a piece has ended
    four workers (dask's allowed-failures). What was filed by then stays. What a piece raises is
    raised here. While all workers are away it waits for one to come back.
    """
    with _client(address) as client:
        import distributed

        check_workers(client, address)
        runs = runs_directory().resolve()
        futures = {client.submit(partial(_there, function, runs), item, pure=False): place
                   for place, item in enumerate(items)}
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                yield futures[future], _result(future, address)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be what was lost
                client.cancel(list(futures))


def check(address):
    """Raises UserError unless the cluster can take work: for a command to ask before it starts."""
    with _client(address) as client:
        check_workers(client, address)


@contextlib.contextmanager
def _client(address):
    try:
        import distributed
    except ImportError:
        raise UserError("a cluster needs dask; pip install dask distributed, in the versions of "
                        "requirements.txt, here and on every worker") from None
    from dask import config

    with config.set({"distributed.comm.timeouts.connect": f"{TIMEOUT}s",
                     "distributed.comm.retry.count": 0}):
        client = distributed.Client.__new__(distributed.Client)
        try:
            client.__init__(address, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # ValueError: not an address
            # left half made, it would close itself when it is collected, and should that happen
            # while another client starts, wait for ever for a lock that its own thread holds
            with contextlib.suppress(Exception):
                client.close(timeout=TIMEOUT)
            raise UserError(f"no dask scheduler answers at {address!r}; start one with: dask "
                            "scheduler, and name the address that it prints, such as "
                            "tcp://host:8786") from error
        try:
            yield client
        finally:
            client.close(timeout=TIMEOUT)


def check_workers(client, address):
    """Raises UserError, naming the worker, unless all are fit (see the module)."""
    start = START.format(address)
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError:
        raise UserError(f"the scheduler at {address} has no workers; start some with: {start}"
                        ) from None
    for worker, facts in client.scheduler_info(n_workers=-1)["workers"].items():
        if facts["nthreads"] != 1:
            raise UserError(f"worker {worker} takes {facts['nthreads']} pieces at a time, in "
                            f"threads, where torch needs processes; start it with: {start}")
    for worker, theirs in client.run(versions, on_error="return").items():
        if isinstance(theirs, Exception):
            raise UserError(f"worker {worker} cannot run devlib ({theirs}); install it there: pip "
                            "install -r requirements.txt, and devlib itself")
        for name, ours in versions().items():
            if theirs[name] != ours:
                raise UserError(f"worker {worker} has {name} {theirs[name]}, not {ours} as here; "
                                "install the same versions everywhere, for the same results")
    _check_directory(client)


def versions() -> dict:
    """What has to be the same everywhere for the same results: Python, the packages that compute
    or travel, and the code of devlib and of the companion, as a hash."""
    digest = hashlib.sha256()
    for room in (Path(devlib.__file__).parent, Path(__file__).parents[1]):
        for path in sorted(room.rglob("*.py")):
            digest.update(path.read_bytes())
    return {"Python": platform.python_version(), "devlib": digest.hexdigest()[:12],
            **{name: metadata.version(name).partition("+")[0] for name in COMPUTES}}


def _check_directory(client):
    """Every worker has to find, in the runs directory, a file that was just written here."""
    runs = make_directory(runs_directory()).resolve()
    proof = runs / f".cluster-{uuid.uuid4().hex}"
    proof.touch()
    try:
        found = client.run(_sees, proof)
    finally:
        proof.unlink(missing_ok=True)
    for worker, yes in found.items():
        if not yes:
            raise UserError(f"worker {worker} cannot see, or not write, {runs}; name a directory "
                            "that all machines share, with --runs or the variable DEVLIB_RUNS")


def _sees(proof) -> bool:
    return proof.exists() and os.access(proof.parent, os.W_OK)


def _there(function, runs, item):
    """On a worker: one thread, a GPU of its own where there are several, files in the runs
    directory of whoever asked, and no cluster or processes below this one."""
    claim_gpu()
    with one_thread(), environment(DEVLIB_RUNS=str(runs), DEVLIB_CLUSTER=None,
                                   LOKY_MAX_CPU_COUNT="1"):
        return function(item)


def _result(future, address):
    import distributed

    try:
        return future.result()
    except distributed.KilledWorker as error:
        raise UserError(f"a piece of work ended the worker of {address} that took it, time after "
                        f"time ({error.allowed_failures + 1}), perhaps for want of memory; the "
                        "workers' logs say more. The same command goes on where it was") from error
    except (distributed.client.FutureCancelledError, distributed.comm.CommClosedError) as error:
        raise UserError(f"lost the scheduler at {address}; start it again, and the same command "
                        "goes on where it was") from error
