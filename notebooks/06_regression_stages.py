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
# # Linear regression stages
#
# Section 7 and Appendix D of the paper: what the regression transformer does in each stage, and what it is
# made of. The coloured bands are the stages that the LLC of the same run defines (the page *Stage
# boundaries*); nothing on this page was used to find them.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure the committed checkpoints instead of training

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from devlib import metrics_regression as metrics
from devlib import plots, presets, results
from devlib import plots_development as draw
from devlib.stages import find_stages
from devlib.task_sets import task_sets
from devlib.tasks import fixed_set
from devlib.training import build_model
from devlib.verdicts import verdict

settings, chosen = results.regression_settings(preset), presets.get(preset).metrics
task = settings.task
run = results.regression(preset, seed, recompute, reuse=reuse)
development = results.development(preset, seed, recompute, reuse=reuse)
evaluation, llc = run["evaluation"], run["llc"]
behaviour, structure, heads = (development[name] for name in ("behaviour", "structure", "heads"))
smoothed, boundaries, stages = find_stages(llc, evaluation, settings.stages)
reached = int(evaluation.step.max())
print(development.card)
print(f"{len(behaviour)} checkpoints up to step {reached:,}.")
print("stages:", "; ".join(f"{s.stage} {s.start:,} to {s.end:,}" for s in stages.itertuples()))


# %% tags=["hide-input"]
def at(table, step):
    """The row of the checkpoint nearest to a step."""
    return table.iloc[(table.step - step).abs().argmin()]


def judge(claim, text, holds, needs):
    """Prints a claim with its verdict; `needs` is the step from which it can be seen."""
    print(f"{claim}: {text}:", verdict(bool(holds), reached=reached >= needs))


def pick(table, columns):
    """A table of the step and the named columns, renamed."""
    return table[["step", *columns]].rename(columns=columns)


# %% [markdown]
# ## LR1: predicting without the context
#
# Section 7.1, Fig. 5a: the mean square of the prediction at each position $k$. While the model learns the
# best prediction that ignores the context, which is zero, all of them fall together, below the variance of
# the noise.

# %% mystnb={"image": {"alt": "Mean-square prediction at each position k over training on a logarithmic scale: all fall to a common minimum near the end of the first stage, then rise, the later positions higher"}}
positions = range(1, task.examples + 1)
msp = pick(evaluation, {f"msp_{k}": f"k = {k}" for k in positions})
fig = draw.curves({"mean-square prediction": msp}, stages, "squared target units", columns=1,
                  height=4.2, log=True, levels={"noise variance": task.noise_variance})
plots.show(fig, msp, "mean_square_prediction", run.words)

# %%
lowest = evaluation.loc[evaluation.msp.idxmin()]
print(f"minimum {lowest.msp:.4f} +- {lowest.msp_se:.4f} at step {lowest.step:,.0f}; "
      f"released: 0.013 at 1,673 (seeds 0.007 to 0.018 at 1,465 to 1,673)")
judge("LR-4", "the minimum comes at 1,000 to 2,500 steps and is below the noise",
      1_000 <= lowest.step <= 2_500 and lowest.msp < task.noise_variance, 3_000)

# %% [markdown]
# ### Zero, or the task prior?
#
# D.1.1, Fig. D.1. Other runs, trained on a finite set of $M$ tasks, whose mean is not zero. If the model first
# learned to predict zero, its predictions would come closest to zero; if it learns the task prior
# $x \cdot \bar w$, they come closer to that.

# %% mystnb={"image": {"alt": "Mean-square distance of the predictions to zero and to the task prior over training, one curve for each number of tasks, on logarithmic scales"}}
sets = task_sets(preset, seed, recompute)
panels = {title: sets["distances"].pivot(index="step", columns="tasks", values=name)
          .add_prefix("M = ").reset_index()
          for name, title in (("zero", "distance to zero"), ("prior", "to the task prior"))}
fig = draw.curves(panels, stages.iloc[:0], "squared target units", log=True)
plots.show(fig, sets["distances"], "task_prior", sets.words)

# %%
closest = sets["distances"].groupby("tasks")[["zero", "prior"]].min()
print(closest.round(4).to_string())
few = closest[closest.index <= 64]
judge("D.1.1", "few tasks: the predictions come closer to the task prior than to zero",
      (few.prior < few.zero).all(), 1_000)

# %% [markdown]
# ## LR2: learning in context
#
# Section 7.2, D.1.2. The ICL scores compare positions: $\text{ICL}_{1:4} = \ell_4 - \ell_1$ is what the first
# pairs give, $\text{ICL}_{4:8} = \ell_8 - \ell_4$ what further pairs add. Below zero, later is better. The test
# contexts are the same at every checkpoint, so a change is known far better than the band says of a level.

# %% mystnb={"image": {"alt": "The two ICL scores over training with error bands: the early one falls during the second stage, the late one first rises and then falls"}}
half = task.examples // 2
names = {"icl_early": f"ICL 1:{half}", "icl_late": f"ICL {half}:{task.examples}"}
scores = pick(behaviour, names)
fig = draw.curves({"in-context learning": scores}, stages, "score (squared target units)",
                  columns=1, height=4.0, levels={"no gain": 0.0},
                  errors={names[key]: behaviour[f"{key}_se"] for key in names})
plots.show(fig, behaviour[["step", *(name for key in names for name in (key, f"{key}_se"))]],
           "icl", run.words)

# %%
print("ICL scores, ours +- standard error; with the noise of the released evaluation; released")
released = {984: (-0.11, 0.20), 40_292: (-2.51, None), 126_262: (-2.64, None),
            499_999: (-2.75, -0.97)}
for step, values in released.items():
    if step <= reached:
        row = at(behaviour, step)
        for key, value in zip(names, values, strict=True):
            print(f"step {row.step:7,.0f}  {names[key]}: {row[key]:6.2f} +- {row[f'{key}_se']:.2f}"
                  f"  {row[f'{key}_slip']:6.2f}  {'' if value is None else value}")
start, end = at(behaviour, 984), at(behaviour, min(40_292, reached))
judge("LR-5", "ICL 1:4 falls by more than 1 in LR2", start.icl_early - end.icl_early > 1, 6_000)
rise = behaviour[behaviour.step <= 5_000].icl_late.max() - behaviour.icl_late.iloc[0]
print(f"ICL {half}:{task.examples} rises by {rise:.2f} over its start before step 5,000")
judge("LR-6", "ICL 4:8 first gets worse, by more than 0.1", rise > 0.1, 5_000)
late = behaviour[behaviour.step >= 23_000]
judge("LR-6", "and is steady, within 0.15, from 23,000 on",
      len(late) and np.ptp(late.icl_late) < 0.15, 499_999)

# %% [markdown]
# The released per-token, ICL and out-of-distribution curves were made with noise of *standard deviation*
# 0.125, where the task has *variance* 0.125; the middle column repeats that slip, to compare.
#
# ## LR3 and LR4: out of distribution
#
# Section 7.3, D.1.3. Inputs or tasks are scaled by a gain $g$ (eqs. 18 and 19) and the error divided by
# $g^2$; the scale of the outputs is shown beside it. Zero output has a normalised error of $D = 4$ and a
# little more.

# %% mystnb={"image": {"alt": "Four panels over training: normalised error and output scale, for scaled inputs and for scaled tasks, one curve a gain"}}
def gains(kind, family):
    """The columns of one quantity, by gain."""
    return pick(behaviour, {f"{kind}_{family}_{g:g}": f"g = {g:g}" for g in chosen.gains})


panels = {f"{title}, {family}s": gains(kind, family)
          for kind, title in (("ood", "error / g²"), ("scale", "output / g²"))
          for family in ("input", "task")}
fig = draw.curves(panels, stages, "squared target units", levels={"zero output": task.task_dim})
plots.show(fig, pd.concat([table.assign(panel=name) for name, table in panels.items()]), "ood",
           run.words)

# %%
tables = {("LR-7", "input", 40_292): (2.22, 2.89, 3.65, 3.96),
          ("LR-7", "input", 499_999): (2.22, 3.38, 3.79, 3.95),
          ("LR-8", "task", 40_292): (1.97, 2.45, 3.19, 3.94),
          ("LR-8", "task", 499_999): (1.65, 2.02, 2.88, 3.96)}
for (claim, family, step), values in tables.items():
    near = at(behaviour, step)
    if step <= reached:
        print(f"{family}s at step {near.step:,.0f}, g = 3, 5, 10, 100:",
              " ".join(f"{near[f'ood_{family}_{g:g}']:.2f}" for g in chosen.gains),
              "; released:", *values)
    judge(claim, f"{family}s at step {step:,} within 0.3 of the released run at every gain",
          all(abs(near.get(f"ood_{family}_{g:g}", np.nan) - value) < 0.3
              for g, value in zip((3, 5, 10, 100), values, strict=True)), step)

# %% [markdown]
# ## Embedding and positions collapse
#
# D.2.1, D.2.2. The share $\sigma_i^2 / \sum_j \sigma_j^2$ that each singular value of the token embedding and
# of the positional embedding explains, and the cosines of the angles between the two column spaces.

# %% mystnb={"image": {"alt": "Three panels over training: shares of the token embedding's components, shares of the positional embedding's leading components, and cosines between their column spaces"}}
def numbered(name, count, label):
    """Columns name_1 .. name_count."""
    return pick(structure, {f"{name}_{i}": f"{label} {i}" for i in range(1, count + 1)})


count = task.task_dim + 1
panels = {"token embedding": numbered("embed", count, ""),
          "positional embedding": numbered("position", count, ""),
          "cosines between the two": numbered("cosine", count, "")}
fig = draw.curves(panels, stages, "share of the variance; cosine", columns=3)
plots.show(fig, structure[["step", *(f"{name}_{i}" for name in ("embed", "position", "cosine")
                                     for i in range(1, count + 1))]], "embedding", run.words)

# %%
smallest = f"embed_{count}"
for step, value in ((0, 0.134), (40_292, 0.031), (101_010, 0.029), (499_999, 0.015)):
    if step <= reached:
        row = at(structure, step)
        print(f"step {row.step:7,.0f}: the last component explains {row[smallest]:.1%}"
              f" (released {value:.1%})")
row = at(structure, 101_010)
judge("LR-9", "about 2.9% of the variance for the fifth component, about 24% for each other",
      0.01 < row[smallest] < 0.06 and all(0.18 < row[f"embed_{i}"] < 0.30
                                          for i in range(1, count)), 101_000)

# %% [markdown]
# ## Attention becomes hard and constant
#
# D.2.3. Each head counts as two, its queries at the x-tokens and at the y-tokens. The normalised entropy
# (eqs. 20, 21) is zero where all attention goes to one token, the variability (eq. 22) is zero where the
# pattern is the same in every context.

# %% mystnb={"image": {"alt": "Normalised attention entropy over training, a panel for each block and part, a curve for each head"}}
def half_heads(value):
    """A table a block and part, with a column a head."""
    return {f"block {block}, {part}-queries": table.pivot(
                index="step", columns="head", values=value).add_prefix("head ").reset_index()
            for (block, part), table in heads.groupby(["block", "part"])}


fig = draw.curves(half_heads("entropy"), stages, "normalised entropy", top=1.02)
plots.show(fig, heads[["step", "block", "head", "part", "entropy"]], "attention_entropy",
           run.words)

# %% mystnb={"image": {"alt": "Attention variability over training, a panel for each block and part, a curve for each head"}}
fig = draw.curves(half_heads("variability"), stages, "variability")
plots.show(fig, heads[["step", "block", "head", "part", "variability"]],
           "attention_variability", run.words)

# %% [markdown]
# ### Which heads are of a kind
#
# A half-head is of a kind if it puts more than nine tenths of its attention there and hardly varies. Which
# head becomes what depends on the seed; that some do is the claim.

# %%
final = heads[heads.step == heads.step.max()]
kinds = final.assign(kind=final.apply(lambda row: metrics.classify(row, chosen), axis=1))
print(kinds[["block", "head", "part", "entropy", "variability", "self", "previous", "x", "y",
             "kind"]].round(2).to_string(index=False))
found = set(kinds.kind) - {"-"}
print("kinds found:", ", ".join(sorted(found)) or "none")
judge("LR-14", "hard, constant heads appear, at least two kinds of them", len(found) >= 2, 126_000)

# %% mystnb={"image": {"alt": "Mean attention pattern of every head at the last stored checkpoint, blocks as rows, heads as columns"}}
kept = results.kept_checkpoints(preset, seed, recompute=recompute and not reuse)
with torch.no_grad():
    model = build_model(settings, seed=0)
    model.load_state_dict(kept.load(kept.steps[-1]))
    contexts = fixed_set(seed, "patterns", chosen.attention_samples, task)
    attention = model.attention(*contexts).mean(1)
tokens = [f"{kind}{k}" for k in positions for kind in "xy"][:-1]
fig = draw.patterns(attention.numpy(), tokens)
flat = attention.flatten(0, 2).numpy().round(4)
index = pd.MultiIndex.from_product([range(1, n + 1) for n in attention.shape[:2]] + [tokens],
                                   names=["block", "head", "query"])
plots.show(fig, pd.DataFrame(flat, index=index, columns=tokens).reset_index(), "patterns",
           run.words)
print(f"mean over {chosen.attention_samples:,} contexts at step {kept.steps[-1]:,}")

# %% [markdown]
# ## The read-out collapses
#
# Section 7.3, D.2.4. With the last LayerNorm's weights $\gamma$ and the unembedding's first row $W_0$, the
# prediction is $\hat y = (W_0 \gamma) \cdot \tilde x + b_{\text{eff}}$. Thin lines are the 64 components at
# the stored checkpoints, the thick one their mean.

# %% mystnb={"image": {"alt": "Weights of the last LayerNorm, of the unembedding's first row, and their product over training, one thin line a component: most go to zero"}}
weights = [kept.load(step) for step in kept.steps]
vectors = {
    r"LayerNorm weight $\gamma$": np.stack([w["unembed_ln.weight"] for w in weights]),
    "unembedding row $W_0$": np.stack([w["unembed.weight"][0] for w in weights]),
    r"effective weight $W_0 \gamma$": np.stack(
        [metrics.effective_unembedding(w)[0] for w in weights])}
fig = draw.threads(vectors, kept.steps, stages, "weight (no unit)")
table = pd.concat([pd.DataFrame(values, columns=[f"c{i}" for i in range(values.shape[1])])
                   .assign(step=kept.steps, vector=name) for name, values in vectors.items()])
plots.show(fig, table, "unembedding", run.words)

# %% mystnb={"image": {"alt": "Fraction of weights below a tenth in size over training, for every LayerNorm and for the effective read-out"}}
norms = {"blocks.0.ln1_collapsed": "before attention 1", "blocks.0.ln2_collapsed": "before MLP 1",
         "blocks.1.ln1_collapsed": "before attention 2", "blocks.1.ln2_collapsed": "before MLP 2",
         "unembed_ln_collapsed": "unembedding", "effective_collapsed": "effective read-out"}
fig = draw.curves({f"|weight| < {chosen.collapse:g}": pick(structure, norms)}, stages,
                  "fraction of the weights", columns=1, height=4.0)
plots.show(fig, pick(structure, norms), "collapsed", run.words)

# %%
for step, value in ((80_808, 0.02), (126_262, 0.48), (318_181, 0.92), (499_999, 0.94)):
    if step <= reached:
        row = at(structure, step)
        print(f"step {row.step:7,.0f}: {row.unembed_ln_collapsed:.2f} of the unembedding's weights "
              f"(released {value:.2f})")
judge("LR-10", "less than a tenth of them at 40,000, more than half at 318,000",
      at(structure, 40_292).unembed_ln_collapsed < 0.1
      < 0.5 < at(structure, 318_181).unembed_ln_collapsed, 318_000)
ends = [structure.iloc[-1][name] for name in list(norms)[:4]]
print("other LayerNorms at the end:", " ".join(f"{value:.2f}" for value in ends),
      "(released .52 .16 .02 .02)")
judge("LR-11", "of the others, the one before attention 1 collapses most",
      ends[0] == max(ends) > 0.1, 499_999)

# %% [markdown]
# ## Weight norm
#
# B.3: the norm of all weights keeps growing while the loss hardly moves.

# %% mystnb={"image": {"alt": "Norm of all weights over training, on a logarithmic scale, with the stage bands"}}
fig = draw.curves({"norm of all weights": pick(evaluation, {"weight_norm": "norm"})}, stages,
                  "norm (no unit)", columns=1, height=3.4, log=True)
plots.show(fig, evaluation[["step", "weight_norm"]], "weight_norm", run.words)

# %%
for step, value in ((984, 24.9), (40_292, 31.9), (126_262, 68.7), (318_181, 211), (499_999, 236)):
    if step <= reached:
        print(f"step {at(evaluation, step).step:7,.0f}: {at(evaluation, step).weight_norm:6.1f} "
              f"(released {value})")
    judge("LR-12", f"norm within a tenth of {value} at step {step:,}",
          abs(at(evaluation, step).weight_norm / value - 1) < 0.1, step)

# %% tags=["remove-cell"]
# On Google Colab: offer what was computed as one file. Anywhere else, nothing happens here.
if "google.colab" in sys.modules and recompute:
    from devlib import colab

    colab.download_results()
