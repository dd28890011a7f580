"""The updates a chain can take. Each is a frozen dataclass of settings with two pure methods:
`start(w)` gives the sampler's own state and `step(w, state, gradient, anchor, noise)` one update,
of one chain (P,) or of all at once (C, P): each coordinate is on its own.
"""

import math
import warnings
from dataclasses import dataclass

import torch

from devlib.checks import check_count, check_number
from devlib.errors import ShortChains
from devlib.settings import RELAXATIONS


@dataclass(frozen=True)
class SGLD:
    """Plain SGLD: step size eps, nbeta = n beta, localisation gamma.

    Targets, as eps -> 0 and with the gradient of the whole set, the density proportional to
    exp(-nbeta L(w) - gamma / 2 |w - w0|^2). Other libraries: posteriors and blackjax call
    eps / 2 the learning rate; devinterp's update is this one. Raises UserError for a value
    outside its range.
    """

    eps: float
    nbeta: float
    gamma: float

    def __post_init__(self):
        check_number("eps", self.eps, above=0)
        check_number("nbeta", self.nbeta, above=0)
        check_number("gamma", self.gamma, least=0)

    def relaxation(self) -> float:
        """Draws in which the spring gamma alone forgets the start by a factor e: 2 / (eps gamma).

        A direction that the loss does not see follows w <- (1 - eps gamma / 2) w + sqrt(eps) xi,
        so that from w0 = 0, E |w_t|^2 = (1 - (1 - eps gamma / 2)^(2 t)) P / gamma up to O(eps).
        Curvature makes a direction faster, never slower. Infinite where gamma is 0.
        """
        return 2 / (self.eps * self.gamma) if self.gamma else math.inf

    def start(self, w):
        """The sampler's own state before the first step: none for plain SGLD, (0,)."""
        return torch.zeros(0, dtype=w.dtype, device=w.device)

    def scale(self, state):
        """What multiplies eps, for each coordinate or for all."""
        return 1.0

    def variance(self, state=None):
        """Of a step's noise, for each coordinate or for all."""
        return self.eps * self.scale(state)

    def potential(self, loss, distance):
        """The U of the target exp(-U), of the whole set's loss and of |w - w0|^2."""
        return self.nbeta * loss + self.gamma / 2 * distance

    def step(self, w, state, gradient, anchor, noise):
        """One update (8): w, gradient and noise (..., P), anchor (P,) -> the new w and state."""
        return sgld_step(w, gradient, anchor, noise, self), state


@dataclass(frozen=True)
class RMSpropSGLD(SGLD):
    """SGLD preconditioned by a running mean of squared gradients (Li et al., 2016).

    With v <- decay v + (1 - decay) g^2, beginning at the first g^2, and G = 1 / (floor + sqrt(v)),
    the drift is multiplied by G and the noise by sqrt(G): the step of coordinate i is eps G_i.

    A constant G targets exactly what plain SGLD targets. A moving one does so only while it does
    not follow the position: the term for dG/dw is left out, as is usual, so the window
    1 / (1 - decay) should be long beside the chain's own autocorrelation, or the gradient mostly
    minibatch noise. With `adapt`, v stands still after that many steps: give a burn-in of at
    least as many, and the target is exact.
    """

    decay: float = 0.99
    floor: float = 0.1
    adapt: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_number("decay", self.decay, least=0, most=1)
        check_number("floor", self.floor, above=0)
        if self.adapt is not None:
            check_count("adapt", self.adapt)

    def relaxation(self) -> float:
        """The least that it can be: where gradients vanish, G is 1 / floor and each step so much
        longer. How large they are is not known before sampling."""
        return self.floor * super().relaxation()

    def start(self, w):
        """Running mean of squared gradients, and the steps seen, (P + 1,)."""
        return torch.zeros(len(w) + 1, dtype=w.dtype, device=w.device)  # v, and steps seen

    def scale(self, state):
        return 1 / (self.floor + state[..., :-1].sqrt())

    def step(self, w, state, gradient, anchor, noise):
        v, seen = state[..., :-1], state[..., -1:]
        square = gradient.square()
        new = torch.where(seen == 0, square, self.decay * v + (1 - self.decay) * square)
        if self.adapt is not None:
            new = torch.where(seen < self.adapt, new, v)
        state = torch.cat([new, seen + 1], -1)
        scale = self.scale(state)
        drift = self.nbeta * gradient + self.gamma * (w - anchor)
        return w - self.eps / 2 * scale * drift + self.variance(state).sqrt() * noise, state


@dataclass(frozen=True)
class SmoothedSGLD(SGLD):
    """SGLD with the mean of two successive noises (Leimkuhler and Matthews, 2013), the limit of
    strong friction of the BAOAB splitting of underdamped Langevin dynamics:

        w <- w - (eps / 2) (nbeta grad L_m(w) + gamma (w - w0)) + sqrt(eps) (xi_t + xi_{t-1}) / 2

    For the cost of plain SGLD its stationary law is off by O(eps^2) where plain SGLD's is off by
    O(eps), and in a quadratic by nothing at any stable step, eps kappa < 4. The noise of
    minibatches heats both alike, to first order in eps: by batches of 64 the regression run at
    step 984 has an LLC of 18.4 +- 0.7 with it and of 18.6 +- 0.4 without.
    """

    def start(self, w):
        """The last noise, (P,): none yet."""
        return torch.zeros_like(w)

    def step(self, w, state, gradient, anchor, noise):
        return sgld_step(w, gradient, anchor, (noise + state) / 2, self), noise


def sgld_step(w, gradient, anchor, noise, sampler: SGLD):
    """The update (8), pure. All (..., P); `gradient` is that of the mean minibatch loss."""
    drift = sampler.nbeta * gradient + sampler.gamma * (w - anchor)
    return w - sampler.eps / 2 * drift + sampler.variance()**0.5 * noise


def warn_if_short(sampler: SGLD, draws, stacklevel=3):
    """Warns (devlib.errors.ShortChains) where `draws` are fewer than five times the relaxation of
    the spring: such a chain is still on its way from its start in each direction that the loss
    leaves to the spring. Says nothing for gamma = 0, where no length is enough by this rule."""
    least = RELAXATIONS * sampler.relaxation()
    if draws < least < math.inf:
        warnings.warn(
            f"{draws} draws a chain are few: the spring alone relaxes in 2 / (eps gamma) = "
            f"{sampler.relaxation():,.0f} draws. Take {math.ceil(least):,} or more, or a larger "
            "eps or gamma", ShortChains, stacklevel=stacklevel)
