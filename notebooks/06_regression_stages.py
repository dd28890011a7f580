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
# # Linear regression stages
#
# Section 7 and Appendix D of the paper: what the regression transformer does in each stage, and what it is
# made of. The coloured bands are the stages that the LLC of the same run defines (the page *Stage boundaries*).
# Nothing on this page was used to find them. A band has the paper's name and its colour if both of its ends are the
# paper's, within a factor of 1.4. The others have letters. The headings go by the paper's stages: LR1 ends at 1k,
# LR2 at 40k, LR3 at 126k and LR4 at 320k.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure committed checkpoints, train nothing

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from companion import figures, presets, results
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.table_rows import classify
from companion.figures_released import behind
from companion.pages.task_sets import task_sets
from companion.paper_stages import find_named
from companion.shown_tables import show_table
from companion.summary import summary
from companion.tabs import tab
from devlib.regression import metrics
from devlib.regression.model import build_model
from devlib.regression.task import fixed_set

settings, chosen = results.regression_settings(preset), presets.get(preset).metrics
task = settings.task
run = results.regression(preset, seed, recompute, reuse=reuse)
development = results.development(preset, seed, recompute, reuse=reuse)
evaluation, llc = run["evaluation"], run["llc"]
behaviour, structure, heads = (
    development[name] for name in ("behaviour", "structure", "heads")
)
_, boundaries, stages = find_named(llc, evaluation, settings.stages)
reached = int(evaluation.step.max())
least = evaluation.loc[evaluation.msp.idxmin()]

# %% tags=["summary", "remove-input"]
icl = behaviour.loc[behaviour.icl_early.idxmin()]
half_way = behaviour.step[(behaviour.icl_early <= icl.icl_early / 2).idxmax()]
summary(
    "In LR1 the model learns to predict without the context, in LR2 to learn from it. "
    "In LR3 and LR4 weights collapse and large inputs are answered worse, while the "
    "loss hardly moves (Section 7).",
    [
        f"LR1: the mean-square prediction is least, {least.msp:.3f}, at step "
        f"{least.step:,.0f}.",
        f"LR2: the early ICL score falls to {icl.icl_early:.2f} ± "
        f"{icl.icl_early_se:.2f}, and half of the way is made by step {half_way:,}.",
        f"LR3, LR4: at the end {structure.unembed_ln_collapsed.iloc[-1]:.0%} of the "
        f"last LayerNorm's weights are below {chosen.collapse:g} in size; at step 0, "
        f"{structure.unembed_ln_collapsed.iloc[0]:.0%}.",
    ],
    "LR-5",
    "LR-6",
    "LR-7",
    "LR-8",
    "LR-9",
    "LR-10",
    "LR-11",
    "LR-14",
    "LR-20",
    development=development,
)

# %% tags=["hide-input"]
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
fig = draw.curves(
    {"mean-square prediction": msp},
    stages,
    "squared target units",
    columns=1,
    height=4.2,
    log=True,
    levels={"noise variance": task.noise_variance},
)
figures.show(fig, msp, "mean_square_prediction", run.description)

# %%
show("LR-4", regression=run)

# %% [markdown]
# ### Zero, or the task prior?
#
# D.1.1, Fig. D.1. These are other runs, trained on a finite set of $M$ tasks whose mean is not zero. If the model
# first learned to predict zero, its predictions would come closest to zero. If it learns the task prior
# $x \cdot \bar w$, they come closer to that. This is not the paper's experiment: theirs goes to $M = 2^{20}$, has a
# rate of 0.01, and sums the distances over $k$. Ours ends at $M = 1024$ and takes their mean.

# %% mystnb={"image": {"alt": "Mean-square distance of the predictions to zero and to the task prior over training, one curve for each number of tasks, on logarithmic scales"}}
sets = task_sets(preset, seed, recompute and not reuse)
panels = {
    title: sets["distances"]
    .pivot(index="step", columns="tasks", values=name)
    .add_prefix("M = ")
    .reset_index()
    for name, title in (("zero", "distance to zero"), ("prior", "to the task prior"))
}
fig = draw.curves(panels, stages.iloc[:0], "squared target units", log=True)
figures.show(fig, sets["distances"], "task_prior", sets.description)

# %%
closest = sets["distances"].groupby("tasks")[["zero", "prior"]].min()
show_table(
    closest,
    "Least distance of the predictions to zero and to the task prior, by tasks",
    index=True,
    digits=4,
)
show("LR-19", task_sets=sets)

# %% [markdown]
# ## LR2: learning in context
#
# Section 7.2, D.1.2. The ICL scores compare positions: $\text{ICL}_{1:4} = \ell_4 - \ell_1$ is what the first
# pairs give, $\text{ICL}_{4:8} = \ell_8 - \ell_4$ what further pairs add. Below zero, later is better. The test
# contexts are the same at every checkpoint, so a change is known far better than the band says of a level. Grey are
# the released five seeds, whose test set has less noise (below).

# %% mystnb={"image": {"alt": "The two ICL scores over training with error bands: the early one falls during the second stage, the late one first rises and then falls"}}
half = task.examples // 2
names = {"icl_early": f"ICL 1:{half}", "icl_late": f"ICL {half}:{task.examples}"}
scores = pick(behaviour, names)
fig = draw.curves(
    {"in-context learning": scores},
    stages,
    "score (squared target units)",
    columns=1,
    height=4.0,
    levels={"no gain": 0.0},
    errors={names[key]: behaviour[f"{key}_se"] for key in names},
)
behind(fig.axes[0], *names)
figures.show(
    fig,
    behaviour[["step", *(name for key in names for name in (key, f"{key}_se"))]],
    "icl",
    run.description,
)

# %%
show("LR-5", "LR-6", development=development)

# %% [markdown]
# The released per-token, ICL and out-of-distribution curves were made with noise of *standard deviation*
# 0.125, where the task has *variance* 0.125. The ICL scores that are compared with them repeat that slip. The
# out-of-distribution errors are measured once, with the right noise. Before they are compared, the difference of
# the targets' noise is taken off, $0.109 / g^2$; the figure below shows both as they are. The five seeds have one test set
# in common, whose error their spread does not show: at step 0 the released ICL 4:8 is about 0.2 in all of them,
# where an untrained model has none.
#
# ## LR3 and LR4: out of distribution
#
# Section 7.3, D.1.3. Inputs or tasks are scaled by a gain $g$ (eqs. 18 and 19) and the error divided by
# $g^2$; the scale of the outputs is shown beside it. Zero output has a normalised error of $D = 4$ and a
# little more.

# %% tags=["tabs"] mystnb={"image": {"alt": "Four panels over training: normalised error and output scale, for scaled inputs and for scaled tasks, one curve a gain"}}
def gains(kind, family):
    """The columns of one quantity, by gain."""
    return pick(
        behaviour, {f"{kind}_{family}_{g:g}": f"g = {g:g}" for g in chosen.gains}
    )


panels = {f"{title}, {family}s": gains(kind, family)
          for kind, title in (("ood", "error / g²"), ("scale", "output / g²"))
          for family in ("input", "task")}
data = pd.concat([table.assign(panel=name) for name, table in panels.items()])
for name, linear in (("ood", False), ("ood_linear", True)):
    fig = draw.curves(panels, stages, "squared target units",
                      levels={"zero output": task.task_dim}, linear=linear)
    for ax, family in zip(fig.axes, ("input", "task"), strict=False):
        behind(ax, *(f"ood_{family}_{g:g}" for g in chosen.gains))
    figures.show(fig, data, name, run.description)

# %%
show("LR-7", "LR-8", development=development)

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
figures.show(
    fig,
    structure[
        [
            "step",
            *(
                f"{name}_{i}"
                for name in ("embed", "position", "cosine")
                for i in range(1, count + 1)
            ),
        ]
    ],
    "embedding",
    run.description,
)

# %%
show("LR-9", "LR-20", development=development)

# %% [markdown]
# ## Attention becomes hard and constant
#
# D.2.3. Each head counts as two, its queries at the x-tokens and at the y-tokens. The normalised entropy
# (eqs. 20, 21) is zero where all attention goes to one token. The variability (eq. 22) is zero where the
# pattern is the same in every context.

# %% tags=["tabs"] mystnb={"image": {"alt": "Normalised attention entropy, and attention variability, over training, a panel for each block and part, a curve for each head"}}
def half_heads(value):
    """A table a block and part, with a column a head."""
    return {
        f"block {block}, {part}-queries": table.pivot(
            index="step", columns="head", values=value
        )
        .add_prefix("head ")
        .reset_index()
        for (block, part), table in heads.groupby(["block", "part"])
    }


for value, words, top in (
    ("entropy", "normalised entropy", 1.02),
    ("variability", "variability", None),
):
    tab(words)
    fig = draw.curves(half_heads(value), stages, words, top=top)
    figures.show(fig, heads[["step", "block", "head", "part", value]],
                 f"attention_{value}", run.description)

# %% [markdown]
# ### Which heads are of a kind
#
# A half-head is of a kind if it puts more than nine tenths of its attention there and hardly varies. Which
# head becomes what depends on the seed. The claim is that some do.

# %%
final = heads[heads.step == heads.step.max()]
kinds = final.assign(kind=final.apply(lambda row: classify(row, chosen), axis=1))
show_table(
    kinds[
        [
            "block",
            "head",
            "part",
            "entropy",
            "variability",
            "self",
            "previous",
            "x",
            "y",
            "kind",
        ]
    ],
    "Attention of each half-head at the last checkpoint",
    digits=2,
)
found = set(kinds.kind) - {"-"}
print("kinds found:", ", ".join(sorted(found)) or "none")
show("LR-14", development=development)

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
index = pd.MultiIndex.from_product(
    [range(1, n + 1) for n in attention.shape[:2]] + [tokens],
    names=["block", "head", "query"],
)
figures.show(
    fig,
    pd.DataFrame(flat, index=index, columns=tokens).reset_index(),
    "patterns",
    run.description,
)
print(f"mean over {chosen.attention_samples:,} contexts at step {kept.steps[-1]:,}")

# %% [markdown]
# ## The read-out collapses
#
# Section 7.3, D.2.4. With the last LayerNorm's weights $\gamma$ and biases $\beta$, the unembedding's first row
# $W_0$ and its bias $b_0$, the prediction is $\hat y = (W_0 \gamma) \cdot \tilde x + b_{\text{eff}}$,
# $b_{\text{eff}} = W_0 \cdot \beta + b_0$. Thin lines are the 64 components at the stored checkpoints, the thick
# one their mean; the last two are single numbers. Behind the second tab stand the weights (above) and biases
# (below) of the other four LayerNorms (D.2.5).

# %% tags=["tabs"] mystnb={"image": {"alt": "Panels over training, one thin line a component: of the read-out, whose weights mostly go to zero in long runs, and of the LayerNorms before attention and MLP of both blocks"}}
weights = [kept.load(step) for step in kept.steps]


def vectors(read):
    """`read` of every kept checkpoint, (checkpoints, components)."""
    return np.stack([np.atleast_1d(read(w)) for w in weights])


panels = {
    r"LayerNorm weight $\gamma$": vectors(lambda w: w["unembed_ln.weight"]),
    "unembedding row $W_0$": vectors(lambda w: w["unembed.weight"][0]),
    r"effective weight $W_0 \gamma$": vectors(
        lambda w: metrics.effective_unembedding(w)[0]
    ),
    r"LayerNorm bias $\beta$": vectors(lambda w: w["unembed_ln.bias"]),
    "unembedding bias $b_0$": vectors(lambda w: w["unembed.bias"][0]),
    r"effective bias $b_{\mathrm{eff}}$": vectors(
        lambda w: metrics.effective_unembedding(w)[1]
    ),
}
tab("read-out")
fig = draw.threads(
    panels, kept.steps, stages, "weight (no unit) or bias (target units)"
)
figures.show(fig, draw.thread_table(panels, kept.steps), "unembedding", run.description)

places = {"blocks.0.ln1": "attention 1", "blocks.0.ln2": "MLP 1",
          "blocks.1.ln1": "attention 2", "blocks.1.ln2": "MLP 2"}
panels = {f"{kind}, {place}": vectors(lambda w, name=f"{norm}.{kind}": w[name])
          for kind in ("weight", "bias") for norm, place in places.items()}
tab("other LayerNorms")
fig = draw.threads(panels, kept.steps, stages, "weight or bias (no unit)", columns=4)
figures.show(fig, draw.thread_table(panels, kept.steps), "layer_norms", run.description)

# %% tags=["tabs"] mystnb={"image": {"alt": "Fraction of weights below a tenth in size over training, for every LayerNorm and for the effective read-out"}}
norms = {f"{norm}_collapsed": f"before {place}" for norm, place in places.items()}
norms |= {
    "unembed_ln_collapsed": "unembedding",
    "effective_collapsed": "effective read-out",
}
for name, linear in (("collapsed", False), ("collapsed_linear", True)):
    fig = draw.curves(
        {f"|weight| < {chosen.collapse:g}": pick(structure, norms)},
        stages,
        "fraction of the weights",
        columns=1,
        height=4.0,
        linear=linear,
    )
    figures.show(fig, pick(structure, norms), name, run.description)

# %%
show("LR-10", "LR-11", development=development)

# %% [markdown]
# ## Weight norm
#
# B.3: the norm of all weights keeps growing while the loss hardly moves.

# %% tags=["tabs"] mystnb={"image": {"alt": "Norm of all weights over training, on a logarithmic scale, with the stage bands"}}
for name, linear in (("weight_norm", False), ("weight_norm_linear", True)):
    fig = draw.curves(
        {"norm of all weights": pick(evaluation, {"weight_norm": "norm"})},
        stages,
        "norm (no unit)",
        columns=1,
        height=3.4,
        log=True,
        linear=linear,
    )
    behind(fig.axes[0], "weight_norm")
    figures.show(fig, evaluation[["step", "weight_norm"]], name, run.description)

# %%
show("LR-12", regression=run)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
