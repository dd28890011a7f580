# ---
# jupyter:
#   accelerator: GPU
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
import importlib
import subprocess
import sys

if "google.colab" in sys.modules:  # fetch what this page needs; elsewhere, do nothing
    subprocess.run("test -d stagewise || git clone -qn --filter=blob:none https://github.com/devlib-companion/stagewise stagewise && git -C stagewise checkout -q main", shell=True, check=True)  # noqa: E501
    sys.path[:0] = ["stagewise", "stagewise/book"]
    importlib.import_module("companion.site.page_ends").begin()

# %% [markdown]
# # More seeds
#
# B.4 and Fig. B.3b of the paper: the same curves for every run that there is, with other initial weights
# and other batches, and for both readings of the residual stream. The authors' released code doubles the
# stream in every block, $x' = 2x + \text{attn} + \text{mlp}$. The paper's text describes the standard
# one, $x' = x + \text{attn} + \text{mlp}$. Both are run here.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # with recompute: the run that is computed before all are shown
recompute: bool = False  # compute anew instead of reading stored tables
residual: str = "doubled"  # with recompute: that run's residual stream, or standard
reuse: bool = False  # with recompute: measure committed checkpoints, train nothing

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, results
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.verdicts import say
from companion.figures_released import behind
from companion.pages import more_seeds
from companion.pages.boundaries import beside_paper
from companion.paper_stages import find_named, match, paper_ends
from companion.seeds import at_steps, beside_released, spread
from companion.shown_tables import show_table
from companion.summary import summary
from companion.tabs import tab

own = {(residual, seed): results.regression(preset, seed, recompute, residual, reuse)
       } if recompute else {}
runs = {
    key: results.regression(preset, key[1], False, key[0])
    for key in results.finished_runs(preset)
} | own  # what was just computed, before stored
first = next(iter(runs.values()))
evaluations = {
    number: run["evaluation"]
    for (kind, number), run in (results.evaluated_runs(preset) | own).items()
    if kind == "doubled"
}
rule = results.regression_settings(preset).stages
found = {
    key: find_named(run["llc"], run["evaluation"], rule) for key, run in runs.items()
}
paper = {stage: end for stage, end in paper_ends().items() if end < 500_000}
matched = {key: len(match(boundaries, {name: step for name, step in paper.items()
                                       if step < curve.steps[-1]}))
           for key, (curve, boundaries, _) in found.items()}

# %% tags=["summary", "remove-input"]
summary(
    "Five seeds of the regression model show the same stages (B.4, Fig. B.3b).",
    [
        f"{len(runs)} of ten runs (five seeds, two residual streams) are here at the "
        f"preset {preset}: "
        + "; ".join(
            f"{kind}, seed {number}, to step {run['evaluation'].step.max():,}"
            for (kind, number), run in runs.items()
        )
        + ".",
        "Boundaries that are the paper's: "
        + "; ".join(
            f"{count} in the {kind} run of seed {number}"
            for (kind, number), count in matched.items()
        )
        + ".",
    ],
    "LR-15",
    regression=first,
    others=runs.values(),
)

# %% [markdown]
# ## Loss and LLC of every run
#
# The bands are the stages of the first run in the list; grey are the authors' five released seeds, their mean and
# range.

# %% tags=["tabs"] mystnb={"image": {"alt": "LLC and test loss over training, one curve a run, by log and by linear time"}}
def joined(table, column):
    """One column a run."""
    tables = [run[table].set_index("step")[column].rename(f"{kind}, seed {number}")
              for (kind, number), run in runs.items()]
    return pd.concat(tables, axis=1).reset_index()


description = f"{preset} preset, all runs"
stages = found[next(iter(found))][2]
for name, table, column in (("LLC", "llc", "llc"), ("test loss", "evaluation", "loss")):
    both = joined(table, column)
    for linear in (False, True):
        tab(f"{name}, linear time" if linear else name)
        fig = draw.curves({name: both}, stages, {"LLC": "LLC (no unit)"}.get(
            name, "squared target units"), columns=1, height=3.6, linear=linear)
        behind(fig.axes[0], column)
        figures.show(fig, both, f"{column}_linear" if linear else column, description)

# %% [markdown]
# ## Boundaries
#
# Each run's boundaries by the same rule. Beside each of the paper's four stands the found one that is nearest on
# the log scale, and by what factor it is off.

# %%
tables = []
for (kind, number), (curve, boundaries, _) in found.items():
    print(f"{kind}, seed {number}: boundaries",
          ", ".join(f"{b:,}" for b in boundaries) or "none")
    beside = beside_paper(boundaries, paper, curve.steps[-1])
    tables.append(beside.assign(residual=kind, seed=number))
nearest = pd.concat(tables)
show_table(nearest[["residual", "seed", "stage", "paper", "found", "factor"]],
           "Nearest boundary to each of the paper's", digits={"factor": 2, "found": 0})
if len(runs) > 1:
    show_table(nearest.groupby("stage").factor.agg(["count", "min", "max"]),
               "Spread of the factor over the runs", index=True, digits=2)

# %% [markdown]
# ## Beside the released five seeds
#
# LLC, test loss and weight norm at the paper's stage ends, each with our error, beside the interval in which the
# authors' five released seeds want one more run.

# %%
for (kind, number), run in (results.evaluated_runs(preset) | own).items():
    print(f"{kind} residual stream, seed {number}:")
    show("LR-1", "LR-3", "LR-12", regression=run)

# %%
show("LR-15", regression=first, others=runs.values())

# %% [markdown]
# ## The LLC by chains of the paper's length
#
# The curves above come from chains of at most 1,000 draws. At some checkpoints of each seed chains of 5,000 draws
# were run too, all of them averaged, as the released LLC was made ([what the curve measures](16_what_the_curve_measures)
# says what that number is). The grey band is where the five released seeds want one more run.

# %% mystnb={"image": {"alt": "LLC by chains of the paper's length, less the mean of the released seeds, over log and linear time: a point with its error for each of our seeds, and the band in which one more run is expected"}}
long = more_seeds.long_llcs(preset)
by_long = more_seeds.departures(long, ("llc",))
if len(by_long):
    figures.show(more_seeds.by_long_chains(by_long), by_long, "llc_long_chains",
                 f"{preset} preset, doubled stream")
    table = beside_released(long, "llc", sorted(by_long.step.unique()))
    values = table.columns.drop(["step", "seeds", "outside", "spread_p"])
    show_table(table, "LLC of our seeds beside the released five",
               digits=dict.fromkeys(values, 1) | {"spread_p": 3})
    out = table[(table.ours < table.low) | (table.ours > table.high)]
    say("LLC by long chains: the mean of our seeds is out of its interval at",
        ", ".join(f"{step:,}" for step in out.step) or "none",
        "of the", len(table), "steps")
else:
    print("this preset has no chains of the paper's length at its steps")

# %% [markdown]
# ## Late in training: another recipe, or a seed?
#
# Loss and norm of every seed of ours in the doubled stream, those without an LLC curve among them, beside the
# released five. The grey band is where the five want one more run, at 95% at each step by itself: neighbouring steps
# share their noise, so that a line which leaves it once in a while says little, and one that stays out was made
# another way or is rare. The mean of our seeds is judged by the narrower interval for a mean of so many.

# %% mystnb={"image": {"alt": "Weight norm over the mean of the released seeds, and test loss less their mean, over training: a line for each of our seeds, and the band in which one more run is expected"}}
apart = more_seeds.departures(evaluations)
if len(apart):
    fig = more_seeds.late(apart, first=int(apart.step.max() // 20))
    figures.show(fig, apart, "departures", f"{preset} preset, doubled stream")
else:
    print("this preset's checkpoints are not at the paper's steps")

# %%
LATE = (984, 4_232, 10_101, 40_404, 60_606, 75_757, 90_909, 126_262, 217_171, 318_181,
        499_999)
for column, name, digits in (("weight_norm", "norm of the weights", 1),
                             ("loss", "test loss", 3)):
    table = beside_released(evaluations, column, LATE)
    if table.empty:
        continue
    values = table.columns.drop(["step", "seeds", "outside", "spread_p"])
    show_table(table, f"Our seeds beside the released five: {name}",
               digits=dict.fromkeys(values, digits) | {"spread_p": 3})
    out = table[(table.ours < table.low) | (table.ours > table.high)]
    say(f"{name}: the mean of our {table.seeds.max()} is out of its interval at",
        ", ".join(f"{step:,}" for step in out.step) or "none",
        "of the", len(table), "steps")

# %% [markdown]
# ## All five seeds, through the first stage
#
# A full run takes hours. The first 6,300 of the same 500,000 steps, which hold LR1 and the climb of LR2 (preset
# `laptop`), take minutes, and are here with the paper's five seeds and both residual streams. Thin lines are
# seeds, the thick one is their mean.

# %% mystnb={"image": {"alt": "LLC over the first 6,300 steps, doubled and standard residual stream side by side, one curve a seed"}}
short = {key: results.regression("laptop", key[1], False, key[0])
         for key in results.finished_runs("laptop")}
panels = {}
for kind in dict.fromkeys(kind for kind, _ in short):
    curves = {f"seed {number}": run["llc"].set_index("step").llc
              for (other, number), run in short.items() if other == kind}
    panels[f"{kind} residual"] = pd.DataFrame(curves).reset_index()
firsts = {key: find_named(run["llc"], run["evaluation"],
                          results.regression_settings("laptop").stages)[1:]
          for key, run in short.items()}
threads = {
    name: table.drop(columns="step").to_numpy() for name, table in panels.items()
}
fig = draw.threads(
    threads,
    next(iter(panels.values())).step,
    next(iter(firsts.values()))[1],
    "LLC (no unit)",
    columns=2,
    share=True,
)
data = pd.concat(panels, names=["residual"]).reset_index("residual")
figures.show(fig, data, "llc_short", "laptop preset, all seeds")

# %% [markdown]
# Each run's boundary nearest to the paper's first one, at 1,000; none where the slope nowhere falls below the
# tolerance between the two climbs.

# %%
firsts_found = pd.DataFrame(
    [
        {
            "residual": kind,
            "seed": number,
            "found": "none" if pd.isna(found) else f"{found:,.0f}",
        }
        for (kind, number), (boundaries, _) in firsts.items()
        for found in beside_paper(boundaries, {"LR1": paper["LR1"]}, 6_300).found
    ]
)
table = firsts_found.pivot(index="residual", columns="seed", values="found")
show_table(
    table.add_prefix("seed "),
    "The boundary nearest to the paper's first, by seed",
    index=True,
)

# %% [markdown]
# What the runs say at their checkpoints 984 and 6,299, each number with its error, and the seeds of each residual
# stream together:

# %%
said = at_steps(short, (984, 6_299))
show_table(said, "Each run at two checkpoints",
           digits={"loss": 3, "loss_se": 3, "weight_norm": 2, "llc": 1, "mcse": 1})
together = spread(said)
for column, digits in (("llc", 1), ("loss", 3), ("weight_norm", 2)):
    names = {f"{column}_{name}": name for name in ("mean", "sd", "least", "greatest")}
    show_table(
        together[["residual", "step", "seeds", *names]].rename(columns=names),
        f"{column.replace('_', ' ').replace('llc', 'LLC')} of the seeds together",
        digits=digits,
    )

# %% [markdown]
# The speed of the climb depends on the seed. The norm of the weights does not, and tells the residual streams apart:

# %%
last = together[together.step == together.step.max()].set_index("residual")
for column in ("llc", "loss", "weight_norm"):
    apart = abs(last[f"{column}_mean"]["doubled"] - last[f"{column}_mean"]["standard"])
    print(
        f"{column.replace('_', ' ')} at step {last.step.iloc[0]:,}: the streams' means "
        f"are {apart:.3g} apart, {apart / last[f'{column}_sd'].max():.1f} times the "
        "larger sd of the seeds"
    )

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
