"""Work of a step at the paper's sizes, counted: FLOP of products, bytes, operations.

Counted on the device "meta", which has shapes and no numbers, so that the steps are those that a
GPU takes: whole batches, large tiles, chains together. Bytes are what every operation reads and
writes if each goes to memory; compiling saves part of it. Only the drawing of random numbers is
measured: one thread of a CPU draws them for every device.
"""

from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from companion import presets
from devlib.fast import mean_gradient
from devlib.language import model as language_loss
from devlib.language.parameters import initial_parameters
from devlib.regression.model import build_model, per_sample_loss
from devlib.sampling import SGLD
from devlib.sampling.chains import _step_function
from devlib.sampling.model import Layout
from tests.bench.measure import Report, cpu, spread

TIMES = ("devlib.sampling:Chains", "devlib.sampling:SGLD", "devlib.fast:mean_gradient",
         "devlib.language.model:per_sample_loss", "devlib.regression.model:per_sample_loss")
META = torch.device("meta")
LR = presets.PAPER.regression
NUMBERS, ROUNDS = 2**18, 15  # random numbers at a time
FORWARD = 512, 32  # contexts of a forward pass, regression and language


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, and how many operations there are, views aside."""

    def __init__(self):
        super().__init__()
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if not func.is_view and "detach" not in func.name():
            tensors = tree_flatten((args, kwargs, found))[0]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors
                              if isinstance(t, torch.Tensor))
            self.operations += 1
        return found


def count(step, numbers, samples=1, precision="float32") -> dict:
    """The work of `step()`, one for each of `samples`, with so many random numbers before it."""
    with FlopCounterMode(display=False) as flop, Traffic() as traffic, fused_attention(), \
            mock.patch.object(torch.Tensor, "__bool__", lambda _: False):  # no complaint is true
        step()
    parts = flop.get_flop_counts()["Global"]
    attention = sum(value for name, value in parts.items() if "attention" in str(name))
    return {"products": sum(parts.values()) - attention, "attention": attention,
            "bytes": traffic.bytes, "operations": traffic.operations, "numbers": numbers,
            "samples": samples, "precision": precision}


def fused_attention():
    """Attention as a GPU's fused kernel: "meta" would take it apart."""
    def fused(q, k, v, is_causal):
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            q, k, v, None, True, 0.0, is_causal)[0]

    return mock.patch.object(language_loss.F, "scaled_dot_product_attention", fused)


def regression() -> dict:
    """Of training, of SGLD with all chains together, and of a forward pass."""
    model, task, llc = build_model(LR, 0).to(META), LR.task, LR.llc
    loss, layout = per_sample_loss(model), Layout.of(dict(model.named_parameters()))
    w = layout.flatten(dict(model.named_parameters()))

    def data(*size):
        return (torch.empty(*size, task.examples, task.task_dim, device=META),
                torch.empty(*size, task.examples, device=META))

    def mean_loss(w, batch):
        return loss(layout.unflatten(w), batch).mean()

    step = _step_function(loss, layout, SGLD(llc.eps, llc.nbeta, llc.gamma), True, False, False,
                          False, None)
    together = w.expand(llc.chains, -1)
    pairs = task.examples * (task.task_dim + 1) + task.task_dim
    return {
        "regression training step": count(
            lambda: update(mean_gradient(mean_loss, None, False), w, data(LR.training.batch)),
            LR.training.batch * pairs),
        "regression SGLD step": count(
            lambda: step(together, torch.empty(llc.chains, 0, device=META), w, w, None,
                         data(llc.chains, llc.batch), together), llc.chains * len(w)),
        "regression forward": count(
            lambda: loss(layout.unflatten(w), data(FORWARD[0])), 0, FORWARD[0])}


def language(settings) -> dict:
    """The same of a language model, with chains one after another."""
    model, kind = settings.model, f"language {settings.model.layers}-layer"
    params = {name: p.to(META) for name, p in initial_parameters(model, 0).items()}
    loss, layout = language_loss.per_sample_loss(model), Layout.of(params)
    w, llc = layout.flatten(params), settings.llc

    def mean_loss(w, batch):
        return loss(layout.unflatten(w), batch).mean()

    def tokens(contexts):
        return (torch.empty(contexts, model.context, dtype=torch.long, device=META),)

    slices = language_loss.microbatch(model.context, META)
    sgld = SGLD(llc.eps, llc.nbeta, llc.gamma)

    def chain():
        gradient, _ = mean_gradient(mean_loss, None, False)(w, tokens(llc.batch))
        return sgld.step(w, None, gradient, w, w)

    return {
        f"{kind} training step": count(
            lambda: update(mean_gradient(mean_loss, slices, False), w,
                           tokens(settings.training.batch)), 0, precision="bfloat16"),
        f"{kind} SGLD step": count(chain, len(w)),
        f"{kind} forward": count(lambda: loss(params, tokens(FORWARD[1])), 0, FORWARD[1])}


def update(gradient, w, batch):
    """Gradient, and Adam's one fused operation: it reads four vectors and writes three."""
    found, _ = gradient(w, batch)
    torch.addcmul(w, found, found)
    torch.addcmul(w, found, found)


def random_numbers(rounds) -> dict:
    """CPU nanoseconds of a normal number."""
    gen = torch.Generator().manual_seed(0)
    return spread([cpu(lambda: torch.randn(NUMBERS, generator=gen))[1] / NUMBERS * 1e9
                   for _ in range(rounds)])


def main(rounds=ROUNDS, **where):
    report = Report("work", TIMES, **where)
    work = regression() | language(presets.PAPER.language) | language(presets.PAPER.one_layer)
    report.store({"work": work, "ns a random number": random_numbers(rounds)})
    for name, part in work.items():
        print(f"{name:28} {(part['products'] + part['attention']) / part['samples'] / 1e9:10.3f} "
              f"GFLOP {part['bytes'] / part['samples'] / 1e9:8.3f} GB {part['operations']:6} "
              "operations")


if __name__ == "__main__":
    main()
