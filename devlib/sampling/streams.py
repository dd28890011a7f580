"""The random numbers of chains, as functions of (seed, chain, draw)."""

import torch

from devlib.devices import move
from devlib.rng import generator

RANDOM_BLOCK = 2**16  # numbers drawn from one stream at a time, about
LONGEST_BLOCK = 2**10  # draws that they may last, at most


class Random:
    """Batch indices and noise of some chains, as functions of (seed, chain, draw).

    They come in blocks of a fixed length, so that small models do not spend their time starting
    generators; the length depends on the sizes alone, never on where a run began. They are drawn on
    the CPU and moved to where the chains are: the same numbers on every device.
    """

    def __init__(self, run, chains):
        self.run, self.chains = run, chains
        longest = RANDOM_BLOCK // max(run.size, run.batch_size or 1)
        self.length = min(LONGEST_BLOCK, max(1, longest))
        self.block = None

    def at(self, draw):
        """Indices (C, m), or None for the whole set, and noise (C, P) of that draw."""
        block, offset = divmod(draw, self.length)
        if block != self.block:
            self.block = block
            indices, noise = zip(*[self._make(chain, block) for chain in self.chains], strict=True)
            where = self.run.anchor.device
            self.noise = move(torch.stack(noise, 1), where)
            self.indices = (None if indices[0] is None else
                            move(torch.stack(indices, 1), where))
        return (None if self.indices is None else self.indices[offset]), self.noise[offset]

    def _make(self, chain, block):
        run = self.run
        gen = generator(run.seed, "chain", chain, block)
        noise = torch.randn(self.length, run.size, generator=gen, dtype=run.anchor.dtype)
        if run.batch_size is None:
            return None, noise
        indices = torch.randint(len(run.data[0]), (self.length, run.batch_size), generator=gen)
        return indices, noise
