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
# # Stage boundaries
#
# Section 5, B.1 and B.3 of the paper. The LLC $\hat\lambda(w_t)$ is estimated at checkpoints $t$ of one
# training run. A Gaussian process in $\log(t + 1)$ smooths the curve. Where its slope vanishes, a stage ends:
#
# $$
# \Big|\frac{d \hat\lambda}{d \log(t + 1)}\Big| \text{ has a local minimum at } t \text{, below a tolerance.}
# $$

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure committed checkpoints, train nothing
tolerance: float = 8.0  # of the slope, above 0, in LLC per unit of log(step + 1)
eps: float = None  # step size of the chains, above 0; None: the preset's
nbeta: float = None  # inverse temperature times samples, above 0; None: the preset's
gamma: float = None  # localisation strength, 0 or more; None: the preset's

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, results
from companion.claims.judge import joint_of
from companion.claims.ledger import on_tables, show
from companion.claims.verdicts import DIFFERS, NOT_RUN, say
from companion.figures_released import behind
from companion.health import curve_health, say_health, withdrawn
from companion.pages.boundaries import beside_paper, sensitivity
from companion.paper_stages import find_named, paper_ends, told
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.boundaries import NOISES, Rule, bootstrap
from devlib.settings import replace
from devlib.stages import smooth
from devlib.steps import at

sampler = {"eps": eps, "nbeta": nbeta, "gamma": gamma}
settings = results.regression_settings(preset, llc=sampler)
rule = replace(settings.stages, tolerance=tolerance)
run = results.regression(preset, seed, recompute, reuse=reuse, llc=sampler)
evaluation, llc = run["evaluation"], run["llc"]
reached = int(evaluation.step.max())
paper = {name: end for name, end in paper_ends().items() if end < 500_000}
smoothed, boundaries, stages = find_named(llc, evaluation, rule)

# %% tags=["summary", "remove-input"]
summary(
    "Where the LLC of a regression transformer is flat, a stage of training ends: at "
    "about 1,000, 40,000, 126,000 and 320,000 steps (Section 5, Table 1).",
    [
        told(
            boundaries,
            reached,
            gone=withdrawn(llc, evaluation, settings.llc, rule),
        ),
        f"The LLC climbs from {llc.llc.iloc[0]:.0f} to {llc.llc.max():.0f} and ends at "
        f"{llc.llc.iloc[-1]:.0f} ± {llc.mcse.iloc[-1]:.1f}. The test loss goes from "
        f"{evaluation.loss.iloc[0]:.2f} to {evaluation.loss.iloc[-1]:.2f}.",
        "Stages that are the paper's carry its names, LR1 to LR5. The others carry "
        "letters.",
    ],
    "LR-1",
    "LR-2",
    "LR-4",
    "LR-17",
    regression=run,
    rule=rule,
)

# %% [markdown]
# ## The curve and its stages
#
# Bands are the stages found here. Ticks at the top are the paper's boundaries. Grey are the authors' five released
# seeds, their mean and range. Their LLC averages 5,000 draws a chain from the first on. Each estimate carries its
# Monte Carlo error, and the Gaussian process that smooths the curve takes this error as its noise. LR3 to LR5 are
# nine tenths of the paper's training and a sliver of the log axis: the second tab shows them.

# %% tags=["tabs"] mystnb={"image": {"alt": "Test loss above and LLC with error bars below, over training steps, with the stages found as coloured bands and the paper's boundaries as ticks"}}
marked = llc.assign(health=curve_health(llc, settings.llc))
for name, linear in (("llc", False), ("llc_linear", True)):
    fig = figures.llc_curve(marked, smoothed, stages, paper, evaluation, linear=linear)
    for ax, curve in zip(fig.axes, ("loss", "llc"), strict=True):
        behind(ax, curve)
    figures.show(fig, marked, name, run.description)

# %%
def spell(steps):
    """Steps in words."""
    return ", ".join(f"{step:,}" for step in steps) or "none"


beside = beside_paper(boundaries, paper, reached)
show_table(beside, "The paper's boundaries, and ours that are nearest on the log scale",
           units={"paper": "step", "found": "step"}, digits={"factor": 2})

# %% [markdown]
# Not every estimate passed its own checks. Where the burn-in ends on its bound, half of the draws, or R-hat is above
# 1.05, the chains were still on their way when they ended. Such points are drawn open. Their errors say nothing of
# how far they are from where the chains would come to rest. Nor do those of the other points say all: chains that are no
# longer than the spring's memory may settle a few units away. Both are measured on the page
# [what the curve measures](16_what_the_curve_measures). The stages above are those of all points.

# %%
for line in say_health(llc, evaluation, settings.llc, rule):
    say("-", line)

# %% [markdown]
# ## Table 1, the regression half
#
# Change of test loss and LLC over each stage, with the standard errors of both ends combined. The last stage
# ends where the run ends, which need not be the end of a stage.

# %%
show_table(
    stages,
    "What each stage changes",
    units={"loss_change": "squared target units"},
    digits={"loss_change": 3, "loss_se": 3, "llc_change": 1, "llc_se": 1},
)

# %% [markdown]
# Beside the released five seeds: the LLC where the paper's stages end, the changes between those steps, and the
# stages themselves, matched one to one. Chains that have begun to leave their start, but have not come to rest,
# give no LLC: such a number is *not a measurement*, and no claim can rest on it.

# %%
found = on_tables("LR-1", "LR-2", "LR-17", regression=run, rule=rule)
show(found)
for what in ("LLC over LR2", "loss over LR2"):
    assert found["LR-2"][what].verdict != DIFFERS

# %% [markdown]
# ## Would loss or weight norm have told?
#
# Fig. B.2: each curve beside its slope per unit of $\log(t + 1)$. The plateau rule is applied to the LLC alone.

# %% mystnb={"image": {"alt": "LLC, test loss and weight norm over training on the left, the slope of each per log step on the right, with the stage bands"}}
panels = [("LLC", llc.step, llc.llc, smoothed)]
for name, column, errors in (("test loss", "loss", evaluation.loss_se),
                             ("weight norm", "weight_norm", None)):
    values = evaluation[column]
    panels.append((name, evaluation.step, values,
                   smooth(evaluation.step, values, rule, errors)))
fig = figures.curves_and_slopes(panels, stages, rule.tolerance)
for ax, name in zip(fig.axes[::2], ("llc", "loss", "weight_norm"), strict=True):
    behind(ax, name)
figures.show(fig, figures.slope_table(panels), "slopes", run.description)

# %% [markdown]
# ## What the first boundary is
#
# Section 7.1, Fig. 5a: the mean square of the model's predictions. The best prediction without the context is
# zero. While the model learns just that, the curve falls. When it begins to use the context, the curve rises again.

# %% mystnb={"image": {"alt": "Mean-square prediction over training: it falls to a minimum below the noise variance and then rises"}}
fig = figures.curve_with_levels(
    evaluation.step, {"transformer": evaluation.msp},
    {"noise variance": settings.task.noise_variance},
    "mean-square prediction (squared target units)",
    errors={"transformer": evaluation.msp_se})
fig.axes[0].set_yscale("log")
figures.stage_bands(fig.axes[0], stages)
figures.show(fig, evaluation[["step", "msp", "msp_se"]],
           "mean_square_prediction", run.description)

# %%
found = on_tables("LR-4", regression=run)
show(found)
for what in ("step of the minimum", "least value, against the noise"):
    assert found["LR-4"][what].verdict != DIFFERS

# %% [markdown]
# ## How much the rule decides
#
# B.1 names the choices: the tolerance, the smoothing, the checkpoints, and whether the slope is taken with
# respect to $\log t$ or to $t$. Here is the same curve with one of them changed at a time. Boundaries that come and
# go are the rule's, not the run's. In $t$ the tolerance is 8 LLC in 40,000 steps, so that both agree there.
#
# The plateau that a curve begins on ends no stage. The curve leaves it where its slope first exceeds the tolerance.
# By our rule that plateau also ends where the curve has drifted from its start by one tolerance, however gently.
# `steep only` is without this second way.

# %%
changes = sensitivity(llc, Rule(rule))
steps = changes.boundaries.str.split().map(lambda found: [int(step) for step in found])
changes["boundaries"] = [spell(found) if len(found) <= 8 else f"{spell(found[:7])}, ..."
                         for found in steps]
show_table(changes, "Boundaries under one other choice at a time")

# %% [markdown]
# The authors' process has no noise term but the least that scikit-learn keeps, a variance of $10^{-10}$. Fitted to
# their released curve, its kernel ends on the bounds and smooths little. Here is ours, with the estimates' own
# errors, with none, and with a fitted level. All are solved in ball arithmetic, for without noise double precision
# does not settle them ([where paper, code and companion differ](13_fidelity) says more).

# %%
kernels = {noise: Rule(rule, noise=noise).curve(llc).kernel for noise in NOISES}
show_table(
    pd.DataFrame(
        [{"noise": noise, **vars(kernel)} for noise, kernel in kernels.items()]
    ),
    "The kernel that fits the curve, by what counts as noise",
    digits="#.4g",
)

# %% [markdown]
# ## How far noise moves them
#
# This is a bootstrap over chains. Each repetition draws the chains anew, smooths their mean with the same kernel,
# and looks for the same boundaries (within a factor of 1.4). `found` is the share of the repetitions that find a
# boundary again. `low` and `high` are the 5th and 95th percentile of where those do. A chain that diverged at any
# checkpoint is left out.

# %%
whole = llc.filter(regex=r"^chain_\d+$").notna().all().sum()
if whole < 3:
    print(f"only {whole} chains diverge nowhere: too few to draw from")
else:
    moved = bootstrap(llc, Rule(rule), seed=seed)
    show_table(moved, "How often each boundary is found again, and where",
               digits={"found": 2, "low": 0, "high": 0})

# %% [markdown]
# ## By the paper's own sampler
#
# The estimates take smaller batches than the paper's 1,024 and stop when their error is small. Where the preset
# asks for it, a few checkpoints are estimated again with the paper's batch and burn-in. Six distances that are
# each no more than three standard errors can still be too many together, and one joint p says so.

# %%
print(
    f"{len(llc)} checkpoints up to step {reached:,}, each with {settings.llc.chains} "
    f"chains, batch {settings.llc.batch}.\nDraws of a chain: {llc.draws.min()} to "
    f"{llc.draws.max()};\n"
    f"burn-in {llc.burn_in.min()} to {llc.burn_in.max()} of them. Standard error at "
    f"most 2% of the LLC at {(llc.mcse <= 0.02 * llc.llc.abs()).mean():.0%} of the "
    f"checkpoints.\nWorst R-hat {llc.rhat.max():.2f}; smallest ESS "
    f"{llc.ess.min():.0f}; "
    f"largest standard error {llc.mcse.max():.2f};\nchains that escaped: "
    f"{llc.escaping.sum()}, diverged: {llc.diverged.sum()}."
)
check = results.check(preset, seed, recompute and not reuse)
rows = []
for row in () if check is None else check["llc"].itertuples():
    ours = at(llc, row.step)
    rows.append(
        {
            "step": row.step,
            f"batch {settings.llc.batch}": ours.llc,
            "error": ours.mcse,
            "the paper's": row.llc,
            "its error": row.mcse,
            "apart (standard errors)": (ours.llc - row.llc)
            / (ours.mcse**2 + row.mcse**2) ** 0.5,
        }
    )
if rows:
    show_table(pd.DataFrame(rows), "LLC by our sampler and by the paper's", digits=1)
    p = joint_of(row["apart (standard errors)"] for row in rows)
    print(f"together: p = {p:.2g}, so that the two samplers "
          f"{'agree' if p >= 0.05 else 'differ'}")
else:
    print("together:", NOT_RUN)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
