"""What else is measured along the chains: losses on other data, at every k-th draw."""

from dataclasses import dataclass, field

import numpy as np

from devlib.devices import to_numpy
from devlib.errors import UserError
from devlib.sampling.model import check_memory, per_sample_losses


@dataclass(frozen=True, eq=False)
class Observed:
    """Per-sample losses (n,) of each named set at some draws: a callback of Chains.extend, whose
    `losses` hold what it has seen."""

    sets: dict  # name -> (loss(params, parts), parts)
    seen: dict = field(default_factory=dict)  # (name, chain) -> {draw: losses (n,) float64}

    def __call__(self, chain, draw, params):
        for name, (loss, parts) in self.sets.items():
            losses = per_sample_losses(loss, params, parts).double()
            self.seen.setdefault((name, chain), {})[draw] = to_numpy(losses)

    def losses(self, name, chains, burn_in) -> np.ndarray:
        """Those of a set from draw `burn_in` on, (C, D, n), of these chains."""
        return np.stack([[losses for draw, losses in self.seen[name, chain].items()
                          if draw >= burn_in] for chain in chains])

    def check_memory(self, draws):
        """Raises UserError if `draws` of them do not fit this machine's memory."""
        for name, (_, parts) in self.sets.items():
            check_memory(f"observables[{name!r}] at {draws} draws", 8 * draws * len(parts[0]))


def named(observables) -> dict:
    """The observables; none for None. Raises UserError unless they are data by name."""
    if observables is None:
        return {}
    if not isinstance(observables, dict) or not all(isinstance(name, str) for name in observables):
        raise UserError("observables must be data by name, such as {'code': (xs, ys)}, not "
                        f"{type(observables).__name__}")
    return observables
