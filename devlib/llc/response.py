"""How the posterior answers to its data: covariances over draws, with their errors.

Where one sample's loss l_i gets a little more weight, so that the density that eq. 8 samples is
proportional to exp(-nbeta L(w) - h l_i(w) - gamma / 2 |w - w0|^2), the mean of any observable
phi(w) has at h = 0 the derivative

    d E[phi] / dh = -Cov(phi, l_i),

the susceptibility of phi to that sample (Baker et al., 2025), and where phi is itself a sample's
loss the Bayesian influence function (Kreer et al., 2025).
"""

from dataclasses import dataclass

import numpy as np

from devlib.errors import UserError
from devlib.sampling.draws import diagnostic


@dataclass(frozen=True, eq=False)
class Response:
    """Values and their Monte Carlo standard errors, both (p, q)."""

    values: np.ndarray
    mcse: np.ndarray


def covariance(a, b) -> Response:
    """Cov(a_i, b_j) over draws a (C, D, p) and b (C, D, q), or (C, D) for one: (p, q).

    It is the mean over all draws of (a_i - mean a_i) (b_j - mean b_j), and its error is ArviZ's
    MCSE of that mean, autocorrelation and differences between chains counted. The means are of the
    same draws, which takes the share 1 / ESS off a covariance: little beside its error. Raises
    UserError unless both are finite, of the same draws, eight or more a chain.
    """
    a, b = (_centred(name, part) for name, part in (("a", a), ("b", b)))
    if a.shape[:2] != b.shape[:2]:
        raise UserError(f"a and b must be of the same chains and draws, not {a.shape[:2]} and "
                        f"{b.shape[:2]}")
    values, mcse = np.empty((2, a.shape[2], b.shape[2]))
    for i, j in np.ndindex(values.shape):
        products = a[:, :, i] * b[:, :, j]
        values[i, j] = products.mean()
        mcse[i, j] = diagnostic("mcse", products) if np.ptp(products) else 0.0
    return Response(values, mcse)


def susceptibilities(phi, losses, reference=None) -> Response:
    """-Cov(phi, l_i - L) of each sample, (p, n): phi (C, D) or (C, D, p), losses (C, D, n).

    phi is what answers, such as the loss of chains that move one head alone (`only`), losses are of
    single samples, and L (C, D) is the loss of the data that the chains sample from, so that the
    sample replaces a little of them. None leaves it out: the sample is then added to them. Errors
    and UserErrors are those of `covariance`.
    """
    losses = np.asarray(losses, dtype=float)
    if reference is not None:
        losses = losses - np.asarray(reference, dtype=float)[:, :, None]
    return _negative(covariance(phi, losses))


def influence(losses, others=None) -> Response:
    """The Bayesian influence function -Cov(l_i, l_j) between samples, (n, k): losses (C, D, n) and
    `others` (C, D, k), by default the same. Negative where to weigh sample i up makes j's loss
    fall. Errors and UserErrors are those of `covariance`."""
    return _negative(covariance(losses, losses if others is None else others))


def _negative(response):
    return Response(-response.values, response.mcse)


def _centred(name, draws):
    draws = np.asarray(draws, dtype=float)
    draws = draws[:, :, None] if draws.ndim == 2 else draws
    if draws.ndim != 3 or draws.shape[1] < 8 or not np.isfinite(draws).all():
        raise UserError(f"{name} must be finite draws (chains, draws) or (chains, draws, samples), "
                        f"eight or more a chain, not of shape {draws.shape}")
    return draws - draws.mean((0, 1))
