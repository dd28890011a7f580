"""Potentials whose learning coefficient is known: the book shows them, the tests use them.

Each is a frozen dataclass with a name, its formula, the exact `llc` at `w0` with its
`multiplicity`, and what the sampler takes: `loss(params, batch)`, `params` and `data`. What an
estimate should give at a finite nbeta and eps, where the asymptotic llc is not yet reached, is in
companion.known.answers.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from devlib.errors import UserError


class Potential:
    """L(w) of one vector w, without data: `energy` maps (..., d) to (...). `even` says whether it
    is the same for -w_i in each coordinate."""

    even = True

    @property
    def params(self) -> dict:
        """w0 = 0, where the llc is measured."""
        return {"w": torch.zeros(self.dim, dtype=torch.float64)}

    @property
    def data(self) -> tuple:
        """One sample that says nothing: L is its own population loss."""
        return (torch.zeros(1, dtype=torch.float64),)

    def loss(self, params, batch):
        """L(w) for each sample, (m,)."""
        return self.energy(params["w"]).expand(len(batch[0]))


@dataclass(frozen=True)
class Powers(Potential):
    """sum_i c_i |w_i|^p_i: each direction with c_i > 0 adds 1 / p_i, one with c_i = 0 nothing.

    Without localisation nbeta L follows Gamma(llc, 1) at every nbeta, so that its mean and its
    variance are both the llc.
    """

    name: str
    coefficients: tuple[float, ...]
    exponents: tuple[float, ...]
    multiplicity: int = 1

    @property
    def dim(self) -> int:
        return len(self.coefficients)

    @property
    def llc(self) -> float:
        return sum(1 / p for c, p in zip(self.coefficients, self.exponents, strict=True) if c)

    @property
    def parts(self) -> tuple["Powers", ...]:
        """Its directions, one by one, without the unused."""
        return tuple(Powers(self.name, (c,), (p,)) for c, p in
                     zip(self.coefficients, self.exponents, strict=True) if c)

    @property
    def formula(self) -> str:
        terms = [f"{'' if c == 1 else f'{c:g} '}w_{i}^{{{p:g}}}" for i, (c, p) in
                 enumerate(zip(self.coefficients, self.exponents, strict=True), 1) if c]
        return " + ".join(terms) or "0"

    def energy(self, w):
        c, p = w.new_tensor(self.coefficients), w.new_tensor(self.exponents)
        return (c * w.abs() ** p).sum(-1)


def quadratic(curvatures, name="quadratic") -> Powers:
    """1/2 sum_i h_i w_i^2: llc r / 2, with r the number of directions with h_i > 0."""
    return Powers(name, tuple(h / 2 for h in curvatures), (2,) * len(curvatures))


@dataclass(frozen=True)
class Monomial(Potential):
    """(prod_i w_i^k_i)^2: llc 1 / (2 max k), with multiplicity how often the maximum occurs."""

    name: str
    exponents: tuple[int, ...]

    @property
    def dim(self) -> int:
        return len(self.exponents)

    @property
    def llc(self) -> float:
        return 1 / (2 * max(self.exponents))

    @property
    def multiplicity(self) -> int:
        return self.exponents.count(max(self.exponents))

    @property
    def formula(self) -> str:
        return " ".join(f"w_{i}^{{{2 * k}}}" for i, k in enumerate(self.exponents, 1))

    def energy(self, w):
        value = 1.0
        for i, k in enumerate(self.exponents):  # whole powers: no 0 * inf in the gradient
            value = value * w[..., i] ** (2 * k)
        return value


@dataclass(frozen=True)
class TwoMinima(Potential):
    """(w_1 - 1)^2 (w_1^2 + w_2^2)^4: a line of minima and a point. At the point, the origin, the
    first factor is a constant and the second of degree 8 in two directions: llc 2 / 8."""

    name: str = "flat point beside a line"
    formula: str = "(w_1 - 1)^2 (w_1^2 + w_2^2)^4"
    dim: int = 2
    llc: float = 1 / 4
    multiplicity: int = 1
    even = False

    def energy(self, w):
        return (w[..., 0] - 1) ** 2 * w.square().sum(-1) ** 4


# The examples of A.2, and the four potentials of Fig. 2 (the exponents of the last three follow
# the figure's text; which it draws is inferred).
A2_EXAMPLES = (
    quadratic((2, 2, 2), "three quadratic directions"),
    quadratic((2, 2, 0), "one of three unused"),
    Powers("one quadratic, two quartic", (1, 1, 1), (2, 4, 4)),
)
FIGURE_2 = (
    Powers("quadratic", (1, 1), (2, 2)),
    Powers("quartic", (1, 1), (4, 4)),
    Monomial("crossing lines", (1, 2)),
    TwoMinima(),
)


@dataclass(frozen=True)
class LinearNetwork:
    """1/2 |W_S ... W_1 - T|^2 with T = diag(1, ..., 1, 0, ...) of the given rank: the population
    loss of a deep linear network on whitened inputs; with two layers, reduced-rank regression.

    widths (M, H, ..., N) from input to output. w0 is the most singular of the points with L = 0,
    where every layer is diag(I_rank, 0), unless `factor_ranks` gives each layer more ones.
    """

    widths: tuple[int, ...]
    rank: int = 0
    factor_ranks: tuple[int, ...] = ()
    name: str = field(default="linear network")
    formula: str = r"\tfrac12 |W_S \cdots W_1 - T|^2"

    def __post_init__(self):
        if len(self.widths) < 2 or min(self.widths) < 1 or not 0 <= self.rank <= min(self.widths):
            raise UserError("widths must be two or more whole numbers of 1 or more, and rank 0 to "
                            f"the least of them, not {self.widths} and {self.rank}")
        if self.factor_ranks and len(self.factor_ranks) != len(self.widths) - 1:
            raise UserError(f"factor_ranks must give one rank a layer, not {self.factor_ranks}")

    @property
    def llc(self) -> float:
        """At the most singular point."""
        return deep_linear_llc(self.widths, self.rank)[0]

    @property
    def multiplicity(self) -> int:
        return deep_linear_llc(self.widths, self.rank)[1]

    @property
    def params(self) -> dict:
        ranks = self.factor_ranks or (self.rank,) * (len(self.widths) - 1)
        shapes = zip(self.widths[1:], self.widths[:-1], ranks, strict=True)
        return {f"W{s}": _diagonal(rows, columns, rank)
                for s, (rows, columns, rank) in enumerate(shapes, 1)}

    @property
    def target(self) -> torch.Tensor:
        """T, (N, M)."""
        return _diagonal(self.widths[-1], self.widths[0], self.rank)

    @property
    def data(self) -> tuple:
        return (torch.zeros(1, dtype=torch.float64),)

    def loss(self, params, batch):
        """L for each sample, (m,)."""
        product = params["W1"]
        for s in range(2, len(self.widths)):
            product = params[f"W{s}"] @ product
        value = (product - self.target).square().sum() / 2
        return value.expand(len(batch[0]))


def _diagonal(rows, columns, rank):
    matrix = torch.zeros(rows, columns, dtype=torch.float64)
    matrix[range(rank), range(rank)] = 1.0
    return matrix


def reduced_rank_llc(inputs, hidden, outputs, rank) -> float:
    """The llc of reduced-rank regression M -> H -> N with a truth of rank r (Aoyagi and Watanabe,
    2005), at the most singular of its minima."""
    m, h, n, r = inputs, hidden, outputs, rank
    if m + h < n + r:
        return (h * m - h * r + n * r) / 2
    if n + h < m + r:
        return (h * n - h * r + m * r) / 2
    if m + n < h + r:
        return m * n / 2
    odd = (m + h + n + r) % 2
    return (odd - (h + r) ** 2 - m**2 - n**2 + 2 * (h + r) * (m + n) + 2 * m * n) / 8


def deep_linear_llc(widths, rank) -> tuple[float, int]:
    """(llc, multiplicity) of a linear network of any depth (Aoyagi, 2024), at the most singular
    of its minima.

    With M_s = width_s - rank, let the l + 1 smallest be those for which
    max M_s < sum M_s / l <= the next one, M = ceil(sum / l) and a = sum - (M - 1) l. Then

        llc = r (M_in + M_out + r) / 2 + a (l - a) / (4 l) - l (l - 1) / 4 (sum / l)^2
              + sum_{s < t} M_s M_t / 2,        multiplicity = a (l - a) + 1

    with M_in and M_out those of the first and the last width.
    """
    spare = sorted(width - rank for width in widths)
    regular = rank * (widths[0] + widths[-1] - rank) / 2
    if spare[0] == 0:  # a layer without room to spare: a regular model
        return regular, 1
    for layers in range(1, len(spare)):
        chosen, total = spare[:layers + 1], sum(spare[:layers + 1])
        following = spare[layers + 1] if layers + 1 < len(spare) else np.inf
        if chosen[-1] * layers < total <= following * layers:
            break
    a = total - (-(-total // layers) - 1) * layers
    pairs = (total**2 - sum(value**2 for value in chosen)) / 2
    singular = a * (layers - a) / (4 * layers) - (layers - 1) / 4 * total**2 / layers + pairs / 2
    return regular + singular, a * (layers - a) + 1


@dataclass(frozen=True, eq=False)
class MeanModel:
    """L(w) = 1/2 sum_j h_j (w_j - x_ij)^2, averaged over samples x (n, d): the mean of a Gaussian.

    With n beta = n and gamma the precision of a prior at w0 its tempered posterior is the exact
    Bayesian one.
    """

    xs: np.ndarray  # (n, d)
    curvatures: np.ndarray  # (d,)
    w0: np.ndarray  # (d,)
    name: str = "mean of a Gaussian"
    formula: str = r"\tfrac12 \sum_j h_j (w_j - x_{ij})^2"

    @classmethod
    def make(cls, xs, curvatures=None, w0=None) -> "MeanModel":
        """Curvatures default to 1 and w0 to the minimum, the mean of the samples."""
        xs = np.asarray(xs, dtype=float)
        curvatures = np.ones(xs.shape[1]) if curvatures is None else curvatures
        w0 = xs.mean(0) if w0 is None else w0
        return cls(xs, np.asarray(curvatures, dtype=float), np.asarray(w0, dtype=float))

    @property
    def llc(self) -> float:
        return np.count_nonzero(self.curvatures) / 2

    @property
    def params(self) -> dict:
        return {"w": torch.tensor(self.w0)}

    @property
    def data(self) -> tuple:
        return (torch.tensor(self.xs),)

    def loss(self, params, batch):
        """The loss of each sample, (m,)."""
        (x,) = batch
        return (x.new_tensor(self.curvatures) * (params["w"] - x).square()).sum(-1) / 2
