"""The authors' five released seeds of the regression model, at the steps that the ledger judges
(data/released/seeds.csv) and as curves to draw (data/released/curves.csv), and the curves of their
one run of each language model (data/released/language.csv); data/README.md says where they come
from. The curves have the names of our own tables' columns."""

import functools

import numpy as np
import pandas as pd

from companion.places import project_root
from devlib.errors import UserError

SEEDS = [f"seed_{number}" for number in range(5)]


def of_seeds(curve, step=None, start=None) -> np.ndarray:
    """The five seeds' values (5,) of a curve at a step, or their changes from `start` to it; of a
    statistic of the whole run, such as `late_icl_rise`, without a step. A seed in which there was
    nothing to find is left out. Raises UserError for a value that the file does not have."""
    values = _row(curve, step)
    if start is not None:
        values = values - _row(curve, start)
    return values[np.isfinite(values)]


def _row(curve, step):
    table = _seeds()
    rows = table[(table.curve == curve) & (table.step.isna() if step is None
                                           else table.step == step)]
    if len(rows) != 1:
        raise UserError(f"data/released/seeds.csv has no {curve} of step {step}")
    return rows[SEEDS].to_numpy(float)[0]


def curve(name, last=None, of="regression") -> pd.DataFrame:
    """step, mean, sd, least, greatest of the five seeds; up to the step `last`. `of` a language
    model ("language-2layer" or "language-1layer"), of which one run is released, step and mean.
    Raises UserError for a curve that the files do not have."""
    table = _curves() if of == "regression" else _language(of)
    found = table[(table.curve == name) & (table.step <= (np.inf if last is None else last))]
    if found.empty:
        raise UserError(f"no curve {name} of {of} is among the released ones (data/released)")
    return found.drop(columns="curve").reset_index(drop=True)


def released_at(name, step, of="regression") -> float:
    """A released curve at a step, straight between its own steps in log(step + 1). The errors are
    those of `curve`."""
    found = curve(name, of=of)
    return float(np.interp(np.log1p(step), np.log1p(found.step), found["mean"]))


@functools.cache
def _seeds():
    return pd.read_csv(project_root() / "data" / "released" / "seeds.csv")


@functools.cache
def _curves():
    return pd.read_csv(project_root() / "data" / "released" / "curves.csv")


@functools.cache
def _language(of):
    table = pd.read_csv(project_root() / "data" / "released" / "language.csv")
    return table[table.model == of].drop(columns="model").rename(columns={"value": "mean"})
