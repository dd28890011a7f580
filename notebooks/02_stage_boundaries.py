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
# # Stage boundaries
#
# Section 5, B.1 and B.3 of the paper. The LLC $\hat\lambda(w_t)$ is estimated at checkpoints $t$ of one
# training run; the curve is smoothed by a Gaussian process in $\log(t + 1)$, and where its slope vanishes,
# a stage ends:
#
# $$
# \Big|\frac{d \hat\lambda}{d \log(t + 1)}\Big| \text{ has a local minimum at } t \text{, below a tolerance.}
# $$

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure the committed checkpoints instead of training
tolerance: float = 8.0  # of the slope, above 0, in LLC per unit of log(step + 1)
eps: float = None  # step size of the chains, above 0; None: the preset's
nbeta: float = None  # inverse temperature times samples, above 0; None: the preset's
gamma: float = None  # localisation strength, 0 or more; None: the preset's

# %% tags=["hide-input"]
from companion import figures, results
from companion.claims.judge import DIFFERS
from companion.claims.ledger import on_tables, show
from companion.claims.verdicts import verdict
from companion.health import curve_health, say_health
from companion.pages.boundaries import beside_paper, sensitivity
from devlib.boundaries import NOISES, Rule, bootstrap
from devlib.settings import replace
from devlib.stages import PAPER_STAGE_ENDS, find_stages, smooth
from devlib.steps import at

sampler = {"eps": eps, "nbeta": nbeta, "gamma": gamma}
settings = results.regression_settings(preset, llc=sampler)
rule = replace(settings.stages, tolerance=tolerance)
run = results.regression(preset, seed, recompute, reuse=reuse, llc=sampler)
evaluation, llc = run["evaluation"], run["llc"]
reached = int(evaluation.step.max())
paper = {name: end for name, end in PAPER_STAGE_ENDS["LR"].items() if end < 500_000}
print(f"{len(llc)} checkpoints up to step {reached:,}, each with {settings.llc.chains} chains, "
      f"batch {settings.llc.batch}.\nDraws of a chain: {llc.draws.min()} to {llc.draws.max()}, "
      f"half of the checkpoints at most {llc.draws.median():.0f};\nburn-in {llc.burn_in.min()} to "
      f"{llc.burn_in.max()} of them. Standard error at most 2% of the LLC at "
      f"{(llc.mcse <= 0.02 * llc.llc.abs()).mean():.0%} of the checkpoints.")

# %% [markdown]
# ## The curve and its stages
#
# Each estimate carries its Monte Carlo error, and the Gaussian process takes that error as its noise. The
# dashed lines are the paper's boundaries for this model, as far as this run goes.

# %% mystnb={"image": {"alt": "Test loss above and LLC with error bars below, over training steps, with the stages found as coloured bands and the paper's boundaries dashed"}}
smoothed, boundaries, stages = find_stages(llc, evaluation, rule)
health = curve_health(llc, settings.llc)
fig = figures.llc_curve(llc.assign(health=health), smoothed, stages, paper, evaluation)
figures.show(fig, llc.assign(health=health), "llc", run.description)

# %%
def spell(steps):
    """Steps in words."""
    return ", ".join(f"{step:,}" for step in steps) or "none"


print("boundaries found:", spell(boundaries))
print("the paper's, within this run:",
      spell(step for step in paper.values() if step < reached))
print(f"worst R-hat {llc.rhat.max():.2f}; smallest ESS {llc.ess.min():.0f}; "
      f"largest standard error {llc.mcse.max():.2f}\n"
      f"chains that escaped: {llc.escaping.sum()}, "
      f"diverged: {llc.diverged.sum()}")

# %% [markdown]
# Not every estimate passed its own checks. Where the burn-in ends on its bound, half of the draws, or R-hat is above
# 1.05, the chains were still on their way when they ended: such points are drawn open, and their errors say nothing
# of how far they are from where the chains would come to rest. The stages above are those of all points.

# %%
import textwrap

for line in say_health(llc, evaluation, settings.llc, rule):
    print("\n".join(textwrap.wrap(line, 90, initial_indent="- ", subsequent_indent="  ")))

# %% [markdown]
# ### By the paper's own sampler
#
# The estimates take smaller batches than the paper's 1,024 and stop when their error is small. Where the preset
# asks for it, a few checkpoints are estimated again with the paper's batch and burn-in.

# %%
check = results.check(preset, seed, recompute and not reuse)
apart = []
for row in () if check is None else check["llc"].itertuples():
    ours = at(llc, row.step)
    apart.append((ours.llc - row.llc) / (ours.mcse**2 + row.mcse**2) ** 0.5)
    print(f"step {row.step:7,}: batch {settings.llc.batch}: {ours.llc:6.1f} +- "
          f"{ours.mcse:.1f}; the paper's: {row.llc:6.1f} +- {row.mcse:.1f}; "
          f"apart by {apart[-1]:+.1f} standard errors")
print("all within three standard errors:",
      verdict(all(abs(z) < 3 for z in apart), reached=bool(apart)))

# %% [markdown]
# ## Table 1, the regression half
#
# Change of test loss and LLC over each stage, with the standard errors of both ends combined. The last stage
# ends where the run ends, which need not be the end of a stage.

# %%
digits = {"loss_change": 3, "loss_se": 3, "llc_change": 1, "llc_se": 1}
print(stages.round(digits).to_string(index=False))

# %% [markdown]
# Beside the paper's: changes between the steps where its own stages end, and the LLC there.

# %%
found = on_tables("LR-1", "LR-2", regression=run, rule=rule)
show(found)
for what in ("climb of the LLC after step 984", "loss from step 984 on"):
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
figures.show(fig, figures.slope_table(panels), "slopes", run.description)

# %% [markdown]
# ## What the first boundary is
#
# Section 7.1, Fig. 5a: the mean square of the model's predictions. The best prediction without the context is
# zero, so where the model learns just that, this falls, and where it begins to use the context, it rises again.

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
# respect to $\log t$ or to $t$. The same curve with one of them changed at a time; boundaries that come and go
# are the rule's, not the run's. In $t$ the tolerance is 8 LLC in 40,000 steps, so that both agree there. The
# plateau that a curve begins on ends no stage. It is left where the slope first exceeds the tolerance or, by our
# rule, where the curve has gently come as far from its start as that slope takes it in one unit of $\log t$;
# `steep only` leaves that second way out.

# %%
changes = sensitivity(llc, Rule(rule))
for row in changes.itertuples():
    steps = [int(step) for step in row.boundaries.split()]
    shown = spell(steps) if len(steps) <= 8 else f"{len(steps)}: {spell(steps[:7])}, ..."
    print(f"{row.choice:18} {row.value:9} {shown}")

# %% [markdown]
# The authors' process has no noise term but the least that scikit-learn keeps, a variance of $10^{-10}$; fitted to
# their released curve, its kernel ends on the bounds and smooths little. Here is ours, with the estimates' own
# errors, with none, and with a fitted level. All are solved in ball arithmetic, for without noise double precision
# does not settle them ([where paper, code and companion differ](13_fidelity) says more).

# %%
for noise in NOISES:
    print(f"{noise:7} {Rule(rule, noise=noise).curve(llc).kernel}")

# %% [markdown]
# ## How far noise moves them
#
# A bootstrap over chains: each repetition draws the chains anew, smooths their mean with the same kernel, and
# looks for the same boundaries (within a factor of 1.4). `found` is the share of the repetitions that find it
# again; `low` and `high` are the 5th and 95th percentile of where those do. A chain that diverged at any
# checkpoint is left out.

# %%
whole = llc.filter(regex=r"^chain_\d+$").notna().all().sum()
if whole < 3:
    print(f"only {whole} chains diverge nowhere: too few to draw from")
else:
    moved = bootstrap(llc, Rule(rule), seed=seed)
    print(moved.round(2).to_string(index=False) if len(moved) else "no boundary to move")
print()
print(beside_paper(boundaries, paper, reached).round(2).to_string(index=False))

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
