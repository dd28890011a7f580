"""Independent pieces of work, over the cores of this machine."""

import torch
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm


def cores() -> int:
    """Cores this process may use: those of its affinity and container, at most
    $LOKY_MAX_CPU_COUNT, by which a sweep shares them among its cells."""
    return cpu_count()


def each(function, items, *, jobs=None, label="") -> list:
    """[function(item) for item in items], in `jobs` processes of one torch thread each (default:
    one a core), with a progress bar on a terminal. Results come in the order of the items."""
    items = list(items)
    jobs = min(cores() if jobs is None else jobs, len(items))
    if jobs <= 1:
        work = (_one_thread(function, item) for item in items)
    else:
        work = Parallel(jobs, return_as="generator")(
            delayed(_one_thread)(function, item) for item in items)
    done = list(tqdm(work, total=len(items), desc=label, disable=None))
    if jobs > 1:
        # joblib would keep the processes for the next kind of work, take what that imports and
        # compiles for a leak of memory, and start them again in mid-work
        get_reusable_executor().shutdown()
    return done


def _one_thread(function, item):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(threads)
