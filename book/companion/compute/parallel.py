"""Independent pieces of work, over the cores of this machine, its GPUs, or a cluster's machines.

$DEVLIB_CLUSTER, or --cluster on the command line, names the scheduler of a dask cluster; without
it work stays on this machine. A result does not depend on where its piece ran.
"""

import os

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from companion.compute.cluster import stream
from companion.compute.gpus import claim_gpu, gpus
from devlib.devices import one_thread


def cores() -> int:
    """Cores this process may use: those of its affinity and container, at most
    $LOKY_MAX_CPU_COUNT, by which a sweep shares them among its cells."""
    return cpu_count()


def shares(pieces, jobs=None) -> tuple[int, int]:
    """How many of so many pieces run at once on this machine (default: one a core), and on how many
    cores each."""
    at_once = max(1, min(jobs or cores(), pieces))
    return at_once, max(1, cores() // at_once)


def each(function, items, *, jobs=None, label="", cluster=None) -> list:
    """[function(item) for item in items], with a progress bar on a terminal. Results come in the
    order of the items.

    On this machine in `jobs` processes of one torch thread each (default: one a GPU where there
    are GPUs, else one a core). With a `cluster` (default: $DEVLIB_CLUSTER), the address of a dask
    scheduler, on its workers, whatever `jobs` says (companion.compute.cluster): `function`, items
    and results travel there and back, and files lie in a runs directory that all machines share.
    """
    items = list(items)
    cluster = os.environ.get("DEVLIB_CLUSTER") if cluster is None else cluster
    if cluster and items:
        done = [None] * len(items)
        for place, result in _bar(stream(function, items, cluster), items, label):
            done[place] = result
        return done
    several = gpus()
    jobs = min(len(several) or cores() if jobs is None else jobs, len(items))
    if jobs <= 1:
        return list(_bar((_one_thread(function, item) for item in items), items, label))
    work = Parallel(jobs, return_as="generator")(
        delayed(_in_process)(function, item, several) for item in items)
    done = list(_bar(work, items, label))
    # joblib would keep the processes for the next kind of work, take what that imports and
    # compiles for a leak of memory, and start them again in mid-work
    get_reusable_executor().shutdown()
    return done


def _bar(work, items, label):
    return tqdm(work, total=len(items), desc=label, disable=None)


def _in_process(function, item, several):
    """In a process of its own: where there are several GPUs, on one of them."""
    claim_gpu(several)
    return _one_thread(function, item)


def _one_thread(function, item):
    with one_thread():
        return function(item)
