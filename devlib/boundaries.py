"""Stage boundaries by a rule, and what they owe to the noise of the estimates (B.1).

The paper names four choices: the checkpoints, the smoothing, log t or t, and the tolerance. Each
`Rule` is one set of them; `bootstrap` draws the curve anew from its chains.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from devlib.errors import UserError
from devlib.rng import stream_seed
from devlib.settings import StageSettings
from devlib.stages import NEAR, SmoothCurve, by_step, local_plateaus, moved, slope, smooth
from devlib.steps import apart, nearest

NOISES = ("errors", "none", "fitted")


@dataclass(frozen=True)
class Rule:
    """How boundaries are read off a curve. `noise` is the Gaussian process's: the estimates' own
    standard errors, none (the authors' choice), or a level fitted with the kernel. `every` takes
    each n-th checkpoint. `axis` is what the slope is taken with respect to: "log t", or "t" with
    a tolerance per step that agrees at `meet` steps. `gentle` says whether a curve that leaves
    its start without ever being steeper than the tolerance has begun (devlib.stages)."""

    settings: StageSettings = StageSettings()
    noise: str = "errors"
    every: int = 1
    axis: str = "log t"
    meet: int = 40_000  # about the end of LR2, where the curve turns
    gentle: bool = True

    def curve(self, llc: pd.DataFrame, kernel=None) -> SmoothCurve:
        """The smoothed curve of a table with columns step, llc, mcse; `kernel` as for `smooth`.
        Raises UserError for a noise that there is not, and for what `smooth` refuses."""
        if self.noise not in NOISES:
            raise UserError(f"noise must be one of {', '.join(NOISES)}, not {self.noise!r}")
        llc = llc.iloc[by_step(llc.step)]  # before rows are left out
        last = len(llc) - 1
        kept = llc.iloc[sorted({*range(0, len(llc), self.every), last})]
        return smooth(kept.step, kept.llc, self.settings, fit_noise=self.noise == "fitted",
                      errors=kept.mcse if self.noise == "errors" else None, kernel=kernel)

    def boundaries(self, curve: SmoothCurve) -> list[int]:
        """Boundary steps of a smoothed curve. Raises UserError for an axis that there is not."""
        if self.axis not in ("log t", "t"):
            raise UserError(f"axis must be 'log t' or 't', not {self.axis!r}")
        log, tolerance = self.axis == "log t", self.settings.tolerance
        return local_plateaus(
            curve.steps, curve.slope if log else slope(curve.steps, curve.mean, log=False),
            tolerance if log else tolerance / self.meet, moved(curve, tolerance) & self.gentle)


def bootstrap(llc: pd.DataFrame, rule: Rule = Rule(), repetitions=200, seed=0,
              near=NEAR) -> pd.DataFrame:
    """How far each boundary moves with the chains: boundary, share of the repetitions that find
    it again (within `near` in log(step + 1)), and the 5th and 95th percentile of where.

    Every repetition draws the chains (columns chain_0, chain_1, ...) anew with replacement, the
    same ones at all checkpoints, as chain k has the same batches and noise at each (A.5.2), and
    smooths their mean with the kernel that fits the curve itself. A chain that diverged at any
    checkpoint is left out. The percentiles are of the repetitions that find the boundary, so
    where the share is below 1 they say less than an interval of that level. Raises UserError if
    fewer than three chains are left.
    """
    chains = llc.filter(regex=r"^chain_\d+$").to_numpy()
    whole = ~np.isnan(chains).any(0)
    if whole.sum() < 3:
        raise UserError(f"a bootstrap needs at least 3 chains that diverge nowhere, not "
                        f"{whole.sum()} of {len(whole)}")
    chains = chains[:, whole]
    curve = rule.curve(llc)
    gen, count = np.random.default_rng(stream_seed(seed, "bootstrap")), chains.shape[1]
    means = (chains[:, gen.integers(0, count, count)].mean(1) for _ in range(repetitions))
    found = [rule.boundaries(rule.curve(llc.assign(llc=mean), curve.kernel)) for mean in means]
    rows = []
    for boundary in rule.boundaries(curve):
        again = [nearest(steps, boundary, log=True) for steps in found if steps]
        where = [step for step in again if apart(step, boundary) <= near]
        low, high = np.percentile(where, [5, 95]) if where else (np.nan, np.nan)
        rows.append({"boundary": boundary, "found": len(where) / repetitions, "low": low,
                     "high": high})
    return pd.DataFrame(rows, columns=["boundary", "found", "low", "high"])
