"""Speed of training at the paper's sizes, on one thread of this machine.

The library's compiled update and the plain eager twin's (all 16 tokens, torch's own layers, plain
Adam) take turns, and so do large products of matrices, the machine's rate: by oneDNN, as the
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
from devlib.regression.model import build_model
from devlib.regression.task import training_batch
from devlib.regression.train import Trainer, train
from devlib.settings import RegressionSettings, replace
from tests.bench import measure
from tests.bench.measure import Report, in_turns, spread
from tests.plain_twin import PlainTransformer

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


class PlainTrainer:
    """The same run, as written without a thought of speed."""

    def __init__(self, settings: RegressionSettings, seed):
        self.settings, self.seed, self.step = settings, seed, 0
        training = settings.training
        self.model = PlainTransformer(settings.model, settings.task)
        self.model.load_state_dict(build_model(settings, seed).state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.max_lr,
                                          betas=(training.beta1, training.beta2))
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=training.max_lr, total_steps=training.steps,
            pct_start=training.pct_start, anneal_strategy="linear", cycle_momentum=False,
            div_factor=training.div_factor, final_div_factor=training.div_factor)

    def update(self):
        xs, ys = training_batch(self.seed, self.step, self.settings.training.batch,
                                self.settings.task)
        self.optimizer.zero_grad()
        loss = (self.model(xs, ys) - ys).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return loss.detach()


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


def rate(function, seconds):
    """Calls a CPU second, over about so many seconds."""
    begun, calls = time.process_time(), 0
    while (spent := time.process_time() - begun) < seconds:
        function()
        calls += 1
    return calls / spent


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


def trainers():
    """(library, plain twin, seconds to compile), both ten updates along the same run.

    Raises SystemExit if their losses differ: then they would not be doing the same work."""
    import torch._inductor.config as inductor

    inductor.cpp.enable_kernel_profile = True  # fused kernels by name, for `by_operator`
    ours, plain = Trainer(SETTINGS, 0, compile=True), PlainTrainer(SETTINGS, 0)
    begun = time.perf_counter()
    losses = [float(ours.update())]
    compiling = time.perf_counter() - begun
    losses += [float(ours.update()) for _ in range(9)]
    for loss in losses:
        if abs(float(plain.update()) / loss - 1) > 1e-4:
            raise SystemExit("bench training: the plain twin's losses are others")
    return ours, plain, compiling


def main(rounds=ROUNDS, seconds=SECONDS, **where):
    report = Report("training", TIMES, **where)
    memory = peak_memory()
    ours, plain, compiling = trainers()
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    work = {"devlib": ours.update, "plain": plain.update, "torch": lambda: torch.mm(a, b),
            "oneDNN": onednn()(lambda: torch.mm(a, b))}
    rates = in_turns({name: lambda function=function: rate(function, seconds)
                      for name, function in work.items()}, rounds)
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
