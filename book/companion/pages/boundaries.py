"""What stage boundaries owe to the choices behind them: one change at a time (B.1), and beside
the paper's."""

from dataclasses import replace

import numpy as np
import pandas as pd

from devlib.boundaries import NOISES, Rule
from devlib.steps import nearest


def sensitivity(llc: pd.DataFrame, rule: Rule = Rule()) -> pd.DataFrame:
    """The boundaries under one changed choice at a time: choice, value, count, boundaries (steps,
    spaced). The first row is the rule itself."""
    settings = rule.settings
    trials = [("as it stands", "", rule)]
    trials += [("tolerance", f"{factor * settings.tolerance:g}",
                replace(rule, settings=replace(settings, tolerance=factor * settings.tolerance)))
               for factor in (0.25, 0.5, 2.0)]
    trials += [("least length scale", f"{factor * settings.length_low:g}",
                replace(rule, settings=replace(
                    settings, length_low=factor * settings.length_low,
                    length=max(settings.length, factor * settings.length_low))))
               for factor in (0.5, 2.0)]
    trials += [("checkpoints", f"every {n}", replace(rule, every=n)) for n in (2, 4)]
    trials += [("noise", noise, replace(rule, noise=noise))
               for noise in NOISES if noise != rule.noise]
    trials += [("axis", "t", replace(rule, axis="t")),
               ("start", "steep only", replace(rule, gentle=False))]
    rows = []
    for choice, value, trial in trials:
        found = trial.boundaries(trial.curve(llc))
        rows.append({"choice": choice, "value": value, "count": len(found),
                     "boundaries": " ".join(map(str, found))})
    return pd.DataFrame(rows)


def beside_paper(found: list[int], paper: dict, last) -> pd.DataFrame:
    """Each of the paper's boundaries within the run with the found one nearest in log(step + 1):
    stage, paper, found, factor (found over paper)."""
    rows = []
    for stage, step in paper.items():
        if step < last:
            ours = nearest(found, step, log=True) if found else None
            rows.append({"stage": stage, "paper": step, "found": ours,
                         "factor": np.nan if ours is None else ours / step})
    return pd.DataFrame(rows, columns=["stage", "paper", "found", "factor"])
