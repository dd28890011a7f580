"""Volumes of sets of low loss (A.1), by quadrature, and the means that follow from them."""

import itertools
import math

import numpy as np
import torch

from companion.known.potentials import FIGURE_2, Monomial
from devlib.errors import UserError

RADIUS = 0.5  # of the ball B around w0: the fourth potential's line of minima lies outside it
LEVELS = np.logspace(-16, 0, 129)  # eps of the volumes


def volume_potentials():
    """The four of Fig. 2, and one of multiplicity 2."""
    return (*FIGURE_2, Monomial("multiplicity 2", (1, 1)))


def volumes(potential, levels=LEVELS, radius=RADIUS, spacing=0.05) -> np.ndarray:
    """V(eps) = vol{w in B : L(w) < eps} (A.1) for each level, B the disc of that radius around 0.

    Along each ray from 0 the loss must not fall, so that the set reaches up to one r(theta),
    found by bisection, and V is the integral of r^2 / 2 over angles: the trapezoid rule in
    t = log tan theta, which resolves the thin arms along the axes. Raises UserError for a
    potential of more or fewer than two coordinates, or one whose loss falls along a ray.
    """
    levels = np.asarray(levels, dtype=float)
    if potential.dim != 2:
        raise UserError(f"volumes are for two coordinates; {potential.name} has {potential.dim}")
    if not radius > 0 or not levels.size or not (levels > 0).all():
        raise UserError("the radius and every level must be above 0")
    t = np.arange(-30, 30, spacing)
    weight = spacing / (2 * np.cosh(t))  # d theta
    total = np.zeros(len(levels))
    signs = [(1, 1)] if potential.even else list(itertools.product((1, -1), repeat=2))
    for sign in signs:
        rays = np.stack([1 / np.hypot(1, np.exp(t)), 1 / np.hypot(1, np.exp(-t))], -1) * sign

        def energy(r, rays=rays):  # (..., rays) -> the same
            return potential.energy(torch.tensor(r[..., None] * rays)).numpy()

        along = energy(np.linspace(0, radius, 64)[:, None] * np.ones(len(t)))
        if (np.diff(along, axis=0) < 0).any():
            raise UserError(f"{potential.name} falls along a ray within {radius:g} of its "
                            "minimum; take a smaller radius")
        low = np.zeros((len(levels), len(t)))
        high = np.full_like(low, radius)
        for _ in range(45):
            middle = (low + high) / 2
            inside = energy(middle) < levels[:, None]
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        total += (high**2 / 2 * weight).sum(1)
    return total * 4 / len(signs)


def mean_from_volumes(levels, volume, nbeta) -> float:
    """E[nbeta L] under exp(-nbeta L) on B, from V alone: integrating by parts,

        E[nbeta L] = nbeta <eps> - 1,   <.> with weight V(eps) exp(-nbeta eps) d eps

    which is llc where V = c eps^llc. B is taken to be full beyond the last level.
    """
    log_e = np.arange(np.log(levels[0]), max(np.log(levels[-1]), math.log(100 / nbeta)), 0.1)
    e = np.exp(log_e)
    weight = np.exp(np.interp(log_e, np.log(levels), np.log(volume)) - nbeta * e) * e
    return float(nbeta * (weight * e).sum() / weight.sum() - 1)
