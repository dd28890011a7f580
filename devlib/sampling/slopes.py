"""Whether a loss's gradient is its slope: what chains follow, and what they are measured by."""

import numpy as np
import torch

from devlib.errors import UserError
from devlib.rng import generator

STEPS = (3e-3, 1e-2, 1e-3, 3e-2, 3e-4, 1e-1, 1e-4)  # in the weights' rms; the first mostly
DIRECTIONS, TOLERANCE = 6, 0.1  # bfloat16 within a loss is off by a few per cent


def slopes_of(values, params, leaves):
    """values(params, grad=True) -> (m,) with the leaves in their places, and the gradients of the
    sum by the leaves, None where none reaches."""
    with torch.enable_grad():
        found = values({**params, **leaves}, grad=True)
        if not found.requires_grad:
            return found, [None] * len(leaves)
        return found, torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)


def check_slopes(values, params, moves):
    """Raises UserError where the gradient by the parameters that move is not the slope of
    `values(params)` -> (m,), by differences along a few directions at a point beside `params`.

    Rounding, or a kink, spoils steps of some sizes. A gradient of another function (padding_idx, a
    straight-through rounding, a detach) agrees with those of none, while they agree with one
    another. In 16 bits nothing is looked at: no chain may run there.
    """
    if any(torch.finfo(params[name].dtype).eps > torch.finfo(torch.float32).eps for name in moves):
        return
    gen = generator(0, "slopes")
    size = max(float(params[name].double().square().mean().sqrt()) for name in moves) or 1.0

    def along():
        return {name: torch.randn(params[name].shape, generator=gen).to(params[name])
                for name in moves}

    def value(direction, step):
        moved = {name: beside[name] + step * size * part for name, part in direction.items()}
        return float(values(beside | moved).double().sum())

    beside = params | {name: params[name] + size * 0.03 * part for name, part in along().items()}
    leaves = {name: beside[name].clone().requires_grad_() for name in moves}
    _, slopes = slopes_of(values, beside, leaves)
    directions, found = [along() for _ in range(DIRECTIONS)], {}
    said = np.array([sum(float((slope.double() * part[name].double()).sum())
                         for name, slope in zip(moves, slopes, strict=True) if slope is not None)
                     for part in directions])
    for step in STEPS:
        found[step] = np.array([(value(part, step) - value(part, -step)) / (2 * step * size)
                                for part in directions])
        scale = TOLERANCE * max(np.linalg.norm(said), np.linalg.norm(found[step]))
        if not np.linalg.norm(found[step] - said) > scale:  # nor where it is not finite
            return
    apart = np.diff([found[step] for step in sorted(found)], axis=0)
    if 2 * np.linalg.norm(apart, axis=1).min() < TOLERANCE * np.linalg.norm(said):
        raise UserError("the gradient is not the slope of the loss, as with padding_idx, a "
                        "straight-through rounding or a detach(): chains would follow one loss and "
                        "be measured by another. Hold such parameters, or mend the loss")
