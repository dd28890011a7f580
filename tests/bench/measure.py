"""How every bench measures: in turns, on one thread, in CPU seconds, with the load beside it.

Other work on the machine then troubles all contestants alike, and CPU seconds do not count the
time spent waiting for a core (shared caches and memory they do count).
"""

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

from companion.places import project_root
from devlib.files import make_directory, provenance, write_json
from tests import measured_code

DATA = project_root() / "data" / "bench"
RECORD = project_root() / "tests" / "data" / "benches.json"


def cpu(work):
    """What `work()` returns, and the CPU seconds of this process that it took."""
    begun = time.process_time()
    value = work()
    return value, time.process_time() - begun


def rate(function, seconds):
    """Calls a CPU second, over about so many seconds."""
    begun, calls = time.process_time(), 0
    while (spent := time.process_time() - begun) < seconds:
        function()
        calls += 1
    return calls / spent


def in_turns(contestants: dict, rounds) -> dict[str, list[float]]:
    """Each contestant's measurements, `rounds` of them. A contestant measures itself when called
    and returns a number. All go once a round, the first one moving to the end each time; a round
    before the first warms up and does not count."""
    names = list(contestants)
    taken = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names:
            value = contestants[name]()
            if turn >= 0:
                taken[name].append(value)
        names.append(names.pop(0))
    return taken


def spread(values) -> dict:
    """Median, extremes and count of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "rounds": len(values)}


def peak_memory() -> int:
    """The most memory, in MB, that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts the process that this one was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


class Report:
    """Results of one bench: `store` writes data/bench/NAME.json whole or not at all, with what
    made it and the load average at both ends, and puts on `record` a digest of the library's code
    that it times ("module:name" of where that begins)."""

    def __init__(self, name, times, directory=DATA):
        torch.set_num_threads(1)
        self.name, self.directory = name, make_directory(directory)
        self.code = measured_code.digest(times)
        self.record = RECORD if self.directory == DATA else self.directory / RECORD.name
        self.before = os.getloadavg()[0]

    def store(self, facts: dict, **versions):
        """Numbers are kept to six digits."""
        whole = {"made with": provenance() | versions, "cpus": os.cpu_count(), "threads": 1,
                 "load average": {"before": self.before, "after": os.getloadavg()[0]},
                 "date": time.strftime("%Y-%m-%d", time.gmtime()), **facts}
        write_json(self.directory / f"{self.name}.json", rounded(whole))
        put_on_record(self.name, self.code, self.record)


def put_on_record(name, code, record=RECORD):
    """Notes the digest of the code that a bench's stored figures are of. Not in their own files:
    pages print those files' hashes, and would change where no figure does."""
    known = json.loads(record.read_text()) if record.exists() else {}
    write_json(record, known | {name: code})


def rounded(value):
    """The same structure with floats of six digits."""
    if isinstance(value, dict):
        return {str(key): rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
