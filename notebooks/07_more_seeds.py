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

if "google.colab" in sys.modules:  # fetch the library that this page needs; elsewhere, do nothing
    subprocess.run("test -d stagewise || git clone -qn --filter=blob:none https://github.com/devlib-companion/stagewise stagewise && git -C stagewise checkout -q main", shell=True, check=True)
    sys.path[:0] = ["stagewise", "stagewise/book"]
    importlib.import_module("companion.site.page_ends").begin()

# %% [markdown]
# # More seeds
#
# B.4 and Fig. B.3b of the paper: the same curves for every run that there is, with other initial weights
# and other batches, and for both readings of the residual stream. The authors' released code doubles the
# stream in every block, $x' = 2x + \text{attn} + \text{mlp}$; the paper's text describes the standard
# one, $x' = x + \text{attn} + \text{mlp}$. Both are run here.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # with recompute: the run that is computed before all are shown
recompute: bool = False  # compute anew instead of reading stored tables
residual: str = "doubled"  # with recompute: the residual stream of that run, or standard
reuse: bool = False  # with recompute: measure the committed checkpoints instead of training

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, results
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.figures_released import behind
from companion.pages.boundaries import beside_paper
from companion.seeds import at_steps, spread
from devlib.stages import PAPER_STAGE_ENDS, find_stages

own = {(residual, seed): results.regression(preset, seed, recompute, residual, reuse)
       } if recompute else {}
runs = {key: results.regression(preset, key[1], False, key[0])
        for key in results.finished_runs(preset)} | own  # what was just computed, before stored
first = next(iter(runs.values()))
rule = results.regression_settings(preset).stages
print(f"{preset} preset: {len(runs)} of ten runs (the paper's five seeds, two residual streams):")
for (kind, number), run in runs.items():
    print(f"  {kind} residual, seed {number}, to step {run['evaluation'].step.max():,}; LLC at "
          f"{len(run['llc'])} of {len(run['evaluation'])} checkpoints")
found = {key: find_stages(run["llc"], run["evaluation"], rule) for key, run in runs.items()}

# %% [markdown]
# ## Loss and LLC of every run
#
# The bands are the stages of the first run in the list; grey are the authors' five released seeds, their mean and
# range.

# %% mystnb={"image": {"alt": "LLC and test loss over training, one curve a run"}}
def joined(table, column):
    """One column a run."""
    tables = [run[table].set_index("step")[column].rename(f"{kind}, seed {number}")
              for (kind, number), run in runs.items()]
    return pd.concat(tables, axis=1).reset_index()


description = f"{preset} preset, all runs"
stages = found[next(iter(found))][2]
for name, table, column in (("LLC", "llc", "llc"), ("test loss", "evaluation", "loss")):
    both = joined(table, column)
    fig = draw.curves({name: both}, stages, {"LLC": "LLC (no unit)"}.get(
        name, "squared target units"), columns=1, height=3.6)
    behind(fig.axes[0], column)
    figures.show(fig, both, column, description)

# %% [markdown]
# ## Boundaries
#
# Each run's boundaries by the same rule, beside the paper's four: the found one that is nearest on the log
# scale, and by what factor it is off.

# %%
tables = []
for (kind, number), (curve, boundaries, _) in found.items():
    print(f"{kind}, seed {number}: boundaries", ", ".join(f"{b:,}" for b in boundaries) or "none")
    paper = {stage: end for stage, end in PAPER_STAGE_ENDS["LR"].items() if end < 500_000}
    tables.append(beside_paper(boundaries, paper, curve.steps[-1]).assign(
        residual=kind, seed=number))
nearest = pd.concat(tables)
print(nearest[["residual", "seed", "stage", "paper", "found", "factor"]].round(2)
      .to_string(index=False))
if len(runs) > 1:
    factors = nearest.groupby("stage").factor.agg(["count", "min", "max"])
    print("\nspread of the factor over the runs:\n" + factors.round(2).to_string())

# %% [markdown]
# ## Beside the released five seeds
#
# LLC, test loss and weight norm at the paper's stage ends, each with our error, beside the interval in which the
# authors' five released seeds want one more run.

# %%
for (kind, number), run in runs.items():
    print(f"--- {kind}, seed {number}")
    show("LR-1", "LR-3", "LR-12", regression=run)

# %%
show("LR-15", regression=first, others=runs.values())

# %% [markdown]
# ## All five seeds, through the first stage
#
# A full run takes hours. The first 6,300 of the same 500,000 steps, which hold LR1 and the climb of LR2 (preset
# `laptop`), take minutes, and are here with the paper's five seeds and both residual streams.

# %% mystnb={"image": {"alt": "LLC over the first 6,300 steps, doubled and standard residual stream side by side, one curve a seed"}}
short = {key: results.regression("laptop", key[1], False, key[0])
         for key in results.finished_runs("laptop")}
panels = {}
for kind in dict.fromkeys(kind for kind, _ in short):
    curves = {f"seed {number}": run["llc"].set_index("step").llc
              for (other, number), run in short.items() if other == kind}
    panels[f"{kind} residual"] = pd.DataFrame(curves).reset_index()
firsts = {key: find_stages(run["llc"], run["evaluation"],
                           results.regression_settings("laptop").stages)[1:]
          for key, run in short.items()}
fig = draw.curves(panels, next(iter(firsts.values()))[1], "LLC (no unit)", height=3.4)
data = pd.concat(panels, names=["residual"]).reset_index("residual")
figures.show(fig, data, "llc_short", "laptop preset, all seeds")

# %% [markdown]
# Each run's boundary nearest to the paper's first one, at 1,000; none where the slope nowhere falls below the
# tolerance between the two climbs.

# %%
firsts_found = pd.DataFrame([
    {"residual": kind, "seed": number, "found": "none" if pd.isna(found) else f"{found:,.0f}"}
    for (kind, number), (boundaries, _) in firsts.items()
    for found in beside_paper(boundaries, {"LR1": PAPER_STAGE_ENDS["LR"]["LR1"]}, 6_300).found])
print(firsts_found.pivot(index="residual", columns="seed", values="found").to_string())

# %% [markdown]
# What the runs say at their checkpoints 984 and 6,299, each number with its error, and the seeds of each residual
# stream together:

# %%
said = at_steps(short, (984, 6_299))
shown = {"loss": 3, "loss_se": 3, "weight_norm": 2, "llc": 1, "mcse": 1}
print(said.round(shown).to_string(index=False))
together = spread(said)
for column, digits in (("llc", 1), ("loss", 3), ("weight_norm", 2)):
    print(f"\n{column} of the seeds together:")
    print(together[["residual", "step", "seeds", *(f"{column}_{name}" for name in
                                                   ("mean", "sd", "least", "greatest"))]]
          .round(digits).to_string(index=False))

# %% [markdown]
# The speed of the climb hangs on the seed; the norm of the weights does not, and tells the residual streams apart:

# %%
last = together[together.step == together.step.max()].set_index("residual")
for column in ("llc", "loss", "weight_norm"):
    apart = abs(last[f"{column}_mean"]["doubled"] - last[f"{column}_mean"]["standard"])
    print(f"{column} at step {last.step.iloc[0]:,}: the streams' means are {apart:.3g} apart, "
          f"{apart / last[f'{column}_sd'].max():.1f} times the larger sd of the seeds")

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
