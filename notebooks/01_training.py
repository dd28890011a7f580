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
# # Training the regression transformer
#
# Section 3 and F.2 of the paper. A small transformer sees pairs $(x_1, y_1), \ldots, (x_K, y_K)$ with
# $y_k = w \cdot x_k + \text{noise}$ and a new task $w$ in every context. At each $x_k$ it predicts $y_k$
# from the pairs before it. The loss of a context is
#
# $$
# \ell(w) = \frac{1}{K} \sum_{k=1}^{K} \big(y_k - \hat y_k\big)^2 ,
# $$
#
# and training descends its mean over fresh contexts with Adam.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, results
from companion.claims.ledger import show
from companion.claims.verdicts import verdict
from companion.figures_released import behind
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.regression.model import RegressionTransformer, parameter_table
from devlib.regression.task import ridge_floor
from devlib.settings import describe

settings = results.regression_settings(preset)
run = results.regression(preset, seed, recompute)
evaluation = run["evaluation"]
last = evaluation.iloc[-1]
reached = int(last.step)
floors, floor_errors = ridge_floor(seed, 50_000, settings.task)
floor = float(floors.mean())
zero = settings.task.task_dim + settings.task.noise_variance

# %% tags=["summary", "remove-input"]
summary(
    "A transformer learns to predict in context: from examples of a linear task, it "
    "answers the next one (Section 3).",
    f"At step {reached:,} of {settings.training.steps:,} the test loss is "
    f"{last.loss:.3f} ± {last.loss_se:.3f} (standard error). Predicting zero costs "
    f"{zero:.3f}, and no predictor does better than {floor:.3f} on average.",
    "LR-3", regression=run)

# %% [markdown]
# ## Loss against the predictors it can be held against
#
# Without looking at the context nothing beats predicting zero, the mean of the task prior. With the context,
# nothing beats ridge regression with penalty $\sigma^2$, the Bayes predictor for $w \sim N(0, I)$: its
# expected loss is a floor.

# %% mystnb={"image": {"alt": "Test loss of the regression transformer over training steps, falling from the level of the zero predictor towards the ridge floor"}}
fig = figures.curve_with_levels(
    evaluation.step, {"transformer": evaluation.loss},
    {"zero predictor": zero, "ridge floor": floor},
    "test loss (squared target units)",
    errors={"transformer": evaluation.loss_se})
behind(fig.axes[0], "loss")
figures.show(fig, evaluation[["step", "loss", "loss_se", "train_loss"]],
           "loss", run.description)

# %% [markdown]
# Grey are the authors' five released seeds, their mean and range. The band is two standard errors of the test loss,
# all of it shared from checkpoint to checkpoint, since the test contexts are the same. While the model learns to
# predict zero, the curve comes down to the dashed line; where it falls below, the model uses its context.

# %%
gap = last.loss - floor
error = 3 * last.loss_se
print(f"step {reached:,}: loss {last.loss:.3f} +- {last.loss_se:.3f}, "
      f"{gap:.3f} above the ridge floor of {floor:.3f}")
show("LR-3", regression=run)
assert gap > -error, "no predictor beats ridge by more than chance"

# %% [markdown]
# ## Position by position
#
# At $k = 1$ there is nothing to learn from, and the loss stays at that of the zero predictor. Later positions
# have more pairs to go by; the dashed line is the ridge floor of that position.

# %% mystnb={"image": {"alt": "Test loss at each position k over training, one panel a position, with the ridge floor of that position dashed"}}
positions = range(1, settings.task.examples + 1)
by_position = evaluation[[f"loss_{k}" for k in positions]]
by_position = by_position.set_axis(positions, axis=1)
fig = figures.per_position(evaluation.step, by_position, floors,
                         "test loss (squared target units)")
figures.show(fig, by_position.assign(step=evaluation.step),
           "loss_by_position", run.description)

# %%
by_k = pd.DataFrame({"k": positions, "loss": by_position.iloc[-1].to_numpy(),
                     "ridge floor": floors, "its standard error": floor_errors})
show_table(by_k, f"Loss at each position at step {reached:,} (squared target units)",
           digits={"its standard error": 4})
gain = last.loss_1 - last[f"loss_{settings.task.examples}"]
print(f"the last position is {gain:.2f} below the first:",
      verdict(gain > 0.5, reached=reached >= 4_000))

# %% [markdown]
# ## The model, counted
#
# The table of F.2.1, read off the model at the paper's size. A block without biases in its attention, two
# layer norms with weight and bias each, and an unembedding that predicts all five token components although
# only the first is read.

# %%
model = RegressionTransformer()
table = pd.DataFrame(parameter_table(model), columns=["name", "shape", "count"])
table["component"] = table.name.str.rsplit(".", n=1).str[0]
counts = table.groupby("component", sort=False)["count"].sum()
assert counts.sum() == 51_717
counts["total"] = counts.sum()
show_table(
    counts.rename("parameters").rename_axis("part").reset_index(), "Parameters by part"
)

# %% [markdown]
# ## The settings
#
# Everything that decides this run. Where the paper is silent the value is that of the authors' code; the
# `residual` line is explained on the {doc}`page of presets <../book/presets>`.

# %% tags=["hide-output"]
rows = [{"part": part, **row} for part in ("task", "model", "training")
        for row in describe(getattr(settings, part))]
listed = pd.DataFrame(rows)[["part", "name", "value", "section"]]
show_table(listed.astype(str), "Settings of this run")

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
