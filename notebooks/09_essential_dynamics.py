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
# # Essential dynamics
#
# The abstract's function-space method. At each checkpoint $t$ the model's predictions on one fixed set of contexts
# are a point $f_t$ in a space of many dimensions. A few principal components of all the points show the path of
# training. Where the path turns back along a component, training changes what it does.
#
# $$
# f_t - \bar f = \sum_c s_c(t)\, u_c , \qquad
# \text{turning point: } \frac{d s_c}{d \log(t + 1)} = 0 .
# $$

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure committed regression checkpoints
corpus: str = ""  # of the language model: offline, toy or hub; empty: the preset's

# %% tags=["hide-input"]
from companion import figures, presets, results, results_language
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.table_rows import MATCH, matched
from companion.paper_stages import find_named, paper_ends
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.essential import nearest_boundaries

settings = results.regression_settings(preset)
run = results.regression(preset, seed, recompute, reuse=reuse)
development = results.development(preset, seed, recompute, reuse=reuse)
path, explained = development["path"], development["explained"]
_, boundaries, stages = find_named(run["llc"], run["evaluation"], settings.stages)
reached = int(path.step.max())
table = nearest_boundaries(path, boundaries, settings.stages)
near = matched(list(table["turns at"]), boundaries)

# %% tags=["summary", "remove-input"]
summary(
    "The path of a model's outputs, in a few principal components, turns where the LLC "
    "has its boundaries (abstract).",
    f"{len(near)} of the {len(boundaries)} boundaries of the regression model have a "
    f"turning point within a factor of {MATCH}. The first {len(explained)} components "
    f"hold {explained.explained.sum():.1%} of the variance.",
    "LR-22",
    development=development,
)

# %% [markdown]
# ## The path
#
# Scores are in units of a prediction (root mean square over the contexts). The colours are the stages that
# the LLC defines, which this method knows nothing of.

# %% mystnb={"image": {"alt": "The path of the predictions in the plane of components one and two, and one and three, each stage in its colour"}}
fig = draw.path_plane(path, stages, explained.explained)
figures.show(fig, path, "path", run.description)

# %% tags=["tabs"] mystnb={"image": {"alt": "Scores of the first components over training with the stage bands"}}
components = [name for name in path.columns if name.startswith("pc_")]
scores = path[["step", *components]].rename(
    columns=lambda name: name.replace("pc_", "component ")
)
for name, linear in (("scores", False), ("scores_linear", True)):
    fig = draw.curves({"scores": scores}, stages, "score (target units)", columns=1,
                      height=4.2, linear=linear)
    figures.show(fig, scores, name, run.description)

# %% [markdown]
# ## Turning points and boundaries
#
# Each component is smoothed as the LLC curve is. Its turning points, peaks and valleys that stand out by a quarter
# of the component's standard deviation, are listed beside the LLC's boundary that is nearest on the log scale.

# %%
if len(table):
    show_table(
        table, "Turning points, and the LLC's boundary nearest to each", digits=2
    )
print("boundaries of the LLC:", ", ".join(f"{b:,}" for b in boundaries) or "none")
print(
    "variance explained:",
    ", ".join(
        f"component {row.component:.0f} {row.explained:.2%}"
        for row in explained.itertuples()
    ),
)
print(
    f"{len(path)} checkpoints up to step {reached:,}, predictions on "
    f"{presets.get(preset).metrics.probes:,} contexts of {settings.task.examples} pairs"
)

# %%
print(f"{len(near)} of this run's {len(boundaries)} boundaries have a turning point "
      f"within a factor of {MATCH}")
show("LR-22", development=development)

# %% [markdown]
# ## The language model
#
# The same for the two-layer language model of the page *Language model stages*: the outputs are the log
# probabilities of every token, at one place in each of a fixed set of contexts.

# %% mystnb={"image": {"alt": "The path of the language model's log probabilities in the plane of components one and two, and one and three, each stage in its colour"}}
anew = (
    recompute and not reuse
)  # else the run that is stored, which may be of another seed
language = results_language.language(
    preset, seed if anew else results_language.stored_seed(preset, seed, corpus), anew,
    corpus=corpus)
chosen = results_language.language_settings(preset)
rule = chosen.stages
words, shares = language["path"], language["explained"].explained
_, ends, spans = find_named(language["llc"], language["behaviour"], rule,
                            paper_ends(chosen))
fig = draw.path_plane(words, spans, shares)
figures.show(fig, words, "language_path", language.description)

# %% mystnb={"image": {"alt": "Scores of the first components of the language model over training with the stage bands"}}
scores = words.rename(columns=lambda name: name.replace("pc_", "component "))
fig = draw.curves({"scores": scores}, spans, "score (nats)", columns=1, height=4.2)
figures.show(fig, scores, "language_scores", language.description)

# %%
table = nearest_boundaries(words, ends, rule)
if len(table):
    show_table(table, "Turning points of the language model, and the nearest boundary",
               digits=2)
print("variance explained:", ", ".join(f"{share:.2%}" for share in shares))
print("boundaries of the LLC:", ", ".join(f"{b:,}" for b in ends) or "none")

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
