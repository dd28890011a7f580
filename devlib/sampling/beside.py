"""Chains that run beside others on the same batches and noise, and show what those cannot show
alone: how far the step moves the answer, and how much there is to gain by descending."""

from dataclasses import replace

import numpy as np
import torch

from devlib.errors import UserError
from devlib.sampling.chains import Chains


class Watched(Chains):
    """Chains with two companions. They take the very draws that plain `Chains` take; beside them
    run as many chains of twice the step, each on the noise of its own chain, and chain 0 without
    noise, unless `still` is False. The cost: half as much again, and one chain more."""

    def __init__(self, *arguments, still=True, **options):
        super().__init__(*arguments, **options)
        self.doubled, self.still = Doubled(self), Still(self) if still else None

    def extend(self, draws, progress=False, **options):
        super().extend(draws, progress, **options)
        if more := (self.taken + 1) // 2 - self.doubled.taken:
            self.doubled.extend(more)
        if self.still:
            self.still.extend(draws)

    def save(self, path):
        """Refused with a UserError: the companions have no place in the file."""
        raise UserError("chains that watch their health are not kept: their companions would begin "
                        "anew. Save plain Chains, which take the same draws")

    def draws(self, burn_in=None):
        found, still = super().draws(burn_in), self.still and self.still.draws(0)
        doubled = np.full(found.losses.shape, np.nan)
        doubled[:, ::2] = self.doubled.draws(0).losses
        return replace(found, doubled=doubled,
                       descent=still and (still.losses - still.baseline)[0])


class _Beside(Chains):
    """Chains of another run's problem, not yet begun."""

    def __init__(self, run, **changes):
        self.__dict__.update(run.__dict__ | {"groups": []} | changes)
        self._begin()
        self._choose_step(run.vectorised, run.compile)


class Doubled(_Beside):
    """The chains of a run at twice its step: each of their steps covers two of the run's, takes
    the first one's batch, and as noise (xi_1 + xi_2) / sqrt(2), so that sqrt(2 eps) times it is
    what the run's two steps add. Both then stay close where the potential draws paths together,
    and the mean difference of their losses is the bias of the smaller step, to first order in it:
    a chain's mean is off by c eps + O(eps^2), and 2 c eps - c eps = c eps (Richardson). A moving
    preconditioner counts its window in steps, so that here it spans twice the time."""

    def __init__(self, run):
        super().__init__(run, sampler=replace(run.sampler, eps=2 * run.sampler.eps))

    def random(self, chains):
        return _Pairs(super().random(chains))


class Still(_Beside):
    """The update (8) without its noise, from w0, on the batches of a run's chain 0: what descent
    on the localised loss alone gains (A.7)."""

    def __init__(self, run):
        super().__init__(run, chains=1, start="w0")

    def random(self, chains):
        return _Silent(super().random(chains))


class _Pairs:
    def __init__(self, random):
        self.random = random

    def at(self, draw):
        indices, first = self.random.at(2 * draw)
        return indices, (first + self.random.at(2 * draw + 1)[1]) / 2**0.5


class _Silent:
    def __init__(self, random):
        self.random = random

    def at(self, draw):
        indices, noise = self.random.at(draw)
        return indices, torch.zeros_like(noise)
