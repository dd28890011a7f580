"""A dask cluster of real processes on the loopback, and what its workers are sent."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import distributed

from companion.places import project_root

HERE = Path(__file__).parent


class Cluster:
    """A scheduler, and workers of one thread without a nanny: what is killed stays dead."""

    def __init__(self, folder, **environment):
        self.folder, self.environment, self.processes = folder, environment, []
        file = folder / "scheduler.json"
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                    "--scheduler-file", file)
        with distributed.Client(scheduler_file=str(file), timeout=60, set_as_default=False):
            self.address = json.loads(file.read_text())["address"]

    def add_workers(self, count):
        for _ in range(count):
            self._start("dask_worker", self.address, "--nthreads", "1", "--no-nanny",
                        "--no-dashboard", "--local-directory", self.folder)
        with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=120)

    def alive(self) -> int:
        """Workers and scheduler that are running."""
        return sum(process.poll() is None for process in self.processes)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, module, *arguments):
        path = os.pathsep.join(map(str, (project_root(), project_root() / "book", HERE)))
        with open(self.folder / f"{module}-{len(self.processes)}.log", "w") as log:
            self.processes.append(subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *map(str, arguments)],
                stdout=log, stderr=log,
                env=os.environ | self.environment | {"PYTHONPATH": path}))


class KillsItsWorker:
    """A measurement during which the first process that takes it dies of SIGKILL."""

    def __init__(self, measure, marker):
        self.measure, self.marker = measure, marker

    def __call__(self, params):
        with contextlib.suppress(FileExistsError):
            self.marker.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.measure(params)


def surroundings(_):
    """What a piece of work finds on its worker."""
    import torch

    from companion.compute.parallel import cores
    from companion.places import runs_directory

    return (torch.get_num_threads(), cores(), str(runs_directory()),
            os.environ.get("DEVLIB_CLUSTER"), os.getpid())


def refuses(item):
    from devlib.errors import UserError

    raise UserError(f"no {item} today")
