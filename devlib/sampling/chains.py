"""Chains of SGLD that can be run on, all at once or one after another."""

import functools
import math

import numpy as np
import torch
from torch.func import vmap
from tqdm import tqdm

from devlib.checks import check_count
from devlib.devices import is_gpu, move, to_numpy
from devlib.errors import UserError
from devlib.fast import Uncompiled, compiled, mean_gradient, recorded
from devlib.rng import generator
from devlib.sampling import kept
from devlib.sampling.burn_in import find_burn_in
from devlib.sampling.checked import check_loss, check_rounding
from devlib.sampling.draws import Draws
from devlib.sampling.given import problem_of, tensors_of
from devlib.sampling.model import (
    Layout,
    check_memory,
    check_problem,
    flat_loss,
    per_sample_losses,
)
from devlib.sampling.sgld import SGLD
from devlib.sampling.streams import Random

STARTS = ("w0", "prior")
DRAWN = "drawn"  # instead of the losses of w0: its loss on each drawn batch, and no other pass
PROBED = 512  # samples whose loss is read of a set that is not passed over
VECTORISED_BELOW = 2_000  # parameters; above it a CPU is faster with one chain at a time


class Chains:
    """Chains that can be run on: `extend` takes more steps, `draws` gives all so far, `save` and
    `load` keep them between processes. An extended chain equals one that was never interrupted.
    Arguments and errors as for `sample_chains`."""

    def __init__(self, loss, params, data, sampler, *, chains, seed=0, batch_size=None, mask=None,
                 vectorised=None, compile=True, init_losses=None, microbatch=None, start="w0",
                 by_layer=False):
        problem = problem_of(loss, params, data)
        loss, params, mask = problem.loss, problem.params, problem.mask(mask)
        _check(params, problem.data, sampler, chains, seed, batch_size, init_losses, start)
        if microbatch is not None:
            check_count("microbatch", microbatch)
        originals = params
        params = {name: p.detach() for name, p in params.items()}
        self.data, self.sampler = problem.data, sampler
        self.chains, self.seed, self.batch_size = int(chains), int(seed), batch_size
        self.microbatch = microbatch
        self.layout = Layout.of(params)
        origin = self.layout.flatten(params)
        free = self.layout.indices(mask)
        self.free = None if free is None else free.to(origin.device)
        self.origin = origin
        self.anchor = origin if free is None else origin[self.free]
        self.size = len(self.anchor)
        self.loss = loss = check_loss(loss, originals, self.data, self.layout.freed(mask))
        if isinstance(init_losses, str):  # DRAWN: no pass over the set
            few = tuple(part[:batch_size or PROBED] for part in self.data)
            self.init_losses, known = None, per_sample_losses(loss, params, few).double()
        else:
            if init_losses is None:
                init_losses = per_sample_losses(loss, params, self.data)
            known = torch.as_tensor(init_losses, device=origin.device).detach().double()
            self.init_losses = known
        if not known.isfinite().all():
            raise UserError("the loss of w0 is not finite on every sample; no chain can start")
        check_rounding(self.anchor, float(known.mean()), sampler)
        self.start, self.compile, self.by_layer = start, compile, bool(by_layer)
        self.groups = self._groups() if by_layer else []
        self._begin()
        self._choose_step(vectorised, compile)

    def _begin(self):
        """Puts the chains where they start, with nothing taken."""
        self.w = self._starts()  # (C, P)
        self.state = torch.stack([self.sampler.start(self.anchor)] * self.chains)
        self.taken = 0
        self._losses = [np.zeros((self.chains, 0))]
        self._baseline = [np.zeros((self.chains, 0))]
        self._distances = [np.zeros((self.chains, 0, 1 + len(self.groups)))]

    def random(self, chains):
        """Batch indices and noise of these chains."""
        return Random(self, chains)

    def extend(self, draws, progress=False, callback=None, every=1):
        """Takes `draws` more steps of every chain. `callback(chain, draw, params)` is called at
        every draw whose number is a multiple of `every`, with the parameters by name where its
        loss is read: before the step. It may change nothing."""
        check_count("draws", draws)
        check_count("every", every)
        self._callback, self._every = callback, every
        columns = 3 + len(self.groups)  # of float64, twice
        check_memory(f"draws = {draws}", 16 * columns * draws * self.chains)
        losses, baseline = np.full((2, self.chains, draws), np.nan)
        distances = np.full((self.chains, draws, 1 + len(self.groups)), np.nan)
        bar = tqdm(total=draws * self.chains, unit="step", desc="SGLD",
                   disable=None if progress else True)
        run = self._extend_together if self.vectorised else self._extend_one_by_one
        run(draws, losses, baseline, distances, bar)
        bar.close()
        self.taken += draws
        self._losses.append(losses)
        self._baseline.append(baseline)
        self._distances.append(distances)

    def draws(self, burn_in=None) -> Draws:
        """All draws so far; `burn_in=None` finds it from the trace."""
        losses, baseline, distances = (np.concatenate(parts, 1) for parts in
                                       (self._losses, self._baseline, self._distances))
        bad = ~np.isfinite(losses)
        losses[np.cumsum(bad, 1) > 0] = np.nan
        distances[np.isnan(losses)] = np.nan
        diverged = {int(chain): int(bad[chain].argmax()) for chain in np.flatnonzero(bad.any(1))}
        if burn_in is None:
            burn_in = find_burn_in(losses - baseline) if len(diverged) < self.chains else 0
        init_loss, se = self._init_loss(baseline)
        layers = {name: distances[..., 1 + at] for at, (name, _) in enumerate(self.groups)}
        return Draws(losses, baseline, init_loss, self.sampler, int(burn_in),
                     int(self.batch_size or len(self.data[0])), self.seed, diverged,
                     distances[..., 0], float(self.anchor.double().square().mean().sqrt()),
                     self.start, se, layers or None)

    def save(self, path):
        """Writes the chains as they stand, whole or not at all, for `load`."""
        kept.save(self, path)

    @classmethod
    def load(cls, path, loss, params, data, sampler, *, mask=None) -> "Chains":
        """The chains that `save` wrote, which go on as if they had never stopped: bit by bit, on
        the same machine. Raises UserError, before any step, for a file that is none or damaged,
        and for another model, loss, data, mask or sampler than the chains had."""
        tensors, facts = kept.read(path)
        if facts.pop("sampler") != repr(sampler):
            raise UserError(f"{path} holds chains of another sampler than {sampler!r}: give that")
        prints = facts.pop("prints")
        taken = facts.pop("taken")
        known = tensors.get("init_losses", DRAWN)
        if known is not DRAWN and len(known) != len(tensors_of(data)[0]):
            raise UserError(f"{path} holds chains of another data: of {len(known)} samples")
        run = cls(loss, params, data, sampler, mask=mask, init_losses=known, **facts)
        kept.put_back(run, path, tensors, prints)
        run.taken = taken
        return run

    def params(self, w):
        """The parameters by name of a chain at `w` (P,), those that do not move included."""
        return self.layout.unflatten(
            w if self.free is None else self.origin.index_put((self.free,), w))

    def _init_loss(self, baseline):
        """The loss of w0 and its standard error: 0 from the whole set; from the drawn batches, of
        their mean, which are independent."""
        if self.init_losses is not None:
            return float(self.init_losses.mean()), 0.0
        drawn = baseline[np.isfinite(baseline)]
        if len(drawn) < 2:
            return float(drawn.mean()) if len(drawn) else math.nan, math.nan
        return float(drawn.mean()), float(drawn.std(ddof=1) / len(drawn)**0.5)

    def _starts(self):
        """Where the chains begin, (C, P): at w0, or spread about it as the spring alone would."""
        w = self.anchor.expand(self.chains, -1).clone()
        if self.start == "w0":
            return w
        noise = torch.stack([
            torch.randn(self.size, generator=generator(self.seed, "prior start", chain),
                        dtype=w.dtype) for chain in range(self.chains)])
        return w + move(noise, w.device) / self.sampler.gamma**0.5

    def _choose_step(self, vectorised, compile):
        """Sets the step function; with vectorised=None, vmap has to prove that it can run."""
        narrow = not is_gpu(self.origin.device)

        def make(vectorised, compile=compile):
            self.vectorised = vectorised
            self.step = _step_function(self.loss, self.layout, self.sampler, vectorised,
                                       compile and not (vectorised and narrow),
                                       self.free is not None, self.batch_size is None,
                                       None if vectorised else self.microbatch)
            if vectorised and narrow:
                self.step = recorded(self.step)  # by each run anew: a loss may hold what changes
        if vectorised is not None:
            return make(bool(vectorised))
        make(not narrow or self.size < VECTORISED_BELOW, compile=False)
        if self.vectorised:
            try:
                indices, noise = self.random(range(self.chains)).at(0)
                self._step_all(indices, noise)
            except RuntimeError:  # what vmap raises for a loss that it cannot trace
                return make(False)
        make(self.vectorised)

    def _extend_one_by_one(self, draws, losses, baseline, distances, bar):
        for chain in range(self.chains):
            w, state = self.w[chain].clone(), self.state[chain].clone()
            if not w.isfinite().all():
                continue  # it diverged before
            random = self.random([chain])
            for draw in range(draws):
                indices, noise = random.at(self.taken + draw)
                indices = None if indices is None else indices[0]
                distance = self.distance(w)  # before the step, as the loss
                self._call_back(chain, self.taken + draw, w)
                value, w, state = self.step(w, state, self.anchor, self.origin, self.free,
                                            self.batch(indices), noise[0])
                value = float(value)
                if not math.isfinite(value):
                    w = torch.full_like(w, torch.nan)
                    break  # the rest of this chain stays NaN; the others go on
                losses[chain, draw] = value
                baseline[chain, draw] = float(self.baseline(indices))
                distances[chain, draw] = to_numpy(distance.double())
                bar.update()
            self.w[chain], self.state[chain] = w, state

    def _extend_together(self, draws, losses, baseline, distances, bar):
        random = self.random(range(self.chains))
        values, baselines, apart = [], [], []
        for draw in range(draws):
            indices, noise = random.at(self.taken + draw)
            apart.append(self.distance(self.w))  # before the step, as the loss
            for chain in range(self.chains if self._callback else 0):
                self._call_back(chain, self.taken + draw, self.w[chain])
            value, self.w, self.state = self._step_all(indices, noise)
            values.append(value)
            baselines.append(self.baseline(indices).expand(self.chains))
            bar.update(self.chains)
        losses[:] = to_numpy(torch.stack(values, 1).double())
        baseline[:] = to_numpy(torch.stack(baselines, 1))
        distances[:] = to_numpy(torch.stack(apart, 1).double())

    def _step_all(self, indices, noise):
        return self.step(self.w, self.state, self.anchor, self.origin, self.free,
                         self.batch(indices), noise)

    def batch(self, indices):
        """The samples at `indices` (m,) or (C, m), or the whole set."""
        return self.data if indices is None else tuple(part[indices] for part in self.data)

    def distance(self, w):
        """|w - w0|^2 of positions (..., P), (..., 1 + L): in all, and of each layer asked for."""
        square = (w - self.anchor).square()
        return torch.stack([square.sum(-1), *(square[..., part].sum(-1)
                                              for _, part in self.groups)], -1)

    def _groups(self):
        """(name, its places in the vector that moves) of each parameter that does, in part too."""
        start, groups = 0, []
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            end = start + shape.numel()
            if self.free is None:
                groups.append((name, slice(start, end)))
            elif len(part := ((self.free >= start) & (self.free < end)).nonzero()[:, 0]):
                groups.append((name, part))
            start = end
        return groups

    def _call_back(self, chain, draw, w):
        if self._callback and draw % self._every == 0 and w.isfinite().all():
            self._callback(chain, draw, self.params(w))

    def baseline(self, indices):
        """Mean loss of w0 on those samples."""
        if self.init_losses is None:
            return self._drawn_baseline(indices)
        return (self.init_losses if indices is None else self.init_losses[indices]).mean(-1)

    def _drawn_baseline(self, indices):
        params = self.layout.unflatten(self.origin)
        losses = per_sample_losses(self.loss, params, self.batch(indices.reshape(-1)))
        return losses.double().reshape(indices.shape).mean(-1)


@functools.lru_cache(maxsize=32)  # as flat_loss
def _step_function(loss, layout, sampler, vectorised, compile, masked, whole_set, microbatch):
    """(w, state, anchor, origin, free, batch, noise) -> (loss before the step, new w, state)."""
    gradient_and_loss = mean_gradient(flat_loss(loss, layout, masked), microbatch,
                                      compile and not vectorised)

    def step(w, state, anchor, origin, free, batch, noise):
        gradient, value = gradient_and_loss(w, origin, free, batch)
        w, state = sampler.step(w, state, gradient, anchor, noise)
        return value, w, state

    if vectorised:
        step = vmap(step, in_dims=(0, 0, None, None, None, None if whole_set else 0, 0))
        if compile and not isinstance(loss, Uncompiled):
            step = compiled(step)
    return step


def check_start(start, sampler):
    """Raises UserError for what is no sampler, for a start that there is not, and for the prior's
    where gamma = 0 gives none."""
    if not isinstance(sampler, SGLD):
        raise UserError(f"sampler must be an SGLD or RMSpropSGLD, not {sampler!r}")
    if start not in STARTS:
        raise UserError(f"start must be one of {', '.join(STARTS)}, not {start!r}")
    if start == "prior" and not sampler.gamma:
        raise UserError("gamma = 0 gives no prior to start from; take a gamma above 0, or "
                        "start='w0'")


def _check(params, data, sampler, chains, seed, batch_size, init_losses, start):
    """Everything that can be wrong without a look at the loss."""
    check_count("chains", chains)
    check_count("seed", seed, least=0)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    check_start(start, sampler)
    samples = check_problem(params, data)
    if isinstance(init_losses, str):
        if init_losses != DRAWN or batch_size is None:
            raise UserError(f"init_losses must be a tensor, or {DRAWN!r} where there is a "
                            f"batch_size, not {init_losses!r} with batch_size = {batch_size}")
    elif init_losses is not None and tuple(init_losses.shape) != (samples,):
        raise UserError(f"init_losses must have shape ({samples},), one loss a sample, not "
                        f"{tuple(init_losses.shape)}")
    size = sum(p.numel() * p.element_size() for p in params.values())
    check_memory(f"chains = {chains}", 2 * chains * size)
    if batch_size is not None:
        sample = sum(part[:1].numel() * part.element_size() for part in data)
        check_memory(f"batch_size = {batch_size}", batch_size * sample)
