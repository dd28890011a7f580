"""What the page on what the curve measures works out from its tables, and the released runs' curves
that it is held against (data/released)."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from companion.claims import seeds
from companion.claims.interval import TAIL, Z
from companion.claims.table_rows import MATCH, matched
from companion.long_chains import FROM_PRIOR, scatter_error
from companion.places import project_root
from companion.seeds import beside_released
from devlib.boundaries import Rule
from devlib.stages import PAPER_STAGE_ENDS

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


def beside_seeds(rows: pd.DataFrame, evaluation: pd.DataFrame) -> pd.DataFrame:
    """The LLC of our run beside the released five: step, ours, error, released, off (by how many
    standard deviations of the released seeds), low and high (the 95% prediction interval for one
    more run, joined with our error), within it or not, and at_norm: the released mean where the
    released mean norm is what ours is at this step, NaN before LR3, where the norm hardly grows,
    and where no released norm is as large. `rows`: step, llc and error, as
    companion.long_chains.as_published has them; `evaluation` has the norm."""
    found = beside_released({0: rows.assign(llc_se=rows.error)}, "llc", rows.step)
    if found.empty:  # no chains, or none at a step of the released runs
        return found
    found = found.assign(off=(found.ours - found.released) / found.released_sd,
                         within=found.ours.between(found.low, found.high))
    found = found[["step", "ours", "released", "off", "low", "high", "within"]]
    found.insert(2, "error", rows.set_index("step").error[found.step].to_numpy())
    norms, llcs = seeds.curve("weight_norm"), seeds.curve("llc")
    ours = evaluation.set_index("step").weight_norm.reindex(found.step)
    there = np.interp(ours, norms["mean"], llcs["mean"], right=np.nan)
    return found.assign(at_norm=np.where(found.step > PAPER_STAGE_ENDS["LR"]["LR2"], there, np.nan))


PARTS = 4  # of long chains after their first: as many relaxations of the spring as the paper's have


def settled(climb: pd.DataFrame, first) -> pd.DataFrame:
    """The LLC of long chains from w0 after so many draws: step, llc, error and `rests`, whether
    they are at rest. The error is that of the mean of PARTS parts of what is left, each as long as
    the spring's memory, so that slow directions are in it, widened by Student's t. They are at
    rest if the first quarter of it is where the second half wants it (`at_rest`): the mean of
    chains that still climb is no level, however large its error. `climb`: block means along the
    chains (companion.protocols.climb_rows)."""
    rows = []
    for step, part in climb[(climb.start == "w0, long") & (climb.draw > first)].groupby("step"):
        means = _means(part.llc, PARTS)
        rows.append({"step": step, "llc": part.llc.mean(),
                     "error": np.std(means, ddof=1) / PARTS**0.5 * stdtrit(PARTS - 1, TAIL) / Z,
                     "rests": at_rest(_means(part.llc, 2 * PARTS))})
    return pd.DataFrame(rows, columns=["step", "llc", "error", "rests"])


def _means(values, parts):
    return np.array([part.mean() for part in np.array_split(values.to_numpy(), parts)])


def at_rest(means) -> bool:
    """Whether the mean of the first quarter of such parts of a chain lies in the 95% prediction
    interval from those of the second half."""
    first, last = means[:len(means) // 4], means[len(means) // 2:]
    reach = np.std(last, ddof=1) * (1 / len(first) + 1 / len(last)) ** 0.5
    return bool(abs(first.mean() - last.mean()) <= stdtrit(len(last) - 1, TAIL) * reach)


def long_starts(estimates: pd.DataFrame, climb: pd.DataFrame, first) -> pd.DataFrame:
    """Both starts in long chains, `with_meeting`, as rows of estimates: from w0 the `settled` ones,
    from the prior those of the part that is named so. Two whose first is not at rest do not meet.
    Empty where a preset runs none."""
    prior = estimates[estimates.protocol == FROM_PRIOR]
    if prior.empty:
        return prior
    w0 = settled(climb, first).rename(columns={"error": "mcse"}).assign(
        start="w0", chain_sd=0.0, chains=1)
    both = with_meeting(pd.concat([w0[w0.step.isin(prior.step)], prior], ignore_index=True))
    climbing = w0.step[~w0.rests]
    return both.assign(meet=both.meet & ~both.step.isin(climbing)).drop(columns="rests")


def short_of(settled: pd.DataFrame, short: dict) -> pd.DataFrame:
    """How far other chains are from where long ones settle: step, long and its error, and for each
    name -> table with step, llc and error how far it is off (a column of the name) and "NAME, in
    errors", its own and the long chains' together."""
    found = settled.rename(columns={"llc": "long"})
    for name, table in short.items():
        there = table.set_index("step").reindex(found.step).reset_index()
        off = there.llc - found.long
        found[name] = off
        found[f"{name}, in errors"] = off / np.hypot(there.error, found.error)
    return found


def with_meeting(rows: pd.DataFrame, by=("step",)) -> pd.DataFrame:
    """The rows of estimates from two starts with a column `meet`: whether they are within APART
    combined standard errors of one another (companion.long_chains.scatter_error)."""
    rows = rows.assign(error=scatter_error(rows))
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
