"""The updates a chain can take. Each is a frozen dataclass of settings with two pure methods:
`start(w)` gives the sampler's own state and `step(w, state, gradient, anchor, noise)` one update,
of one chain (P,) or of all at once (C, P): each coordinate is on its own.
"""

from dataclasses import dataclass

import torch

from devlib.checks import check_count, check_number


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

    def start(self, w):
        """The sampler's own state before the first step: none for plain SGLD, (0,)."""
        return torch.zeros(0, dtype=w.dtype, device=w.device)

    def scale(self, state):
        """What multiplies eps, for each coordinate or for all."""
        return 1.0

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
        return w - self.eps / 2 * scale * drift + (self.eps * scale).sqrt() * noise, state


def sgld_step(w, gradient, anchor, noise, sampler: SGLD):
    """The update (8), pure. All (..., P); `gradient` is that of the mean minibatch loss."""
    drift = sampler.nbeta * gradient + sampler.gamma * (w - anchor)
    return w - sampler.eps / 2 * drift + sampler.eps**0.5 * noise
