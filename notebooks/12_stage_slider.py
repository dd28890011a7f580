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
# # Stage slider
#
# Training, from the first step to the last, under one slider: test loss, LLC and the stages that the LLC
# defines, what the heads attend to, and a prediction. First the regression model, then the language model. Drag a
# slider, or reach it with Tab and move it with the arrow keys.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
corpus: str = ""  # offline, toy or hub; empty: the preset's

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from companion import figures, presets, results, results_language
from companion import figures_development as draw
from companion.claims.verdicts import verdict
from companion.pages.coloured_text import LIMIT, coloured_text, token_texts
from companion.pages.slider import (
    language_data,
    mean_patterns,
    predictions,
    slider,
    slider_data,
)
from companion.paper_stages import find_named, paper_ends
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.regression.task import fixed_set
from devlib.steps import nearest_each, thin

settings = results.regression_settings(preset)
run = results.regression(preset, seed, recompute)
evaluation, llc = run["evaluation"], run["llc"]
smoothed, boundaries, stages = find_named(llc, evaluation, settings.stages)
kept = results.kept_checkpoints(preset, seed, recompute=recompute)
contexts = fixed_set(
    seed, "patterns", presets.get(preset).metrics.attention_samples, settings.task
)
steps = thin(kept.steps, presets.get(preset).kept)
attention = mean_patterns(kept, steps, settings, *contexts)
ends = nearest_each(steps, [0, *stages.end])
at_ends = attention[[steps.index(step) for step in ends]]
largest = at_ends[..., -1, :].max(-1).mean((1, 2))
most = stages.loc[stages.loss_change.idxmin()]

# %% tags=["summary", "remove-input"]
summary(
    "A transformer develops in stages, which its LLC shows (abstract, Fig. 1b).",
    f"The loss falls most in {most.stage} (steps {most.start:,} to {most.end:,}): by "
    f"{-most.loss_change:.2f}, while the LLC changes by {most.llc_change:+.0f}. The "
    f"largest share that the last query gives to one token grows from {largest[0]:.2f} "
    f"to {largest[-1]:.2f} over training.",
)

# %% [markdown]
# ## The regression model
#
# Attention is a mean over the same contexts at every checkpoint, and the prediction is for the first of them. The
# repository holds few checkpoints: patterns and predictions change in fewer steps than the curves.

# %% mystnb={"image": {"alt": "Test loss and LLC over training with the stages as bands, and below them the mean attention pattern of every head at the end of each stage"}}
fig = draw.stage_ends(evaluation, llc, stages, ends, at_ends)
curves = llc[["step", "llc", "mcse"]].merge(evaluation[["step", "loss", "loss_se"]])
figures.show(fig, curves, "slider", run.description)
xs, ys = contexts[0][0], contexts[1][0]
predicted = predictions(kept, steps, settings, xs, ys)
slider(slider_data(evaluation, llc, stages, steps, attention, ys.numpy(), predicted))

# %% [markdown]
# What to look for: at first every head spreads its attention evenly over what came before. It concentrates
# while the loss falls and the LLC climbs. Here is the largest share that the last query gives to one token, as a
# mean over the heads; evenly spread, it would be one in fifteen.

# %%
show_table(pd.DataFrame({"step": ends, "largest share": largest}),
           "Attention of the last query, at the kept checkpoints nearest to stage ends")
print(f"attention concentrates most in {most.stage}, where the loss falls most:",
      verdict(np.diff(largest).argmax() == stages.loss_change.argmin(),
              reached=len(stages) > 1))

# %% [markdown]
# What became of the heads in numbers is on the page *Linear regression stages*.
#
# ## The language model
#
# Two layers, read from the stored tables. The scores of a head are its mean attention on random sequences: to the
# token before, and to what followed the same token the last time. The text is the same at every step; its colours
# say what the stage under the slider changed. The page *Language model stages* has each measure as a curve.

# %% mystnb={"image": {"alt": "Test loss and LLC of the language model over training with the stages found as bands"}}
words = results_language.language_settings(preset, corpus=corpus)
stored = results_language.stored_seed(preset, seed, corpus)
language = results_language.language(
    preset, seed if recompute else stored, recompute, corpus=corpus
)
behaviour, curve = language["behaviour"], language["llc"]
theirs = paper_ends(words)
smooth, _, spans = find_named(curve, behaviour, words.stages, theirs)
names = dict(zip(sorted(language["texts"].stage.unique()), spans.stage, strict=False))
read = (words.model.vocabulary, words.training.corpus)
texts = {
    names[stage]: coloured_text(
        token_texts(table.token.tolist(), *read), table.change.tolist(), LIMIT
    )
    for stage, table in language["texts"].groupby("stage")
    for table in [table[table.text == table.text.min()]]
}
fig = figures.llc_curve(
    curve, smooth, spans, theirs, behaviour, loss_unit="nats a token"
)
both = curve[["step", "llc", "mcse"]].merge(behaviour[["step", "loss", "loss_se"]])
figures.show(fig, both, "slider_language", language.description)
patterns = language.tables.get("patterns")
slider(language_data(behaviour, curve, spans, language["heads"], texts, patterns))

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
