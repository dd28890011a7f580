# ---
# jupyter:
#   accelerator: GPU
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
# On Google Colab: fetch the library that this page needs. Anywhere else, nothing happens here.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess
    from importlib import metadata

    root = os.path.abspath("stagewise")
    if not os.path.isdir(root):
        subprocess.run(["git", "clone", "--quiet", "--depth", "1",
                        "https://github.com/devlib-companion/stagewise", root], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r",
                    os.path.join(root, "requirements-colab.txt")], check=True)
    if root not in sys.path:
        sys.path.insert(0, root)
    loaded, installed = sys.modules.get("numpy"), metadata.version("numpy")
    if loaded and loaded.__version__ != installed:
        print(f"numpy changed from {loaded.__version__} to {installed}: the session restarts "
              "now; then choose Runtime > Run all again.", flush=True)
        os.kill(os.getpid(), 9)

# %% [markdown]
# # More seeds
#
# B.4 and Fig. B.3b of the paper: the same curves for every run that there is, with other initial weights
# and other batches, and for both readings of the residual stream. The authors' released code doubles the
# stream in every block, $x' = 2x + \text{attn} + \text{mlp}$; the paper's text describes the standard
# one, $x' = x + \text{attn} + \text{mlp}$. Both are run here.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale: smoke, laptop, published or paper
seed: int = 0  # with recompute: the run that is computed before all are shown
recompute: bool = False  # compute anew instead of reading stored tables
residual: str = "doubled"  # with recompute: the residual stream of that run, or standard

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from devlib import plots, results
from devlib import plots_development as draw
from devlib.boundaries import beside_paper
from devlib.stages import PAPER_STAGE_ENDS, find_stages
from devlib.verdicts import verdict

if recompute:
    results.regression(preset, seed, recompute, residual)
runs = {(kind, number): results.regression(preset, number, False, kind)
        for kind, number in results.finished_runs(preset)}
first = next(iter(runs.values()))
rule = results.regression_settings(preset).stages
print(f"{preset} preset: {len(runs)} of ten runs (the paper's five seeds, two residual streams):")
for (kind, number), run in runs.items():
    print(f"  {kind} residual, seed {number}, to step {run['evaluation'].step.max():,}")
found = {key: find_stages(run["llc"], run["evaluation"], rule) for key, run in runs.items()}

# %% [markdown]
# ## Loss and LLC of every run
#
# The bands are the stages of the first run in the list.

# %% mystnb={"image": {"alt": "LLC and test loss over training, one curve a run"}}
def joined(table, column):
    """One column a run."""
    tables = [run[table].set_index("step")[column].rename(f"{kind}, seed {number}")
              for (kind, number), run in runs.items()]
    return pd.concat(tables, axis=1).reset_index()


words = f"{preset} preset, all runs"
stages = found[next(iter(found))][2]
for name, table, column in (("LLC", "llc", "llc"), ("test loss", "evaluation", "loss")):
    both = joined(table, column)
    fig = draw.curves({name: both}, stages, {"LLC": "LLC (no unit)"}.get(
        name, "squared target units"), columns=1, height=3.6)
    plots.show(fig, both, column, words)

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
    spread = nearest.groupby("stage").factor.agg(["count", "min", "max"])
    print("\nspread of the factor over the runs:\n" + spread.round(2).to_string())

# %% [markdown]
# ## Beside the released five seeds
#
# LLC, test loss and weight norm at the paper's stage ends, each with our error, beside mean and standard
# deviation of the authors' five released runs (losses and norms are those of seed 1, with no spread
# published; 2 % is taken for the loss and 5 % for the norm).

# %%
released = pd.DataFrame(
    [(984, 19.2, 0.8, 4.165, 24.9), (10_101, 155.9, 1.2, 2.103, np.nan),
     (40_292, 169.95, 0.70, 1.896, 31.9), (126_262, 156.9, 1.0, 1.828, 68.7),
     (318_181, 123.4, 6.7, 1.780, 211.0), (499_999, 127.9, 9.2, 1.747, 236.0)],
    columns=["step", "llc", "llc_sd", "loss", "weight_norm"])
for (kind, number), run in runs.items():
    llc, evaluation = run["llc"], run["evaluation"]
    close = []
    print(f"{kind}, seed {number}")
    for row in released[released.step <= evaluation.step.max()].itertuples():
        ours = llc.iloc[(llc.step - row.step).abs().argmin()]
        other = evaluation.iloc[(evaluation.step - row.step).abs().argmin()]
        near = (abs(ours.llc - row.llc) <= 3 * row.llc_sd + 3 * ours.mcse
                and abs(other.loss / row.loss - 1) <= 0.02 + 3 * other.loss_se / row.loss)
        close.append((row.step, near))
        print(f"  step {ours.step:7,.0f}: LLC {ours.llc:6.1f} +- {ours.mcse:.1f} "
              f"(released {row.llc} sd {row.llc_sd}), loss {other.loss:.3f} +- "
              f"{other.loss_se:.3f} ({row.loss}), norm {other.weight_norm:.1f} ({row.weight_norm})")
    print("  LLC within three released sds plus our error, and loss within 2 %:",
          ", ".join(f"{step:,} {'yes' if near else 'no'}" for step, near in close))

# %%
counts = [len(boundaries) for _, boundaries, _ in found.values()]
reached = min(int(run["evaluation"].step.max()) for run in runs.values())
print("LR-15, every seed shows the five stages:", verdict(
    all(((table.factor > 0.5) & (table.factor < 2)).all() for table in tables),
    reached=reached >= 499_999 and len({number for _, number in runs}) >= 5))

# %% tags=["remove-cell"]
# On Google Colab: offer what was computed as one file. Anywhere else, nothing happens here.
if "google.colab" in sys.modules and recompute:
    from devlib import colab

    colab.download_results()
