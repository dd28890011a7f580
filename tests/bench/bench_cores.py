"""An LLC curve with one process, with two, and on a dask cluster of two workers, in turns: wall
seconds, data/bench/cores.json.

The pieces are the committed checkpoints of the laptop preset, with the preset's sampler and more
draws, so that starting processes and loading what was compiled, which the times include, weigh
what they do in a published curve. The tables must be the same. Beside it, what the machine itself
gives: products of small matrices a second, by one process and by two that share nothing. What a
virtual machine calls two cores may be two threads of one. On an idle machine with two cores a
round takes about ten minutes.
"""

import contextlib
import functools
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from companion import results
from companion.compute import parallel
from companion.curve import rows
from companion.places import project_root
from companion.regression import measure_llc
from devlib.files import sha256
from tests.bench.measure import Report, peak_memory, spread
from tests.dask_cluster import Cluster

TIMES = ("companion.curve:rows", "companion.regression:measure_llc",
         "companion.compute.parallel:each", "companion.compute.cluster:stream")
PRESET, SEED = "laptop", 0
BAR = 1.8  # times as fast with two processes
DRAWS, ROUNDS = 2_000, 2
PROCESSES = (1, 2)
CLUSTER = "cluster"  # of as many workers as there are processes at most
WIDTH, SECONDS, SETTLE = 256, 10, 10  # of a product; of a count of them; until its process is up


def main(draws=DRAWS, rounds=ROUNDS, pieces=None, **where):
    """`pieces`: the first so many checkpoints of those there are."""
    report = Report("cores", TIMES, **where)
    measure(1, 2, 1)  # leaves the compiled step on disk for all that follow
    found = {way: [] for way in (*PROCESSES, CLUSTER)}
    rates = {jobs: [] for jobs in PROCESSES}
    for _ in range(rounds):
        for jobs in PROCESSES:
            rates[jobs].append(machine(jobs))
            found[jobs].append(measure(jobs, draws, pieces))
        with cluster(PROCESSES[-1]) as address:
            found[CLUSTER].append(measure(1, draws, pieces, DEVLIB_CLUSTER=address))
    if len({one["table"] for part in found.values() for one in part}) > 1:
        raise SystemExit("bench cores: the tables of one process and of two differ")
    seconds = {way: [one["seconds"] for one in part] for way, part in found.items()}
    llc = results.regression_settings(PRESET).llc
    facts = {"seconds": {way: spread(taken) for way, taken in seconds.items()},
             "times as fast": {way: spread(list(map(operator.truediv, seconds[1], seconds[way])))
                               | {"bar": BAR} for way in (PROCESSES[-1], CLUSTER)},
             "machine times as fast": spread(list(map(operator.truediv, rates[2], rates[1]))),
             "peak MB of one process": max(one["MB"] for one in found[1]),
             "checkpoints": found[1][0]["checkpoints"], "chains": llc.chains, "draws": draws,
             "batch": llc.batch, "preset": PRESET, "cores": parallel.cores()}
    report.store(facts)
    for way, ratio in facts["times as fast"].items():
        print(f"{way}: {ratio['median']:.2f} times as fast (bar {BAR}); the machine itself: "
              f"{facts['machine times as fast']['median']:.2f}")


@contextlib.contextmanager
def cluster(workers):
    """The address of a dask scheduler on this machine that has so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        made = Cluster(Path(folder), OMP_NUM_THREADS="1")
        try:
            made.add_workers(workers)
            yield made.address
        finally:
            made.stop()


def machine(jobs) -> float:
    """Products a second of that many processes together."""
    begin = time.time() + SETTLE
    code = f"from tests.bench.bench_cores import products; products({begin})"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=project_root(), text=True,
                                stdout=subprocess.PIPE) for _ in range(jobs)]
    return sum(float(process.communicate()[0]) for process in running) / SECONDS


def products(begin):
    """Prints how many products this process makes in `SECONDS` from a moment on."""
    torch.set_num_threads(1)
    factor, count = torch.ones(WIDTH, WIDTH), 0
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + SECONDS:
        factor @ factor
        count += 1
    print(count)


def measure(jobs, draws, pieces, **environment) -> dict:
    """What `curve` prints, in a Python of its own, so that nothing is warm."""
    code = f"from tests.bench.bench_cores import curve; curve({jobs}, {draws}, {pieces})"
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=project_root(), check=True,
                                     capture_output=True, text=True,
                                     env=os.environ | environment).stdout)


def curve(jobs, draws, pieces):
    """The curve in `jobs` processes: wall seconds, a digest of its table, and peak memory."""
    settings = results.regression_settings(PRESET)
    settings = replace(settings, llc=replace(settings.llc, draws=draws,
                                             burn_in=min(settings.llc.burn_in, draws // 2)))
    store = results.committed_checkpoints(PRESET, SEED)
    steps = store.steps[:pieces]
    with tempfile.TemporaryDirectory() as folder:
        measure = functools.partial(measure_llc, settings, SEED, True)
        begun = time.perf_counter()
        table = rows(measure, store, steps, Path(folder), {}, "cores", jobs)
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "table": sha256(table.to_csv().encode()),
                      "checkpoints": len(steps), "MB": peak_memory()}))


if __name__ == "__main__":
    main()
