"""The Hessian of a mean loss: trace, largest eigenvalues, spectral density (B.5).

    H = d^2 / dw^2  1/n sum_i loss_i(w)

on n fixed samples is never formed: all that anything here needs is products H v. The loss is
as everywhere in the library, loss(params, batch) -> (m,), one value a sample.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch.func import grad

from devlib.checks import check_count, check_number
from devlib.devices import to_numpy
from devlib.errors import UserError
from devlib.fast import mean_gradient
from devlib.sampling.checked import check_loss
from devlib.sampling.given import problem_of
from devlib.sampling.model import Layout, check_problem
from devlib.twice import check_product, second_derivatives

LEAST_PROBES = 10  # a standard error from fewer is a guess
RESTARTS = 50  # of the eigenvalue iteration, at most; two or three are usual


class Hessian(LinearOperator):
    """H of a loss at `params` on the samples `data`, (P, P), as scipy's LinearOperator: `H @ v`.

    Vectors are float64 in the order of Layout.of(params), products are as exact as the
    parameters' own precision, and `products` counts them. `microbatch` takes the samples in
    slices of that many and `compile` passes a product through torch.compile (devlib.fast).
    `keep_graph` makes the gradient once and keeps its graph, which takes about half the time of a
    product and the memory of all samples' activations.

    An nn.Parameter with requires_grad=False is held, and tied ones are one (devlib.sampling.given).
    Raises UserError for a loss, parameters or data that are not of the library's form
    (devlib.sampling.checked), for a loss without right second derivatives, and when a product is
    not finite.
    """

    def __init__(self, loss, params, data, *, microbatch=None, compile=False, keep_graph=False):
        loss, params, data = problem_of(loss, params, data).parts
        check_problem(params, data)
        if microbatch is not None:
            check_count("microbatch", microbatch)
        loss = check_loss(loss, params, data)
        layout = Layout.of(params)
        self.w, self.data, self.products = layout.flatten(params), data, 0
        make = _KeptGraph if keep_graph else _MadeAnew
        with second_derivatives():
            check_product(loss, params, data, make)
            self._product = make(loss, layout, self.w, self.data, microbatch, compile)
        super().__init__(np.float64, (len(self.w), len(self.w)))

    def _matvec(self, v):
        self.products += 1
        v = torch.as_tensor(v.reshape(-1), dtype=self.w.dtype, device=self.w.device)
        with second_derivatives():
            product = self._product(v)
        if not product.isfinite().all():
            raise UserError("the Hessian is not finite: the loss or a derivative of it overflows "
                            "at these parameters")
        return to_numpy(product.double())

    def _adjoint(self):
        return self


class _MadeAnew:
    """v -> H v from a gradient that is made for each product."""

    def __init__(self, loss, layout, w, data, microbatch=None, compile=False):
        self.w, self.data = w, data
        self.gradient = mean_gradient(_slope(loss, layout), microbatch, compile)

    def __call__(self, v):
        return self.gradient(self.w, v, self.data)[0]


class _KeptGraph:
    """v -> H v from gradients whose graphs are kept, one for each slice of the samples."""

    def __init__(self, loss, layout, w, data, microbatch=None, compile=False):
        self.w = w.clone().requires_grad_()
        size = microbatch or len(data[0])
        self.parts = []
        for start in range(0, len(data[0]), size):
            batch = tuple(part[start:start + size] for part in data)
            share = len(batch[0]) / len(data[0])
            mean = loss(layout.unflatten(self.w), batch).mean() * share
            if not mean.requires_grad:
                continue
            # zeros where a loss, or a slope, has a graph that these parameters are no part of
            slope, = torch.autograd.grad(mean, self.w, create_graph=True, materialize_grads=True)
            if slope.requires_grad:  # else it is constant: no curvature
                self.parts.append(slope)

    def __call__(self, v):
        return sum((torch.autograd.grad(part, self.w, v, retain_graph=True,
                                        materialize_grads=True)[0]
                    for part in self.parts), torch.zeros_like(v))


@functools.lru_cache(maxsize=32)  # the same function each time, so that it compiles once
def _slope(loss, layout):
    """(w, v, batch) -> the mean loss's derivative along v, whose gradient in w is H v.

    By reverse mode both times: in torch 2.13 reverse over forward mode is silently wrong where
    there is an nn.LayerNorm.
    """
    def slope(w, v, batch):
        return grad(lambda w: loss(layout.unflatten(w), batch).mean())(w) @ v

    return slope


# ----------------------------------------------------------------------------------- eigenvalues


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues (k,), the largest first, and unit eigenvectors (P, k)."""

    values: np.ndarray
    vectors: np.ndarray

    def residuals(self, operator, count=None) -> np.ndarray:
        """|H q - value q| of the first `count` pairs, (count,), at one product each. An
        eigenvalue of a symmetric H lies no farther than this from `value`, and usually its square
        over the distance to the next one."""
        return np.array([np.linalg.norm(operator @ vector - value * vector) for value, vector in
                         zip(self.values[:count], self.vectors.T[:count], strict=True)])


def top_eigenpairs(operator, count, gen, tolerance=1e-2) -> Eigenpairs:
    """The `count` largest eigenvalues (signed, not by magnitude), by the implicitly restarted
    Lanczos method (scipy's eigsh) until every residual is below `tolerance` times its eigenvalue.

    `operator` (P, P) is a Hessian or any symmetric LinearOperator; `gen` gives the first vector.
    Where H is 0 (a linear loss, a network whose ReLUs are all off) so are all eigenvalues, and any
    vectors will do. Raises UserError if count is not in 1..P-1, or if it does not converge.
    """
    size = operator.shape[0]
    check_count("count", count)
    check_number("tolerance", tolerance, above=0)
    if count >= size:
        raise UserError(f"{size} parameters have {size - 1} eigenvalues for this method, not "
                        f"{count}: ask for fewer")
    start = torch.randn(size, generator=gen, dtype=torch.float64).numpy()
    try:
        values, vectors = eigsh(operator, count, which="LA", v0=start, tol=tolerance,
                                maxiter=RESTARTS)
    except ArpackNoConvergence as error:
        raise UserError(f"{len(error.eigenvalues)} of {count} eigenvalues converged: ask for "
                        "fewer, or take a larger tolerance") from error
    except ArpackError as error:
        if not np.any(operator @ start):  # of a random vector, so of all
            return Eigenpairs(np.zeros(count), np.eye(size, count))
        raise UserError(f"the search for eigenvalues failed ({error}): are all products with this "
                        "operator finite?") from error
    return Eigenpairs(values[::-1], vectors[:, ::-1])


# ----------------------------------------------------------------------------------------- trace


@dataclass(frozen=True)
class Trace:
    """An estimate, its standard error, and the probes behind it. The error itself is known to
    about one part in sqrt(2 (probes - 1))."""

    mean: float
    se: float
    probes: int


def trace(operator, gen, *, known: Eigenpairs | None = None, precision=0.02, most=400) -> Trace:
    """Hutchinson's estimate of tr H, the mean of z.H z over vectors z of random signs (Rademacher
    probes), run on until its standard error is `precision` times the estimate or `most` probes
    are taken. Unbiased: E[z z'] = I.

    Pairs (value_i, q_i) `known` from an earlier search for eigenvalues are taken out of z.H z,
    at no further product, and added back exactly:

        tr H = sum_i value_i + E[z.H z - sum_i value_i (q_i.z)^2],

    true for any unit vectors q_i, exact or not, that do not depend on z. What is left varies
    as if those eigenvalues were 0.

    The released trace of B.5 sums its probes; this is their mean. The same `gen` at two
    checkpoints gives both the same probes. Raises UserError for settings out of range.
    """
    check_number("precision", precision, above=0)
    check_count("most", most, least=2)
    values = [] if known is None else known.values
    vectors = np.zeros((operator.shape[0], 0)) if known is None else known.vectors
    rest = []
    while len(rest) < most:
        z = random_signs(operator.shape[0], gen)
        rest.append(z @ (operator @ z) - np.dot(values, (vectors.T @ z) ** 2))
        if len(rest) < min(LEAST_PROBES, most):
            continue
        found = Trace(float(np.sum(values) + np.mean(rest)),
                      float(np.std(rest, ddof=1) / len(rest) ** 0.5), len(rest))
        if found.se <= precision * abs(found.mean):
            break
    return found


def random_signs(size, gen) -> np.ndarray:
    """A vector of +1 and -1 with equal chances, (size,)."""
    return 2.0 * torch.randint(2, (size,), generator=gen).numpy() - 1


# --------------------------------------------------------------------------------------- density


@dataclass(frozen=True, eq=False)
class Density:
    """The distribution of H's eigenvalues as point masses: `weights`, summing to 1, at `nodes`."""

    nodes: np.ndarray
    weights: np.ndarray

    def smoothed(self, points, width) -> np.ndarray:
        """The density at `points`, each mass spread to a Gaussian of standard deviation `width`:
        its integral is 1 and its mean that of the masses."""
        away = (np.asarray(points, float)[:, None] - self.nodes) / width
        return np.exp(-away**2 / 2) @ self.weights / (width * (2 * np.pi) ** 0.5)


def spectral_density(operator, gen, *, probes, steps) -> Density:
    """Stochastic Lanczos quadrature (Ghorbani et al., 2019): for each vector of random signs the
    Gauss quadrature of its own spectral measure, from `steps` Lanczos steps; then their mean.

    A probe's masses have the moments z.H^j z / P exactly for j < 2 steps, so that the mean of
    all is Hutchinson's estimate of trace / P. It costs probes x steps products. Where single
    eigenvalues stand apart their places are right and their masses, truly 1 / P, are noisy: of
    chi-squared law with one degree of freedom for each probe.
    """
    check_count("probes", probes)
    check_count("steps", steps)
    size, nodes, weights = operator.shape[0], [], []
    for _ in range(probes):
        values, vectors = eigh_tridiagonal(*lanczos(operator, random_signs(size, gen), steps))
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    return Density(np.concatenate(nodes), np.concatenate(weights))


def lanczos(operator, start, steps):
    """Diagonal (s,) and off-diagonal (s - 1,) of H in the Krylov basis of `start` (P,), with
    s = steps, or fewer where that basis is complete. Every new vector is made orthogonal to all
    before it, twice, without which rounding brings copies of the largest eigenvalues."""
    basis = np.empty((steps, len(start)))
    basis[0] = start / np.linalg.norm(start)
    diagonal, beside = [], []
    for step in range(steps):
        v = operator @ basis[step]
        diagonal.append(basis[step] @ v)
        earlier = basis[:step + 1]
        for _ in range(2):
            v = v - earlier.T @ (earlier @ v)
        norm = np.linalg.norm(v)
        if step + 1 == steps or norm <= 1e-12 * np.abs([*diagonal, *beside]).max():
            return np.array(diagonal), np.array(beside)
        beside.append(norm)
        basis[step + 1] = v / norm
