"""What the page on what the curve measures works out from its tables, and the released runs' curves
that it is held against (data/released)."""

import numpy as np
import pandas as pd

from companion.claims.table_rows import MATCH, matched
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


def added_by_the_llc(rows: dict) -> pd.DataFrame:
    """One row a run of `rows`, {run: {curve: steps of its plateaus}}: how many plateaus its LLC
    has, how many of them the loss alone and the norm alone have too (`matched`, one to one), how
    many would be near one of the loss's wherever they lay, and those that neither has."""
    return pd.DataFrame([{"run": run, **_added({name: sorted(map(int, steps))
                                                for name, steps in row.items()})}
                         for run, row in rows.items()])


def _added(row):
    llc, loss = row["llc"], row["nbeta (c - loss)"]
    found = [matched(other, llc) for other in (loss, row["weight norm, scaled"])]
    grid = np.linspace(np.log1p(llc[0]), np.log1p(llc[-1]), 10_001) if llc else np.zeros(1)
    near = np.abs(grid[:, None] - np.log1p(loss)) < np.log(MATCH)
    return {"plateaus": len(llc), "in the loss": len(found[0]),
            "by chance": len(llc) * float(near.any(1).mean()), "in the norm": len(found[1]),
            "in neither": ", ".join(f"{step:,}" for step in llc
                                    if not any(step in one for one in found)) or "none"}
