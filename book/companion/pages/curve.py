"""What the page on what the curve measures works out from its tables, and the released runs' curves
that it is held against (data/released)."""

import numpy as np
import pandas as pd

from companion.places import project_root
from devlib.boundaries import Rule

APART = 3.0  # standard errors from which two starts do not meet
RELEASED = project_root() / "data" / "released"


def released(curve) -> pd.DataFrame:
    """step, mean, sd, least, greatest over the released runs, of a curve of
    data/released/chain_loss.csv; the last three are empty where one run was released."""
    table = pd.read_csv(RELEASED / "chain_loss.csv")
    return table[table.curve == curve].reset_index(drop=True)


def released_plateaus() -> pd.DataFrame:
    """curve, seed, value, boundaries: correlations and plateaus of the released curves."""
    return pd.read_csv(RELEASED / "plateaus.csv", dtype={"boundaries": str}).fillna(
        {"boundaries": ""})


def chain_loss(llc: pd.DataFrame, nbeta) -> pd.DataFrame:
    """step, loss of the model (`init_loss`) and mean loss of its chains, L(w0) + llc / nbeta."""
    return pd.DataFrame({"step": llc.step, "loss": llc.init_loss,
                         "chain_loss": llc.init_loss + llc.llc / nbeta})


def with_meeting(rows: pd.DataFrame, by=("step",)) -> pd.DataFrame:
    """The rows of estimates from two starts with a column `meet`: whether they are within APART
    combined standard errors of one another. Where the chains' means scatter by more than their
    MCSE says, the scatter is the error."""
    rows = rows.copy()
    rows["error"] = np.maximum(rows.mcse, rows.chain_sd / rows.chains**0.5)
    for _, part in rows.groupby(list(by)):
        error = np.sqrt((part.error**2).sum())
        rows.loc[part.index, "meet"] = bool(np.ptp(part.llc) <= APART * error)
    return rows.assign(meet=rows.meet.astype(bool))


def with_retained(rows: pd.DataFrame, reference) -> pd.DataFrame:
    """The rows with a column `retained`, the share of what the model knows that its chains keep
    (devlib.llc.LLC.retained), against the loss of a predictor that knows nothing; NaN where the
    model is hardly better than that, by less than a twentieth."""
    knows = reference - rows.init_loss
    share = 1 - (rows.chain_loss - rows.init_loss) / knows
    return rows.assign(retained=share.where(knows > reference / 20))


def plateaus(steps, curves: dict, rule: Rule) -> dict[str, list[int]]:
    """The boundaries that the plateau rule finds on each curve, its error 1 as for the released
    ones. A curve of another unit is scaled to the range of the first."""
    first = next(iter(curves.values()))
    found = {}
    for name, (values, scaled) in curves.items():
        if scaled:
            values = values * (np.ptp(first[0]) / np.ptp(values))
        table = pd.DataFrame({"step": steps, "llc": values, "mcse": 1.0})
        found[name] = rule.boundaries(rule.curve(table))
    return found
