"""Essential dynamics: the path of a model's outputs through function space (the abstract's
function-space method).

At each checkpoint the outputs on one fixed probe set are a point; the principal components of all
points show the path in few dimensions. Where the path turns back along a component, training
changes what it does.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import find_peaks

from devlib.errors import UserError
from devlib.settings import StageSettings
from devlib.stages import smooth
from devlib.steps import nearest

PROMINENCE = 0.25  # of a component's standard deviation: what counts as turning back


@dataclass(frozen=True)
class Path:
    """Scores of S checkpoints on C components, in the units of an output (root mean square over
    the probe set), and the share of the variance that each component explains."""

    steps: np.ndarray  # (S,)
    scores: np.ndarray  # (S, C)
    explained: np.ndarray  # (C,)

    def tables(self) -> dict:
        """"path", as `table`, and "explained", one row a component."""
        numbers = range(1, len(self.explained) + 1)
        return {"path": self.table(),
                "explained": pd.DataFrame({"component": numbers, "explained": self.explained})}

    def table(self) -> pd.DataFrame:
        """step, pc_1, pc_2, ..."""
        names = [f"pc_{i}" for i in range(1, self.scores.shape[1] + 1)]
        return pd.DataFrame(self.scores, columns=names).assign(step=self.steps)[["step", *names]]


def principal_path(steps, outputs, components=4) -> Path:
    """Principal components of outputs (S, N) over checkpoints, each component's sign such that
    the path ends at or above zero.

    The mean over checkpoints is taken out; N outputs count 1/N each, so that the scores' squares
    sum to a mean square. Raises UserError if there are fewer checkpoints than components + 1.
    """
    outputs = np.asarray(outputs, float).reshape(len(steps), -1)
    if len(steps) <= components:
        raise UserError(f"{components} components need more than {components} checkpoints, "
                        f"not {len(steps)}")
    centred = (outputs - outputs.mean(0)) / outputs.shape[1] ** 0.5
    left, sigma, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :components] * sigma[:components]
    scores *= np.where(scores[-1] < 0, -1, 1)
    total = max(float((sigma**2).sum()), np.finfo(float).tiny)
    return Path(np.asarray(steps), scores, sigma[:components] ** 2 / total)


def turning_points(steps, scores, settings: StageSettings = StageSettings()) -> list[int]:
    """Checkpoints where a component (S,) turns back: peaks and valleys of its curve in
    log(step + 1), smoothed as the stage boundaries' is, that stand out by PROMINENCE of the
    component's standard deviation over the run. Smaller ones are what updates do from one
    checkpoint to the next, for the outputs themselves carry no sampling error."""
    spread = np.std(scores)
    if not spread > 0:
        return []
    curve = smooth(steps, np.asarray(scores) / spread, settings)
    found = np.concatenate([find_peaks(sign * curve.mean, prominence=PROMINENCE)[0]
                            for sign in (1, -1)])
    return [int(curve.steps[i]) for i in sorted(found)]


def nearest_boundaries(path: pd.DataFrame, boundaries, settings: StageSettings = StageSettings(),
                       components=3) -> pd.DataFrame:
    """Every turning point of a path's first components, one row each: component, the step it
    turns at, the boundary that is nearest to it in log(step + 1), and the factor between the two
    (NaN without boundaries)."""
    rows = []
    for number in range(1, components + 1):
        for step in turning_points(path.step, path[f"pc_{number}"], settings):
            boundary = nearest(boundaries, step, log=True)
            rows.append({"component": number, "turns at": step, "boundary": boundary,
                         "factor": step / boundary})
    return pd.DataFrame(rows, columns=["component", "turns at", "boundary", "factor"])
