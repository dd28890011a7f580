"""Measurements that `make bench` stored in data/bench, as tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from companion import provenance
from companion.places import project_root
from companion.presets import PRESETS
from companion.runs import MANIFEST, RunKey
from devlib.errors import UserError
from devlib.sealed import read_sealed

DATA = project_root() / "data" / "bench"


def load(name) -> dict:
    """The measurement NAME. Raises UserError if it was never made."""
    path = DATA / f"{name}.json"
    if not path.exists():
        raise UserError(f"{path} is missing; `make bench` measures it")
    facts = json.loads(path.read_text())
    provenance.note_file(path, facts["made with"])
    return facts


def measured(name) -> bool:
    """Whether there is a measurement NAME."""
    return (DATA / f"{name}.json").exists()


def description(facts) -> str:
    """What made a measurement, for the line under a figure."""
    made, load_average = facts["made with"], facts["load average"]
    return (f"bench of {facts['date']} on one thread of {made['processor']}, torch "
            f"{made['torch']}, load average {load_average['before']:.1f} to "
            f"{load_average['after']:.1f}")


def overview() -> pd.DataFrame:
    """Every comparison that was measured, one row each: how many times less this library takes,
    the least and the most of what the median is of, and what was wanted. Ratios of the same
    machine's time, or of counted contexts, so that no processor's speed enters."""
    training, language, own = load("training"), load("language"), load("own_model")
    rows = [("update, regression", "plain torch", training["times as fast"])]
    rows += [(f"update, language, {name}", "TransformerLens 2.18", ratio)
             for name, ratio in language["times as fast"].items()]
    rows += [("SGLD step, 1,024", "devinterp 1.3.2",
              load("sgld")["speed-up"]["devinterp"] | {"bar": 2.0})]
    rows += [(f"step, own model, {int(batch):,}",
              {"devinterp": "devinterp 1.3.2", "canonical-interp": "canonical-interp 0.2.7"}[name],
              part["speed-up"][name] | {"bar": bar})
             for batch, part in _by_batch(own) for name, bar in own["bars"].items()]
    rows += [("LLC to 2%", "devinterp, paper's draws", _range(
        [row["ratio"] for row in load("precision")["checkpoints"]]) | {"bar": 50.0})]
    every = load("converged")["checkpoints"]
    there = [row["times less"] for row in every if row["precise"] and row["agree"]]
    rows += [(f"LLC at equilibrium, {len(there)} of {len(every)} that got there",
              "paper's draws, at rest", _range(there) | {"bar": 100.0})]
    rows += [("Hessian", "PyHessian 0.1", _range(
        [row["speed-up"] for row in load("hessian")["checkpoints"].values()]) | {"bar": 2.0})]
    return pd.DataFrame([{"work": work, "beside": beside, "times": ratio["median"],
                          "least": ratio["min"], "most": ratio["max"], "wanted": ratio["bar"]}
                         for work, beside, ratio in rows])


def _range(values) -> dict:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def operators(training) -> pd.DataFrame:
    """Where an update of the regression model spends its time: one row a kind of operator, with
    its calls an update and its share in per cent."""
    return pd.DataFrame([{"operators": kind, "calls": part["calls"], "share": 100 * part["share"]}
                         for kind, part in training["by operator"].items()])


def own_model(facts) -> pd.DataFrame:
    """One row a batch and library: CPU ms of a step on a model of a user's own, and how many times
    devlib's that is."""
    return pd.DataFrame([{
        "batch": int(batch), "contestant": name,
        **{key: cost[key] for key in ("median", "min", "max")},
        "times devlib": part["speed-up"].get(name, {}).get("median", np.nan)}
        for batch, part in _by_batch(facts) for name, cost in part["steps"].items()])


def _by_batch(facts):
    return sorted(facts["batches"].items(), key=lambda item: int(item[0]))


def steps(facts) -> pd.DataFrame:
    """One row a contestant: CPU ms a step, and how many times devlib's cost it is."""
    table = pd.DataFrame(facts["steps"]).T.rename_axis("contestant").reset_index()
    table[["median", "min", "max"]] = table[["median", "min", "max"]].astype(float)
    times = {name: value["median"] for name, value in facts["speed-up"].items()}
    table["times devlib"] = table.contestant.map(times)
    return table.drop(columns="rounds").sort_values("median", ignore_index=True)


def totals(facts) -> pd.DataFrame:
    """CPU seconds of an estimate at each checkpoint, both ways, with its standard error in
    per cent; devinterp's is scaled from a part."""
    rows = []
    for row in facts["checkpoints"]:
        ours, theirs = row["devlib"], row["devinterp"]
        rows.append({"step": row["step"], "way": "devlib, to 2 %", "llc": ours["llc"],
                     "error %": 100 * ours["mcse"] / ours["llc"],
                     "seconds": ours["cpu"]["total"], "times": 1.0})
        error = row["paper's error"]["by effective draws"]
        rows.append({"step": row["step"], "way": "devinterp, the paper's settings",
                     "llc": np.nan, "error %": 100 * error / ours["llc"],
                     "seconds": theirs["cpu"]["total"], "times": row["ratio"]})
    return pd.DataFrame(rows)


def converged(facts) -> pd.DataFrame:
    """One row a checkpoint: the LLC of chains from w0 and from the prior, whether both are one and
    known to the precision, and what that cost in thousands of contexts."""
    return pd.DataFrame([{
        "step": row["step"], "from w0": row["from w0"]["llc"],
        "from the prior": row["from prior"]["llc"], "both": row["both"]["llc"],
        "mcse": row["both"]["mcse"], "step bias": row["step bias"], "draws": row["draws"],
        "warm up": row["warmed up"],
        "converged": "yes" if row["precise"] and row["agree"] else "no",
        "contexts": row["contexts"] / 1e3, "times less": row["times less"]}
        for row in sorted(facts["checkpoints"], key=lambda row: row["step"])])


def batches(facts) -> pd.DataFrame:
    """One row a checkpoint and batch: the estimate, and its difference from the largest batch's
    with the same noise."""
    return pd.DataFrame([{"step": row["step"], **batch} for row in facts["checkpoints"]
                         for batch in row["batches"]])


def ladders(facts) -> dict:
    """Panel -> label -> table of size, cost and fitted power."""
    def curve(name):
        ladder = facts[name]
        size = np.array(ladder["sizes"], float)
        cost = np.array([cost["median"] for cost in ladder["cost"]])
        slope = ladder["exponent"]["slope"]
        level = np.log(cost).mean() - slope * np.log(size).mean()
        return pd.DataFrame({"size": size, "cost": cost, "fit": np.exp(level) * size**slope})

    return {"parameters": {"of width 16 to 256": curve("parameters")},
            "batch (samples)": {"one chain": curve("batches")},
            "chains": {"one by one, compiled": curve("chains one by one"),
                       "together, by vmap": curve("chains together")}}


def long(ladders) -> pd.DataFrame:
    """The curves of `ladders` in one table."""
    return pd.concat([curve.assign(ladder=ladder, curve=label)
                      for ladder, curves in ladders.items() for label, curve in curves.items()])


def exponents(facts) -> pd.DataFrame:
    """The exponent of each ladder with its standard error."""
    names = ("parameters", "batches", "chains one by one", "chains together")
    return pd.DataFrame([{"ladder": name, "exponent": facts[name]["exponent"]["slope"],
                          "error": facts[name]["exponent"]["error"]} for name in names])


def hessians(facts) -> pd.DataFrame:
    """CPU seconds of the Hessian's trace and largest eigenvalues at each checkpoint, both ways:
    PyHessian's by part, with the probes that the trace takes and how far the worst eigenvalue is
    from a converged one, in per cent."""
    rows = []
    for step, row in facts["checkpoints"].items():
        theirs = row["PyHessian"]
        parts = {part: theirs["cpu"][part] for part in ("trace", "eigenvalues", "total")}
        rows.append({"step": int(step), "devlib": row["devlib"]["cpu"], **parts,
                     "probes": theirs["probes needed"],
                     "off %": 100 * theirs["eigenvalues"][-1]["worst error"],
                     "times": row["speed-up"]})
    return pd.DataFrame(rows).sort_values("step", ignore_index=True)


def traces(facts) -> pd.DataFrame:
    """Distance from the trace, root mean square in per cent, one row a checkpoint and number of
    products H v, one column a method."""
    return pd.DataFrame([
        {"step": int(step), "products": int(products)} | {
            name: 100 * found[products]["rms"] for name, found in row["methods"].items()}
        for step, row in facts["checkpoints"].items()
        for products in next(iter(row["methods"].values()))]
    ).sort_values(["step", "products"], ignore_index=True)


def pilots() -> pd.DataFrame:
    """The short language runs (`python -m tests.bench pilots`), one row a look, with the tokens
    read up to there. Raises UserError if they were never made."""
    path = DATA / "pilots.csv"
    if not path.exists():
        raise UserError(f"{path} is missing; python -m tests.bench pilots makes it")
    provenance.note_file(path)
    table = pd.read_csv(path)
    return table.assign(tokens=table.step * table.batch * table.context)


def cores(facts) -> pd.DataFrame:
    """One row a way to share the work out: wall seconds of the curve, and how many times as fast as
    one process that is."""
    return pd.DataFrame([{
        "processes": f"{facts['cores']} dask workers" if way == "cluster" else way,
        **{key: seconds[key] for key in ("median", "min", "max")},
        "times": facts["times as fast"].get(way, {}).get("median", np.nan)}
        for way, seconds in facts["seconds"].items()])


def minutes(root) -> pd.DataFrame:
    """Minutes of each part of the stored tables below `root`, the mean over seeds, one
    column a preset."""
    rows = []
    for path in sorted(Path(root).glob(f"*/*/{MANIFEST}")):
        run = read_sealed(path)  # no table is read, and so none noted as a page's source
        name = RunKey.parse(path.parent.parent.name, path.parent.name).stem
        rows += [{"tables": name, "part": part, "preset": run["preset"], "minutes": seconds / 60}
                 for part, seconds in run["seconds"].items()
                 if seconds >= 1]  # less is what an earlier command had left to do
    return _by_preset(pd.DataFrame(rows).pivot_table(
        "minutes", ["tables", "part"], "preset")).rename_axis(columns=None).reset_index()


def memory(facts) -> pd.DataFrame:
    """Peak MB of a process: one row a kind of work, one column a preset."""
    return _by_preset(pd.DataFrame(facts["peak MB"]).T).rename_axis("peak MB").reset_index()


def _by_preset(table) -> pd.DataFrame:
    """The columns of a table in the order of the presets."""
    return table[[name for name in PRESETS if name in table]]
