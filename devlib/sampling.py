"""Stochastic-gradient Langevin dynamics on the localised Gibbs posterior (A.3).

    w <- w - (eps / 2) (nbeta grad L_m(w) + gamma (w - w0)) + sqrt(eps) xi,   xi ~ N(0, I)   (8)

targets, as eps -> 0 and m -> n, the density proportional to
exp(-nbeta L_n(w) - gamma / 2 |w - w0|^2). It works on any loss of the form
`loss(params, batch) -> (m,)`, one value a sample, where `params` is a dictionary of tensors and
`batch` a tuple of tensors whose first dimension is the sample:

    model = MyModel()                                   # any nn.Module
    def loss(params, batch):
        x, y = batch
        prediction = torch.func.functional_call(model, params, (x,))
        return torch.nn.functional.cross_entropy(prediction, y, reduction="none")
    params = dict(model.named_parameters())
    sampler = SGLD(eps=1e-4, nbeta=default_nbeta(128), gamma=10.0)
    draws = sample_chains(loss, params, (xs, ys), sampler, chains=4, draws=500, burn_in=100,
                          batch_size=128, seed=0)
    print(estimate_llc(draws))                          # mean, mcse, ess, rhat (devlib.llc)
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.func import grad_and_value, vmap
from tqdm import tqdm

from devlib.compiling import compiled
from devlib.errors import UserError
from devlib.parameters import Layout
from devlib.rng import generator

RANDOM_BLOCK = 2**16  # numbers drawn from one stream at a time, about
COMPILE_FROM = 2_000  # steps in all: compiling takes half a minute
VECTORISED_BELOW = 2_000  # parameters; above it a CPU is faster with one chain at a time


@dataclass(frozen=True)
class SGLD:
    """Settings of the update: step size eps, nbeta = n beta, localisation gamma.

    Other libraries: posteriors and blackjax call eps / 2 the learning rate; devinterp's update is
    this one. Raises UserError for a value outside its range.
    """

    eps: float
    nbeta: float
    gamma: float

    def __post_init__(self):
        for name, least in (("eps", "above 0"), ("nbeta", "above 0"), ("gamma", "0 or more")):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
                raise UserError(f"{name} must be {least} and finite, not {value}")

    def start(self, w):
        """The sampler's own state: none for plain SGLD."""
        return torch.zeros(0, dtype=w.dtype, device=w.device)

    def step(self, w, state, gradient, anchor, noise):
        """One update (8): w, gradient, anchor and noise (P,) -> the new w (P,) and state."""
        return sgld_step(w, gradient, anchor, noise, self), state


@dataclass(frozen=True)
class RMSpropSGLD(SGLD):
    """SGLD preconditioned by a running mean of squared gradients (Li et al., 2016).

    With v <- decay v + (1 - decay) g^2 and G = 1 / (floor + sqrt(v)), drift is multiplied by G
    and noise by sqrt(G). The term for the change of G is left out, as is usual: the bias it
    leaves is O(1 - decay). With a constant G it targets what plain SGLD targets.
    """

    decay: float = 0.99
    floor: float = 0.1

    def start(self, w):
        return torch.full_like(w, torch.nan)  # no gradient seen yet

    def step(self, w, state, gradient, anchor, noise):
        square = gradient.square()
        state = torch.where(state.isnan(), square, self.decay * state + (1 - self.decay) * square)
        scale = 1 / (self.floor + state.sqrt())
        drift = self.nbeta * gradient + self.gamma * (w - anchor)
        return w - self.eps / 2 * scale * drift + (self.eps * scale).sqrt() * noise, state


def sgld_step(w, gradient, anchor, noise, sampler: SGLD):
    """The update (8), pure. All (P,); `gradient` is that of the mean minibatch loss."""
    drift = sampler.nbeta * gradient + sampler.gamma * (w - anchor)
    return w - sampler.eps / 2 * drift + sampler.eps**0.5 * noise


@dataclass(frozen=True)
class Draws:
    """Minibatch losses along the chains, with all that an estimate needs to agree with them.

    losses[c, t] is L_m at w_t on batch t of chain c, read before the step; baseline[c, t] is the
    loss of w0 on that same batch; init_loss is the loss of w0 on the whole set. All in units of
    the loss. A chain that diverged has NaN from that draw on and stands in `diverged`.
    """

    losses: np.ndarray  # (C, T) float64
    baseline: np.ndarray  # (C, T) float64
    init_loss: float
    sampler: SGLD
    burn_in: int
    batch_size: int
    seed: int
    diverged: dict = field(default_factory=dict)  # chain -> draw

    @property
    def healthy(self) -> list[int]:
        return [chain for chain in range(len(self.losses)) if chain not in self.diverged]


class ChainDiverged(UserError):
    """A chain's loss became infinite or NaN. `draws` keeps all chains, `diverged` says where."""

    def __init__(self, draws: Draws):
        self.draws = draws
        where = ", ".join(f"chain {chain} at draw {draw}" for chain, draw in draws.diverged.items())
        super().__init__(
            f"SGLD diverged: {where}; {len(draws.healthy)} of {len(draws.losses)} chains are "
            "sound. Take a smaller eps, or a smaller nbeta or larger gamma")


def sample_chains(loss, params, data, sampler: SGLD, *, chains, draws, burn_in=0, seed=0,
                  batch_size=None, mask=None, vectorised=None, compile=None, init_losses=None,
                  on_divergence="raise", progress=False) -> Draws:
    """Runs `chains` SGLD chains of `draws` steps from `params`; burn-in counts among the draws.

    Batch t and noise t of chain k are functions of (seed, k, t) alone: a chain does not depend
    on how many run beside it, and the same seed at two checkpoints gives both the same batches
    and the same noise (A.5.2). Batches are drawn with replacement; `batch_size=None` takes the
    whole set every time. `mask` restricts the chain to some weights (Layout.indices).

    `vectorised` runs all chains in one torch.func.vmap, else one after another; None chooses by
    size and device; either gives the same draws up to rounding. `compile` passes the step through
    torch.compile; None does so where chains run one after another for long enough to pay for it. `init_losses` (n,) saves the pass
    over the whole set when it is known.

    Raises UserError for settings out of range before any work, and ChainDiverged, with the other
    chains' draws, when a loss stops being finite (`on_divergence="keep"` returns them instead).
    """
    samples = _check(params, data, chains, draws, burn_in, batch_size, on_divergence)
    if compile is None:
        compile = chains * draws >= COMPILE_FROM
    chain = Chains(loss, params, data, sampler, chains=chains, seed=seed, batch_size=batch_size,
                   mask=mask, vectorised=vectorised, compile=compile, init_losses=init_losses)
    chain.extend(draws, progress)
    result = chain.draws(burn_in, batch_size or samples)
    if result.diverged and on_divergence == "raise":
        raise ChainDiverged(result)
    return result


class Chains:
    """Chains that can be run on: `extend` takes more steps, `draws` gives all so far. An extended
    chain equals one that was never interrupted."""

    def __init__(self, loss, params, data, sampler, *, chains, seed, batch_size=None, mask=None,
                 vectorised=None, compile=True, init_losses=None):
        params = {name: p.detach() for name, p in params.items()}
        self.data, self.sampler, self.seed, self.batch_size = data, sampler, seed, batch_size
        layout = Layout.of(params)
        origin = layout.flatten(params)
        free = layout.indices(mask)
        self.free = None if free is None else free.to(origin.device)
        self.origin = origin
        self.anchor = origin if free is None else origin[self.free]
        self.size = len(self.anchor)
        if vectorised is None:
            vectorised = origin.is_cuda or self.size < VECTORISED_BELOW
        self.vectorised = vectorised
        self.step = _step_function(loss, layout, sampler, vectorised, compile and not vectorised,
                                   free is not None, batch_size is None)
        self.w = [self.anchor.clone() for _ in range(chains)]
        self.state = [sampler.start(self.anchor) for _ in range(chains)]
        if vectorised:
            self.w, self.state = torch.stack(self.w), torch.stack(self.state)
        self.init_losses = (per_sample_losses(loss, params, data) if init_losses is None
                            else init_losses)
        self.chains, self.taken = chains, 0
        self._losses = [np.zeros((chains, 0))]
        self._baseline = [np.zeros((chains, 0))]

    def extend(self, draws, progress=False):
        """Takes `draws` more steps of every chain."""
        losses = np.full((self.chains, draws), np.nan)
        baseline = np.full((self.chains, draws), np.nan)
        bar = tqdm(total=draws * self.chains, unit="step", desc="SGLD",
                   disable=None if progress else True)
        run = self._extend_together if self.vectorised else self._extend_one_by_one
        run(draws, losses, baseline, bar)
        bar.close()
        self.taken += draws
        self._losses.append(losses)
        self._baseline.append(baseline)

    def draws(self, burn_in, batch_size) -> Draws:
        losses = np.concatenate(self._losses, 1)
        bad = ~np.isfinite(losses)
        diverged = {int(chain): int(bad[chain].argmax()) for chain in np.flatnonzero(bad.any(1))}
        return Draws(losses, np.concatenate(self._baseline, 1), float(self.init_losses.mean()),
                     self.sampler, burn_in, batch_size, self.seed, diverged)

    def _extend_one_by_one(self, draws, losses, baseline, bar):
        for chain in range(self.chains):
            random = _Random(self, chain)
            for draw in range(draws):
                indices, noise = random.at(self.taken + draw)
                value, self.w[chain], self.state[chain] = self.step(
                    self.w[chain], self.state[chain], self.anchor, self.origin, self.free,
                    self._batch(indices), noise)
                value = float(value)
                if not math.isfinite(value):
                    break  # the rest of this chain stays NaN; the others go on
                losses[chain, draw] = value
                baseline[chain, draw] = self._baseline_at(indices)
                bar.update()

    def _extend_together(self, draws, losses, baseline, bar):
        randoms = [_Random(self, chain) for chain in range(self.chains)]
        values = []
        for draw in range(draws):
            pairs = [random.at(self.taken + draw) for random in randoms]
            noise = torch.stack([pair[1] for pair in pairs])
            indices = None if self.batch_size is None else torch.stack([pair[0] for pair in pairs])
            value, self.w, self.state = self.step(self.w, self.state, self.anchor, self.origin,
                                                  self.free, self._batch(indices), noise)
            values.append(value.double())
            if indices is not None:
                baseline[:, draw] = self.init_losses[indices].mean(-1).cpu()
            bar.update(self.chains)
        losses[:] = torch.stack(values, 1).cpu()
        losses[np.cumsum(~np.isfinite(losses), 1) > 0] = np.nan
        if self.batch_size is None:
            baseline[:] = self._baseline_at(None)

    def _batch(self, indices):
        return self.data if indices is None else tuple(part[indices] for part in self.data)

    def _baseline_at(self, indices):
        part = self.init_losses if indices is None else self.init_losses[indices]
        return float(part.double().mean())


class _Random:
    """Batch indices and noise of one chain, as functions of (seed, chain, draw).

    They come in blocks of a fixed length, so that small models do not spend their time starting
    generators; the length depends on the sizes alone, never on where a run began.
    """

    def __init__(self, chains: Chains, chain):
        self.chains, self.chain = chains, chain
        self.length = max(1, RANDOM_BLOCK // max(chains.size, chains.batch_size or 1))
        self.block = None

    def at(self, draw):
        block, offset = divmod(draw, self.length)
        if block != self.block:
            self.block = block
            self.indices, self.noise = self._make(block)
        return (None if self.indices is None else self.indices[offset]), self.noise[offset]

    def _make(self, block):
        chains, like = self.chains, self.chains.anchor
        gen = generator(chains.seed, "chain", self.chain, block, device=like.device)
        noise = torch.randn(self.length, chains.size, generator=gen, dtype=like.dtype,
                            device=like.device)
        if chains.batch_size is None:
            return None, noise
        indices = torch.randint(len(chains.data[0]), (self.length, chains.batch_size),
                                generator=gen, device=like.device)
        return indices, noise


@functools.lru_cache(maxsize=32)
def _step_function(loss, layout, sampler, vectorised, compile, masked, whole_set):
    """(w, state, anchor, origin, free, batch, noise) -> (loss before the step, new w, state).

    Cached, so that a curve over many checkpoints compiles once a process.
    """
    def mean_loss(w, origin, free, batch):
        flat = origin.index_put((free,), w) if masked else w
        return loss(layout.unflatten(flat), batch).mean()

    def step(w, state, anchor, origin, free, batch, noise):
        gradient, value = grad_and_value(mean_loss)(w, origin, free, batch)
        w, state = sampler.step(w, state, gradient, anchor, noise)
        return value, w, state

    if vectorised:
        step = vmap(step, in_dims=(0, 0, None, None, None, None if whole_set else 0, 0))
    return compiled(step) if compile else step


def per_sample_losses(loss, params, data, chunk=4096) -> torch.Tensor:
    """loss(params, .) of every sample of the set, (n,), without gradients, in chunks."""
    with torch.no_grad():
        parts = [loss(params, tuple(part[start:start + chunk] for part in data))
                 for start in range(0, len(data[0]), chunk)]
    return torch.cat(parts)


def _check(params, data, chains, draws, burn_in, batch_size, on_divergence) -> int:
    for name, value in (("chains", chains), ("draws", draws)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise UserError(f"{name} must be a whole number of 1 or more, not {value}")
    if burn_in < 0 or burn_in >= draws:
        raise UserError(f"burn_in must be 0 or more and below draws = {draws}, not {burn_in}")
    if not params:
        raise UserError("params is empty: give the model's parameters by name")
    lengths = {len(part) for part in data}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(f"data must be tensors of one length above 0, not of {sorted(lengths)}")
    (samples,) = lengths
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, or None, not {batch_size}")
    if on_divergence not in ("raise", "keep"):
        raise UserError(f"on_divergence must be 'raise' or 'keep', not {on_divergence!r}")
    return samples
