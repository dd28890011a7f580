"""What an estimate should give: the llc at a finite n beta and gamma, and for a finite step.

nbeta (E L - L(w0)) comes near the asymptotic llc only slowly (as 1 / log nbeta where the
multiplicity is above 1), and a chain of step eps is off by O(eps) besides. A test, and a picture
in the book, compares with the numbers from here. All return values have the llc's unit.
"""

import itertools
import math

import numpy as np
import scipy.sparse
import torch
from torch.func import grad, vmap

from companion.known.potentials import Powers
from devlib.errors import UserError


def quadratic_chain_mean(curvatures, sampler) -> float:
    """What SGLD on 1/2 sum h_i w_i^2 gives with the whole set, from w0 = 0 and once stationary:

        1/2 sum_i nbeta h_i / (kappa_i (1 - eps kappa_i / 4)),   kappa_i = nbeta h_i + gamma

    since w_i is then an AR(1) process with factor 1 - eps kappa_i / 2. Raises UserError where
    that is unstable, eps kappa_i >= 4.
    """
    h = np.asarray(curvatures, dtype=float)
    return float(sampler.nbeta / 2 * (h * _stationary_variance(h, 0.0, sampler)).sum())


def mean_model_chain_mean(model, sampler, batch_size=None) -> float:
    """What SGLD on a `MeanModel` gives, minibatches of m samples with replacement or the whole
    set, once stationary: nbeta / 2 sum_j h_j (var_j + (c_j - mean_j)^2 - (w0_j - mean_j)^2) with

        var_j = [eps + (eps nbeta h_j / 2)^2 s_j^2 / m] / (1 - (1 - eps kappa_j / 2)^2)

    where c is the centre of the localised posterior and s_j^2 the variance of the samples. It is
    negative when w0 is far from the minimum. Raises UserError where the chain is unstable.
    """
    h, nbeta, mean = model.curvatures, sampler.nbeta, model.xs.mean(0)
    noise = 0.0 if batch_size is None else model.xs.var(0) / batch_size
    kappa = nbeta * h + sampler.gamma
    free = kappa == 0  # such a coordinate wanders, and the loss does not see it
    centre = (nbeta * h * mean + sampler.gamma * model.w0) / np.where(free, 1, kappa)
    variance = _stationary_variance(h, noise, sampler)
    return float(nbeta / 2 * (h * (variance + (centre - mean) ** 2
                                   - (model.w0 - mean) ** 2)).sum())


def _stationary_variance(h, noise, sampler):
    """Of each coordinate of the AR(1) chain, with gradient noise of variance h^2 noise; 0 for one
    that the loss does not see, h = 0, which wanders as far as gamma, or nothing, lets it."""
    kappa = sampler.nbeta * h + sampler.gamma
    if (sampler.eps * kappa >= 4).any():
        raise UserError(f"the chain is unstable: eps (nbeta h + gamma) = "
                        f"{sampler.eps * kappa.max():.3g}, and it must be below 4")
    driven = sampler.variance() + (sampler.eps * sampler.nbeta * h / 2) ** 2 * noise
    loss = sampler.eps * kappa * (1 - sampler.eps * kappa / 4)  # 1 - (1 - eps kappa / 2)^2
    return np.divide(driven, loss, out=np.zeros_like(kappa), where=h > 0)


def gibbs_moments(potential, nbeta, gamma=0.0, *, box=False, spacing=None) -> tuple[float, float]:
    """(mean, variance) of nbeta L under exp(-nbeta L - gamma / 2 |w|^2) on R^d, d <= 3, or with
    `box` on the unit box [0, 1]^d. What a chain gives as eps -> 0.

    By the trapezoid rule in t, with |w| = e^t (or w = 1 / (1 + e^-t) in the box), which converges
    exponentially and resolves the thin channels along the axes. Raises UserError where the
    density has no finite integral.
    """
    if spacing is None:  # valleys off the axes are not stretched by t and need a finer grid
        spacing = 0.2 if potential.dim > 2 else 0.05 if potential.even else 0.02
    if box:
        t = np.arange(-30, 30, spacing)
        w, weight = 1 / (1 + np.exp(-t)), 1 / (2 + np.exp(t) + np.exp(-t))
        signs = [(1,) * potential.dim]
    else:
        t = np.arange(-30, math.log(_reach(potential, nbeta, gamma, 60)), spacing)
        w = weight = np.exp(t)
        sides = (1,) if potential.even else (1, -1)
        signs = list(itertools.product(sides, repeat=potential.dim))
    points = np.stack(np.meshgrid(*[w] * potential.dim, indexing="ij"), -1)
    weights = np.prod(np.stack(np.meshgrid(*[weight] * potential.dim, indexing="ij"), -1), -1)
    weights = weights * np.exp(-gamma / 2 * (points**2).sum(-1))
    moments = np.zeros(3)
    for sign in signs:
        energy = nbeta * potential.energy(torch.tensor(points * sign)).numpy()
        density = weights * np.exp(-energy)
        moments += density.sum(), (density * energy).sum(), (density * energy**2).sum()
    mean = moments[1] / moments[0]
    return float(mean), float(moments[2] / moments[0] - mean**2)


def chain_moments(potential, sampler, *, per_step=1.0) -> tuple[float, float]:
    """(mean, variance) of nbeta L under the stationary law of the SGLD chain itself, step eps and
    the whole set, from w0 = 0: for a `Powers`, or d <= 2 and even in each coordinate.

    The chain's kernel w -> N(w - eps/2 grad U(w), eps) is put on a grid of `per_step` points a
    noise standard deviation (for a Gaussian kernel one a deviation leaves an error of 1e-8) and
    its leading eigenvector taken. Raises UserError for a potential that it cannot treat.
    """
    if isinstance(potential, Powers) and potential.dim > 1:  # its directions are independent
        moments = [chain_moments(part, sampler, per_step=per_step) for part in potential.parts]
        return tuple(map(sum, zip(*moments, strict=True))) if moments else (0.0, 0.0)
    if potential.dim > 2 or not potential.even:
        raise UserError("it takes a potential of one or two coordinates, even in each")
    h = sampler.variance()**0.5 / per_step
    count = math.ceil(_reach(potential, sampler.nbeta, sampler.gamma, 15) / h)
    axis = (np.arange(count) + 0.5) * h  # one orthant; the others mirror it
    points = np.stack(np.meshgrid(*[axis] * potential.dim, indexing="ij"), -1)
    w = torch.tensor(points.reshape(-1, potential.dim))  # (G, d)
    energy = sampler.nbeta * potential.energy(w).numpy()
    gradient = vmap(grad(potential.energy))(w).numpy()
    target = (1 - sampler.eps / 2 * sampler.gamma) * w.numpy() \
        - sampler.eps / 2 * sampler.nbeta * gradient
    kernel = _folded_kernel(target, h, sampler.variance(), count)
    start = np.exp(-energy - sampler.gamma / 2 * (w**2).sum(-1).numpy())
    _, vectors = scipy.sparse.linalg.eigs(kernel.T, k=1, which="LM", v0=start)
    law = np.abs(vectors[:, 0].real)
    law /= law.sum()
    mean = (law * energy).sum()
    return float(mean), float((law * energy**2).sum() - mean**2)


def _folded_kernel(target, h, variance, count):
    """Sparse (G, G) transition weights from each grid point to those around its target (G, d)."""
    dim, size = target.shape[1], len(target)
    around = np.arange(-math.ceil(6 * variance**0.5 / h), math.ceil(6 * variance**0.5 / h) + 1)
    places, weights = np.zeros((size, 1), dtype=np.int64), np.ones((size, 1))
    for axis in range(dim):
        near = np.floor(target[:, axis, None] / h).astype(np.int64) + around  # (G, K)
        distance = (near + 0.5) * h - target[:, axis, None]
        part = np.exp(-distance**2 / (2 * variance)) * h / math.sqrt(2 * math.pi * variance)
        near = np.where(near < 0, -near - 1, near)
        part = np.where(near < count, part, 0.0)  # what leaves the grid is lost
        places = (places[:, :, None] * count + np.minimum(near, count - 1)[:, None]).reshape(
            size, -1)
        weights = (weights[:, :, None] * part[:, None]).reshape(size, -1)
    rows = np.repeat(np.arange(size), places.shape[1])
    return scipy.sparse.csr_matrix((weights.ravel(), (rows, places.ravel())), shape=(size, size))


def _reach(potential, nbeta, gamma, exponent):
    """How far along an axis the density still exceeds exp(-exponent) of its greatest value."""
    radius = np.exp(np.arange(-20, 20, 0.05))
    reach = 0.0
    for axis, sign in itertools.product(range(potential.dim), (1, -1)):
        w = np.zeros((len(radius), potential.dim))
        w[:, axis] = sign * radius
        height = nbeta * potential.energy(torch.tensor(w)).numpy() + gamma / 2 * radius**2
        inside = np.flatnonzero(height < exponent)
        if len(inside) == len(radius):
            raise UserError("the density has no finite integral: give gamma above 0")
        reach = max(reach, radius[inside[-1] + 1])
    return reach


def network_draws(network, nbeta, gamma, *, chains=64, draws=500, burn_in=100, seed=0):
    """nbeta L along Gibbs chains on a `LinearNetwork`, (C, T): independent of any step size.

    Given the other layers, the loss |P W Q - T|^2 / 2 is quadratic in a layer W, which is then
    drawn exactly: in the eigenbases of P'P and QQ' its entries are independent, of precision
    nbeta p_i q_j + gamma. Chains start at w0; `burn_in` sweeps are left out.
    """
    rng = np.random.default_rng(seed)
    origin = [w.numpy() for w in network.params.values()]
    layers = [np.repeat(w[None], chains, 0) for w in origin]
    target = network.target.numpy()
    values = np.empty((chains, draws))
    for sweep in range(burn_in + draws):
        for s, w0 in enumerate(origin):
            below = _product(layers[:s], network.widths[0])  # Q
            above = _product(layers[s + 1:], network.widths[s + 1])  # P
            p, left = np.linalg.eigh(above.swapaxes(1, 2) @ above)
            q, right = np.linalg.eigh(below @ below.swapaxes(1, 2))
            precision = nbeta * p[:, :, None] * q[:, None] + gamma
            pull = nbeta * above.swapaxes(1, 2) @ target @ below.swapaxes(1, 2) + gamma * w0
            centre = left.swapaxes(1, 2) @ pull @ right / precision
            new = centre + rng.standard_normal(centre.shape) / np.sqrt(precision)
            layers[s] = left @ new @ right.swapaxes(1, 2)
        if sweep >= burn_in:
            error = _product(layers, network.widths[0]) - target
            values[:, sweep - burn_in] = nbeta / 2 * (error**2).sum((1, 2))
    return values


def _product(layers, width):
    """W_k ... W_1 for each chain; the identity (1, width, width) without layers."""
    product = np.eye(width)[None]
    for w in layers:
        product = w @ product
    return product
