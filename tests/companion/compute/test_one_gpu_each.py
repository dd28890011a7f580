"""Where a machine has several GPUs, each process takes one."""

import os
import time

import torch

from companion.compute import gpus as of_processes
from companion.compute import parallel
from companion.compute.gpus import claim_gpu, gpus


def test_the_gpus_that_a_process_may_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.setenv("DEVLIB_DEVICE", "cpu")
    assert gpus() == []


def which(wait):
    """This process and its GPU, once `wait` processes have said theirs."""
    folder, count = wait
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)
    return os.getpid(), shown


def test_one_process_a_gpu(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(of_processes.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(parallel, "gpus", lambda: ["0", "1"])
    (tmp_path / "said").mkdir()
    found = dict(parallel.each(which, 4 * [(tmp_path / "said", 2)]))
    assert sorted(found.values()) == ["0", "1"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_claim_ends_with_its_process(tmp_path, monkeypatch):
    """The first GPU is free again once the process that held it is gone."""
    def claims():
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.write(write, claim_gpu(["5", "7"], tmp_path).encode())
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(read, 9).decode()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(of_processes, "_held", [])
    assert claims() == claims() == "5"
    assert claim_gpu(["5"], tmp_path) is None  # no choice to make
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert claim_gpu(["5", "7"], tmp_path) == "5" == os.environ["CUDA_VISIBLE_DEVICES"]
    assert claim_gpu(["5", "7"], tmp_path) is None  # it has one
    monkeypatch.setattr(of_processes, "_held", kept := of_processes._held[:0])
    assert claim_gpu(["5", "7"], tmp_path) == "7" and len(kept) == 1
    monkeypatch.setattr(of_processes, "_held", [])
    assert claim_gpu(["5", "7"], tmp_path) in ("5", "7")  # all taken: one is shared
