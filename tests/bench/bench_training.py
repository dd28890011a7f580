"""Speed of training at the paper's sizes, on one thread of this machine.

The library's compiled update and the plain eager twin's (plain_side.py, in a process of its own)
take turns, and so do large products of matrices, the machine's rate: by oneDNN, as the
compiled update takes its own, and by torch's default. Rates are a CPU second's. Then the compiled
update under torch's profiler, by operator.
"""

import resource
import subprocess
import sys
import tempfile
import time

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from companion import presets
from companion.places import project_root
from devlib.fast import onednn
from devlib.regression.train import Trainer, train
from devlib.settings import RegressionSettings, replace
from tests.bench import measure
from tests.bench.measure import Report, in_turns, rate, spread
from tests.bench.peer import Peer

TIMES = ("devlib.regression.train:Trainer",)
BAR = 1.7  # times the plain twin's steps a second
ROUNDS, SECONDS = 15, 3.0  # of each measurement
PRODUCT = 1024  # rows and columns of the machine's product
PROFILED = 60  # updates
KINDS = {  # of an operator, by how its name begins: the first that fits
    "matrix products": ("aoti_torch_cpu_mm", "aoti_torch_cpu_addmm", "aten::mm", "aten::addmm",
                        "mkl"),
    "fused kernels": ("graph_", "cpp_fused"),
    "between kernels": ("## Call", "TorchDynamo", "Torch-Compiled", "AOTDispatcher", "Pregraph")}
OTHER = "batch, Adam, schedule"
SETTINGS = presets.PAPER.regression


def flops(settings: RegressionSettings) -> dict:
    """Floating-point operations of an update's matrix products as the library does them, twice
    the multiplications: of the linear layers, and of scores and mixing in attention.

    Each product of the forward pass has two of its size in the backward pass, one for each
    factor, except the embedding's: nothing asks for the gradient of the tokens.
    """
    model, task = settings.model, settings.task
    width, tokens, queries = model.embed_dim, 2 * task.examples - 1, task.examples
    linear = 2 * width * (task.task_dim + 1) * tokens + 3 * width * queries  # embedding, read-out
    attention = 0
    for block in range(model.layers):
        read = queries if block == model.layers - 1 else tokens  # tokens that queries stand at
        linear += 3 * (2 * width**2 * tokens  # keys and values
                       + 2 * width**2 * read  # queries and output
                       + 2 * width * model.mlp_dim * read)
        attention += 3 * 2 * width * read * tokens
    return {part: 2 * settings.training.batch * count
            for part, count in (("linear", linear), ("attention", attention))}


def by_operator(trainer, updates=PROFILED) -> dict:
    """Calls an update, and the share of its time, of each kind of operator (KINDS): their own time,
    that of what they call not counted."""
    with profiler(activities=[ProfilerActivity.CPU]) as profile:
        for _ in range(updates):
            trainer.update()
    found = {kind: {"calls": 0.0, "share": 0.0} for kind in (*KINDS, OTHER)}
    whole = sum(event.self_cpu_time_total for event in profile.key_averages())
    for event in profile.key_averages():
        kind = next((kind for kind, begins in KINDS.items() if event.key.startswith(begins)), OTHER)
        found[kind]["calls"] += event.count / updates
        found[kind]["share"] += event.self_cpu_time_total / whole
    return found


def peak_memory() -> dict:
    """Peak resident memory, in MB, of a process that compiles and trains, and of the largest
    compiler that it started."""
    code = "from tests.bench.bench_training import train_a_little; train_a_little()"
    run = subprocess.run([sys.executable, "-c", code], cwd=project_root(), check=True,
                         capture_output=True, text=True)
    own, compiler = run.stdout.split()
    return {"training process": int(own), "largest compiler process": int(compiler)}


def train_a_little():
    """50 updates through `train`, checkpoints and states included; prints the two peaks."""
    settings = replace(SETTINGS, training=replace(SETTINGS.training, stop=50))
    with tempfile.TemporaryDirectory() as directory:
        train(settings, 0, directory, compile=True, save_every=0)
    print(measure.peak_memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)


def trainer(plain):
    """(the library's trainer, seconds to compile), ten updates along the run that the plain twin
    takes.

    Raises SystemExit if their losses differ: then they would not be doing the same work."""
    import torch._inductor.config as inductor

    inductor.cpp.enable_kernel_profile = True  # fused kernels by name, for `by_operator`
    ours = Trainer(SETTINGS, 0, compile=True)
    begun = time.perf_counter()
    losses = [float(ours.update())]
    compiling = time.perf_counter() - begun
    losses += [float(ours.update()) for _ in range(9)]
    for loss, other in zip(losses, plain("losses", updates=10), strict=True):
        if abs(other / loss - 1) > 1e-4:
            raise SystemExit("bench training: the plain twin's losses are others")
    return ours, compiling


def main(rounds=ROUNDS, seconds=SECONDS, **where):
    report = Report("training", TIMES, **where)
    memory = peak_memory()
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    with Peer("plain") as plain:
        ours, compiling = trainer(plain)
        work = {"devlib": ours.update, "torch": lambda: torch.mm(a, b),
                "oneDNN": onednn()(lambda: torch.mm(a, b))}
        contestants = {name: lambda function=function: rate(function, seconds)
                       for name, function in work.items()}
        rates = in_turns(contestants | {"plain": lambda: plain("rate", seconds=seconds)}, rounds)
    count = flops(SETTINGS)
    machine = {name: [2 * PRODUCT**3 * value for value in rates[name]]
               for name in ("oneDNN", "torch")}
    faster = [x / y for x, y in zip(rates["devlib"], rates["plain"], strict=True)]
    shares = [sum(count.values()) * x / y
              for x, y in zip(rates["devlib"], machine["oneDNN"], strict=True)]
    facts = {
        "steps a second": {name: spread(rates[name]) for name in ("devlib", "plain")},
        "times as fast": spread(faster) | {"bar": BAR},
        "share of the machine's rate": spread(shares),
        "GFLOP/s of the machine": {name: spread([value / 1e9 for value in values])
                                   for name, values in machine.items()},
        "by operator": by_operator(ours),
        "GFLOP of an update's products": {part: value / 1e9 for part, value in count.items()},
        "seconds to compile": compiling,
        "peak MB": memory}
    report.store(facts)
    print(f"{facts['steps a second']['devlib']['median']:.1f} steps/s, the plain twin "
          f"{facts['steps a second']['plain']['median']:.1f}: "
          f"{facts['times as fast']['median']:.2f} times as fast (bar {BAR}); "
          f"{spread(shares)['median']:.0%} of the matrix-multiply rate; "
          f"{memory['training process']} MB at most")


if __name__ == "__main__":
    main()
