"""Would Metropolis accept the steps that a chain takes? A diagnostic of the step size."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.func import grad_and_value

from devlib.checks import check_count
from devlib.errors import UserError
from devlib.sampling.chains import Chains
from devlib.sampling.draws import diagnostic
from devlib.sampling.model import flat_loss, per_sample_losses
from devlib.sampling.sgld import SmoothedSGLD
from devlib.sampling.streams import Random

TARGETS = ("batch", "whole-set")


@dataclass(frozen=True)
class Acceptance:
    """Mean acceptance probability of the proposed steps, with its error; 1 is a perfect step."""

    mean: float
    mcse: float
    target: str
    probabilities: np.ndarray  # (C, T)


def mala_acceptance(run: Chains, *, draws=100, target="batch") -> Acceptance:
    """The acceptance probability of the Metropolis-adjusted Langevin algorithm (MALA; Roberts and
    Tweedie, 1996), averaged over the next `draws` steps of chains that have been run.

    A step w -> w' with scale s (1, or the preconditioner held at its value in that step) has

        U(w) = nbeta L(w) + gamma / 2 |w - w0|^2
        log a = U(w) - U(w') + (|xi|^2 - |xi'|^2) / 2
        xi' = (w - w' + eps s grad U_m(w') / 2) / sqrt(eps s),   a = min(1, exp(log a))

    where xi' is the noise that would lead back and U_m has the loss of the step's own batch.
    target="batch" takes U = U_m: what the step size alone loses. target="whole-set" takes the
    loss of all samples (two passes over the set a step): what minibatch noise loses besides.
    Nothing is rejected, and the chains stay where they are: it looks ahead on a copy, with the
    batches and noise that `extend` would use. Values well below 1 say that eps is too large.

    Raises UserError for a wrong argument, or when no chain is finite.
    """
    check_count("draws", draws)
    if isinstance(run.sampler, SmoothedSGLD):
        raise UserError("a step of SmoothedSGLD is no proposal of Metropolis: see the step bias")
    if target not in TARGETS:
        raise UserError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    finite = [chain for chain in range(run.chains) if run.w[chain].isfinite().all()]
    if not finite:
        raise UserError("every chain diverged: take a smaller eps")
    probabilities = np.array([_along_chain(run, chain, draws, target) for chain in finite])
    mcse = diagnostic("mcse", probabilities) if draws >= 8 else float("nan")
    if np.ptp(probabilities) == 0:
        mcse = 0.0
    return Acceptance(float(probabilities.mean()), mcse, target, probabilities)


def _along_chain(run, chain, draws, target):
    random, w, state = Random(run, [chain]), run.w[chain], run.state[chain]
    probabilities = []
    for draw in range(run.taken, run.taken + draws):
        indices, noise = random.at(draw)
        batch = run.batch(None if indices is None else indices[0])
        w, state, log_ratio = _proposal(run, w, state, batch, noise[0], target)
        probabilities.append(float(log_ratio.clamp(max=0).exp().nan_to_num(0.0)))
    return probabilities


def _proposal(run, w, state, batch, noise, target):
    """The chain's next position and state, and log a of the step there."""
    gradient, value = _gradient(run, w, batch)
    new, state = run.sampler.step(w, state, gradient, run.anchor, noise)
    new_gradient, new_value = _gradient(run, new, batch)
    if target == "whole-set":
        value, new_value = _whole_loss(run, w), _whole_loss(run, new)
    drift = run.sampler.nbeta * new_gradient + run.sampler.gamma * (new - run.anchor)
    step = run.sampler.eps * run.sampler.scale(state)
    back = (w - new + step / 2 * drift) / run.sampler.variance(state)**0.5
    log_ratio = (_potential(run, w, value) - _potential(run, new, new_value)
                 + (noise.double().square().sum() - back.double().square().sum()) / 2)
    return new, state, log_ratio


def _potential(run, w, value):
    distance = (w - run.anchor).double().square().sum()
    return run.sampler.potential(value.double(), distance)


def _gradient(run, w, batch):
    mean_loss = flat_loss(run.loss, run.layout, run.free is not None)
    return grad_and_value(mean_loss)(w, run.origin, run.free, batch)


def _whole_loss(run, w):
    flat = w if run.free is None else run.origin.index_put((run.free,), w)
    with torch.no_grad():
        return per_sample_losses(run.loss, run.layout.unflatten(flat), run.data).double().mean()
