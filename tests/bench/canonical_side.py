"""canonical-interp's side of the benches. Run by peer.py in its own environment, with the project's
root on PYTHONPATH; of devlib it takes presets and data, which need torch alone.
"""

import functools
import importlib.metadata
import threading
import time

import torch
from canonical_interp.slt import LLCEstimator
from safetensors.torch import load_file
from torch import nn

from companion import presets
from devlib.regression.task import fixed_set
from tests.bench.serving import serve
from tests.plain_twin import PlainTransformer

LONGEST = 2**14  # draws; a bench asks for far fewer
SETTINGS = presets.PAPER.regression


class OneInput(nn.Module):
    """The plain transformer with its two inputs in one array, as this library hands them on."""

    def __init__(self, weights):
        super().__init__()
        self.inner = PlainTransformer(SETTINGS.model, SETTINGS.task)
        self.inner.load_state_dict(load_file(weights))

    def forward(self, tokens):
        return self.inner(tokens[..., :-1], tokens[..., -1])


class Paced:
    """A loader of shuffled batches by one indexing, which gives the next one when `take` lets it:
    the chains go on as in one long call, and compile once."""

    pin_memory = persistent_workers = False
    num_workers = 0

    def __init__(self, samples, seed, batch):
        xs, ys = fixed_set(seed, "llc", samples, SETTINGS.task)
        self.tokens, self.ys, self.batch = torch.cat([xs, ys[..., None]], -1), ys, batch
        self.let, self.asked = threading.Semaphore(0), threading.Semaphore(0)

    def __iter__(self):
        while True:
            for rows in torch.randperm(len(self.ys)).split(self.batch):
                self.asked.release()
                self.let.acquire()
                yield self.tokens[rows], self.ys[rows]

    def take(self, steps) -> float:
        """CPU seconds of so many steps."""
        begun = time.process_time()
        for _ in range(steps):
            self.let.release()
            self.asked.acquire()
        return time.process_time() - begun


@functools.cache
def _chains(weights, samples, seed, batch, together) -> Paced:
    """Chains under way in a thread of their own, compiled."""
    llc, loader = SETTINGS.llc, Paced(samples, seed, batch)
    estimator = LLCEstimator(draws=LONGEST, chains=together, burnin_steps=0,
                             learning_rate=llc.eps, localization=llc.gamma, nbeta=llc.nbeta)
    threading.Thread(target=estimator.estimate_llc, daemon=True, args=(OneInput(weights), loader),
                     kwargs={"criterion_fn": nn.functional.mse_loss, "current_loss": 1.0,
                             "seed": seed, "show_progress": False}).start()
    loader.asked.acquire()
    loader.take(3)
    return loader


def steps(weights, samples, seed, batch, draws, together):
    """CPU seconds of `draws` steps of so many chains in one call, started from `weights`."""
    return {"cpu": _chains(weights, samples, seed, batch, together).take(draws)}


def versions():
    return {"canonical": importlib.metadata.version("canonical-interp")}


if __name__ == "__main__":
    serve(versions, steps)
