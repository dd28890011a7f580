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
# # Calibration: settings one can trust
#
# A.3 to A.7 of the paper. An LLC estimate comes out as a number whatever the settings are. This page shows which
# settings decide it and provokes each known failure. It ends with a recipe, and with a function that runs it.
#
# ## Three settings
#
# $$
# w \leftarrow w - \underbrace{\frac{\epsilon\, n\beta}{2}}_{\text{drift}} \nabla L_m(w)
#   - \underbrace{\frac{\epsilon \gamma}{2}}_{\text{pull}} (w - w_0) + \sqrt{\epsilon}\, \xi
# $$
#
# $$
# \hat\lambda = n\beta\, \big(\mathbb E[L_m(w_t)] - L(w_0)\big)
# $$
#
# | | what it does | too small | too large |
# |---|---|---|---|
# | $\epsilon$ | the step: how far the noise carries in one draw | the chain does not get there | biased, then divergent |
# | $n\beta$ | inverse temperature: how fine a difference of loss counts | only the coarse shape shows | steps must shrink with it; minibatch noise takes over |
# | $\gamma$ | the spring to $w_0$, as a prior of precision $\gamma$ | the chain may leave for a better place | it holds directions that the loss leaves free |
#
# A.5.3 sweeps $\epsilon$ and the two products, because the update multiplies by them. The drift is the learning
# rate of plain SGD. The spring is felt after $2 / (\epsilon\gamma)$ steps. In a direction of curvature $h$ the
# chain is stable while
#
# $$
# \epsilon \kappa < 4, \quad \kappa = n\beta\, h + \gamma
# \qquad\Longleftrightarrow\qquad \text{drift} \cdot h + \text{pull} < 2 .
# $$

# %% tags=["parameters"]
preset: str = "laptop"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches and chains
recompute: bool = False  # compute anew instead of reading stored tables

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd

from companion import figures, presets
from companion.claims.ledger import on_tables, show
from companion.claims.verdicts import DIFFERS, verdict
from companion.pages import calibration_figures as draw
from companion.pages.calibration import calibration, increment_error, roughness
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.llc import default_nbeta

scale = presets.get(preset)
settings, llc = scale.calibration, scale.regression.llc
run = calibration(preset, seed, recompute)
runs, lines = run["runs"], run["traces"]
curvature = run["curvature"].set_index("step").top
early, last = curvature.index.min(), curvature.index.max()
far = last >= 4_000  # past the steep part of LR2's climb


def part(name):
    """The runs of one part of this page."""
    return runs[runs.part == name].reset_index(drop=True)


drift, pull = llc.eps * llc.nbeta / 2, llc.eps * llc.gamma / 2
m = settings.batch
sweep, seeded, four = part("sweep"), part("seeded"), part("traces").set_index("name")

# %% tags=["summary", "remove-input"]
states = sweep.status.replace("ok", "passed").value_counts()
summary(
    "An LLC estimate depends on the step, the temperature and the localisation of its "
    "chains. A sweep shows where it can be trusted (A.3 to A.7).",
    [f"Of {len(sweep)} cells of our sweep: "
     + ", ".join(f"{count} {status}" for status, count in states.items()) + ".",
     f"At the settings in use (eps {llc.eps:g}, n beta {llc.nbeta:.1f}, gamma "
     f"{llc.gamma:.2f}) the standard error at step {last:,} is "
     f"{seeded.mcse.iloc[-1] / seeded.llc.iloc[-1]:.1%} and R-hat at most "
     f"{seeded.rhat.max():.2f}.",
     f"They break this page's own recipe: {settings.draws:,} draws a chain where the "
     f"spring alone asks for {math.ceil(10 / (llc.eps * llc.gamma)):,}. So their "
     "errors are those of chains that may still be on their way.",
     "The page ends with a recipe, and with a function that runs it."],
    "LR-16", "LR-21", calibration=run)

# %% [markdown]
# ## The sweep
#
# Fig. A.4, at an earlier checkpoint and, below it, at the last one. Every cell has the same batches and noise. A
# cell without a symbol has passed the checks of `status`. That does not make it right: the step-size bias shows
# only against other cells.

# %% mystnb={"image": {"alt": "Heat maps of the LLC over drift and pull, a row of panels for each checkpoint and a column for each step size, with symbols where chains diverged, escaped or did not converge, and the stability bound dashed"}}
fig = draw.heat_maps(sweep, run["curvature"])
columns = ["step", "eps", "nbeta", "gamma", "llc", "mcse", "rhat", "status"]
figures.show(fig, sweep[columns], "sweep", run.description)

# %%
bound = sweep.step.map(curvature) * sweep.eps * sweep.nbeta / 2 \
    + sweep.eps * sweep.gamma / 2
outside, diverged = bound >= 2, sweep.status == "diverged"
print(f"In use: drift {drift:g}, pull {pull:g}.\n"
      f"m / ln m: {default_nbeta(m):.1f} for m = {m}, "
      f"{default_nbeta(1024):.1f} for m = 1,024.\n"
      f"The spring is felt within {1 / pull:,.0f} steps; "
      f"chains here have {settings.draws}.")
for row in run["curvature"].itertuples():
    print(f"step {row.step:,}: greatest curvature {row.top:.0f} at w0, "
          f"so drift < {2 / row.top:.4f};\n    {row.top_chain:.0f} where a "
          f"chain in use ends, so drift < {2 / row.top_chain:.4f}")
inside = verdict(not (diverged & ~outside).any(), reached=far)
print("no chain within the bound diverges:", inside)
assert inside != DIFFERS
show_table(pd.crosstab(outside.map({True: "beyond", False: "within"}), sweep.status,
                       rownames=["the bound"]), "Cells by their status", index=True)

# %% [markdown]
# The bound is that of a quadratic with the greatest curvature at $w_0$. Chains are biased already below it, since a
# direction's variance is larger than it should be by $1 / (1 - \epsilon\kappa / 4)$. Beyond it a chain need not
# explode. Where a few directions are too stiff for the drift, it is thrown to a place where the loss is less
# curved, and stays. Its estimate then holds the height of that place. So the bound is a warning, and the curvature
# where the chain ends tells whether it was heeded.

# %% [markdown]
# ## The baseline on the same batch
#
# The estimator subtracts $L(w_0)$. The paper takes it on the whole set, so the noise of each minibatch stays in the
# difference. Taken on the draw's own batch, that noise cancels. The expectation is the same, because the batch does
# not depend on $w_t$. These are the same draws, read both ways.

# %% mystnb={"image": {"alt": "Standard error and effective number of draws over checkpoints, for the same-batch baseline and for the whole-set baseline"}}
unseeded = part("unseeded")
fig = draw.baselines(seeded)
columns = ["step", "llc", "mcse", "ess",
           "llc_whole", "mcse_whole", "ess_whole"]
figures.show(fig, seeded[columns], "baselines", run.description)

# %%
gain = (seeded.mcse_whole / seeded.mcse) ** 2
gap = ((seeded.llc - seeded.llc_whole).abs()
       / np.hypot(seeded.mcse, seeded.mcse_whole))
print("variance of the whole-set estimate over the same-batch one's:\n"
      f"{gain.min():.1f} to {gain.max():.1f}, median {gain.median():.1f}")
print(f"the two differ by at most {gap.max():.1f} standard errors")
everywhere = runs[(runs.noise) & runs.mcse_whole.notna()]
falsely = everywhere[everywhere.mcse_whole < everywhere.mcse]
print(f"a ratio below 1: {len(falsely)} of all {len(everywhere)} runs "
      f"here;\n{(falsely.ess < 100).sum()} of them have fewer than 100 "
      "effective draws")

# %% [markdown]
# A ratio of 4 means a quarter of the draws for the same error. A ratio *below* 1 cannot be true, for the whole-set
# estimate has all the noise of the other and the minibatches' besides. There the minibatch noise hides a slow drift
# of the chain: the error estimate takes noisy draws for independent ones. So the same batch buys a smaller error
# where chains mix well, and an honest one where they do not.

# %% [markdown]
# ## Common noise
#
# A.5.2 and Fig. A.3: with the same batches and noise at every checkpoint, errors are shared by neighbours and
# the curve is smoother. To the right each chain by itself, with the chains' mean taken off: lines that run
# level are an error shared by all checkpoints.

# %% mystnb={"image": {"alt": "LLC over checkpoints with common noise and with noise of its own at each checkpoint, and beside it the deviation of each chain from the mean, level for common noise and jagged for the other"}}
fig = draw.seeded_curves(seeded, unseeded)
table = pd.concat([seeded, unseeded])
columns = ["part", "step", "llc", "mcse", *table.filter(regex=r"chain_\d")]
figures.show(fig, table[columns], "seeded", run.description)

# %%
noise, own = {}, "noise of its own"
for name, table in (("common noise", seeded), (own, unseeded)):
    chains = table.filter(regex=r"^chain_\d+$").dropna(axis=1)
    noise[name] = increment_error(chains)
    print(f"{name}: roughness {roughness(table.step, table.llc):.2f}, "
          f"sd of an increment {noise[name]:.2f} a chain")
show("LR-21", calibration=run)
shape = verdict(noise["common noise"] < noise[own], reached=far)
print("A.5.2, increments are known better with common noise:", shape)
assert shape != DIFFERS

# %% [markdown]
# Roughness is how far points lie from the line through their neighbours. The curve's own bends are in it; where
# they are larger than the noise, it says nothing of the noise. The sd of an increment between neighbouring
# checkpoints comes from the spread over chains, so only noise is in it. Common noise makes no single point better.
# Its error is as large as before, and the whole curve may lie too high or too low.

# %% [markdown]
# ## Four traces
#
# Fig. A.5, with the running estimate of A.5.4,
# $\hat\lambda_t = \frac{t}{t+1} \hat\lambda_{t-1} + \frac{n\beta}{t+1} \big(L_m(w_t) - L_m(w_0)\big)$.
# The three failures are made on purpose: ten times the drift; a thirtieth of the step at the same temperature;
# and, at the earlier checkpoint, no spring and hundreds of times the inverse temperature.

# %% mystnb={"image": {"alt": "Four panels of LLC traces with running estimates: sound, divergent, not converged, escaping"}}
titles = {name: f"{name}: step {row.step:,}, $\\epsilon$ {row.eps:g}, "
          f"$n\\beta$ {row.nbeta:,.0f}\nstatus: {row.status}"
          for name, row in four.iterrows()}
four_lines = lines[lines.part == "traces"]
fig = draw.traces(four_lines, titles)
figures.show(fig, four_lines, "traces", run.description)

# %%
failures = {"divergent": "diverged", "not converged": "not converged",
            "escaping": "escaping"}
for name, row in four.iterrows():
    print(f"{name:14} status: {row.status}", end="")
    if pd.isna(row.llc):
        print(f", at draw {row.diverged_at:.0f}")
    else:
        print(f", LLC {row.llc:,.0f}, R-hat {row.rhat:.2f}")
named = verdict(all(four.status[name] == kind
                    for name, kind in failures.items()), reached=far)
print("each failure is named by `status`:", named)
assert named != "differs"

# %% [markdown]
# A trace that still falls, below zero, says that $w_0$ was not the bottom of its valley and the temperature is low
# enough for that to count more than the volume around it. The remedy is a higher temperature or a stronger spring.
# A chain that has not converged can look as smooth as a sound one: only chains that disagree give it away.

# %% [markdown]
# ## Is the step small enough?
#
# SGLD takes every step; the Metropolis-adjusted algorithm would refuse some, so that the step size leaves no
# bias. How many it would refuse measures the step, without a second run to compare with.

# %% mystnb={"image": {"alt": "Acceptance probability against step size at two checkpoints, with the step size in use dotted"}}
accepted = part("acceptance")
fig = draw.acceptance(accepted, llc.eps)
columns = ["step", "eps", "acceptance", "acceptance_mcse", "status"]
figures.show(fig, accepted[columns], "acceptance", run.description)

# %% tags=["hide-output"]
table = accepted.assign(eps_kappa=accepted.eps * (
    accepted.nbeta * accepted.step.map(curvature) + accepted.gamma))
table = table[["step", "eps", "eps_kappa", "acceptance", "status"]]
show_table(table.sort_values(["step", "eps"]), "Acceptance by step size",
           digits={"eps": ".2g", "eps_kappa": 2, "acceptance": 2})

# %% [markdown]
# Acceptance is a strict judge: one stiff direction is enough to lower it, though its share of the LLC is a
# half out of the whole. Read it as a warning where it collapses, not as a target to be tuned to 1.

# %% [markdown]
# ## A loss that is no likelihood
#
# A.6. The mean error over all positions of a context counts the same samples again and again. No independent
# observations have it as their log likelihood. Drawing one position a context does (eqs. 13, 14):
#
# $$
# \ell_n(w) = \frac 1n \sum_i \big(y^i_{k_i} - f_w(S^i_{\le k_i})\big)^2, \qquad k_i \text{ uniform in } 1 .. K .
# $$
#
# $k_i$ is drawn once for each context of the set and is part of its data. Same expectation, more noise.

# %% mystnb={"image": {"alt": "Running LLC estimates from the loss and from the likelihood at several checkpoints, and the two final estimates plotted against each other"}}
likelihood = part("likelihood")
both = lines[lines.part.isin(["seeded", "likelihood"])
             & lines.step.isin(likelihood.step)]
fig = draw.two_losses(both, seeded, likelihood)
loss = seeded[seeded.step.isin(likelihood.step)].reset_index(drop=True)
columns = ["part", "step", "llc", "mcse", "rhat", "status"]
table = pd.concat([loss, likelihood])[columns]
figures.show(fig, table, "two_losses", run.description)

# %%
show_table(pd.DataFrame({
    "step": loss.step, "from the loss": loss.llc, "its error": loss.mcse,
    "from the likelihood": likelihood.llc, "its error ": likelihood.mcse}),
    "LLC by two losses", digits=1)
found = on_tables("LR-16", calibration=run)
show(found)
assert found["LR-16"].verdict != DIFFERS

# %% [markdown]
# ## Away from minima
#
# A.7. A checkpoint in training is no minimum, and the chain could gain by descending. Two checks tell whether it
# does. First, the same update without its noise: what descent alone gains with the same batches, in the same
# number of steps, in the LLC's unit. Second, the dependence on $\gamma$.

# %% mystnb={"image": {"alt": "Left, the LLC over checkpoints beside the negative gain of noise-free descent; right, the LLC against the localisation at two checkpoints"}}
descent = part("descent")
off = (np.log(sweep.eps / llc.eps).abs()
       + np.log(sweep.eps * sweep.nbeta / 2 / drift).abs())
near = sweep[off < off.min() + 1e-6]  # the settings in use, or nearest
fig = draw.away_from_minima(seeded, descent, near)
columns = ["part", "step", "gamma", "llc", "mcse", "status", "distance"]
table = pd.concat([seeded, descent, near])[columns]
figures.show(fig, table, "away", run.description)

# %% tags=["hide-output"]
gain = (-descent.llc).clip(lower=0)
share = gain / (gain + seeded.llc.clip(lower=0))
table = pd.DataFrame({"step": seeded.step, "LLC": seeded.llc,
                      "descent": descent.llc, "share": share})
show_table(
    table, "What descent alone gains", digits={"LLC": 1, "descent": 1, "share": 2}
)
believed = seeded.step[share < 0.1]
print("descent offsets less than a tenth at steps:",
      ", ".join(f"{step:,}" for step in believed) or "none")
print(f"chains end about {seeded.distance.mean():.0f} from w0, "
      f"whose norm is about {seeded.weight_norm.mean():.0f}")
print("escaping:", (seeded.status == "escaping").sum(), "of", len(seeded),
      "checkpoints; worst R-hat", round(seeded.rhat.max(), 2))

# %% [markdown]
# The estimate is what the noise costs minus what descent gains. `share` is the part of the cost that the gain takes
# away. (A positive value of descent is minibatch noise, or a drift too large for the curvature.) Where the share is
# small, the number can be read as an LLC. Where it is not, early in training, the number is a property of $w_0$,
# $\gamma$ and the chain's length together, and its zero means nothing. To the right, a spring that begins to matter
# lowers the estimate; one that *raises* it has left the stability bound. Compare also the distance with the norm of
# the weights. "Local" means that the *loss* stays close, along thousands of directions that it hardly sees. It does
# not mean that the weights do.

# %% [markdown]
# ## Temperature
#
# A.5.1. The step is shrunk where $n\beta$ grows, so that the drift stays below its value in use.

# %% mystnb={"image": {"alt": "LLC against inverse temperature on logarithmic axes at two checkpoints, with the value in use and m over ln m marked"}}
heat = part("temperature")
fig = draw.temperature(heat, llc.nbeta, default_nbeta(settings.batch))
columns = ["step", "eps", "nbeta", "llc", "mcse", "rhat", "status"]
figures.show(fig, heat[columns], "temperature", run.description)

# %%
for step, table in heat.groupby("step"):
    for row in table.sort_values("nbeta").iloc[[0, -1]].itertuples():
        print(f"step {step:,}, n beta {row.nbeta:5.1f}: "
              f"LLC {row.llc:.1f} +- {row.mcse:.1f} ({row.status})")

# %% [markdown]
# For an exact singular point $n\beta\, \mathbb E[L - L(w_0)]$ comes to a constant as $n\beta$ grows. A network in
# training has structure at every scale of the loss, and each temperature shows another. An LLC without its $n\beta$
# is not a number. Curves can be compared at the same temperature.

# %% [markdown]
# ## How large a batch, how many draws
#
# The same settings with other batches. The last column is the work for a standard error of 2%, in contexts, if
# the error falls as one over the root of the draws after burn-in.

# %%
batches = part("batch")
steady = batches.chains * (batches.draws - batches.burn_in)
work = batches.batch * (batches.chains * batches.burn_in
                        + steady * (batches.mcse / batches.llc / 0.02) ** 2)
table = batches[["step", "batch", "llc", "mcse", "ess", "rhat"]].assign(
    contexts=(work / 1_000).round().astype(int)).rename(
        columns={"contexts": "contexts (thousands)"})
show_table(table, "Batches, and the work to a standard error of 2%",
           digits={"llc": 1, "mcse": 1, "ess": 0, "rhat": 2})
for step, table in batches.groupby("step"):
    table = table.sort_values("batch")
    small, large = table.iloc[0], table.iloc[-1]
    gap = abs(small.llc - large.llc) / np.hypot(small.mcse, large.mcse)
    print(f"step {step:,}: smallest and largest batch differ by "
          f"{gap:.1f} standard errors")

# %% [markdown]
# ## What this says of the settings in use
#
# From the runs above, at the settings that the preset's other pages use.

# %%
final = seeded.iloc[-1]
print(f"{settings.chains} chains of {settings.draws} draws, "
      f"batch {settings.batch}:\n"
      f"standard error {final.mcse / final.llc:.1%} "
      f"at step {final.step:,}, over all checkpoints\n"
      f"at most {seeded.mcse.max():.1f} units; "
      f"R-hat at most {seeded.rhat.max():.2f}")
ends = run["curvature"].set_index("step").loc[last]
print(f"drift times greatest curvature: {ends.top * drift:.1f} at w0 of "
      f"step {last:,},\n{ends.top_chain * drift:.1f} where chains end; "
      "stable below 2")
tried = heat.llc[heat.step == last]
print(f"LLC of that step, over the temperatures tried: "
      f"{tried.min():.0f} to {tried.max():.0f}")

# %% [markdown]
# - **Batch.** Where the standard errors of the table above are to be trusted (ESS of 100 or more), small batches
#   agree with large ones and come to the same error on fewer contexts: the noise is the chain's own.
# - **Draws.** A few hundred give the errors printed above: enough for the shape of the curve. The weak points are
#   checkpoints with few effective draws, where the stated error is itself a guess; go on until it is not (`estimate_to_precision`).
# - **What more draws do not mend.** The number belongs to its temperature; it holds a bias where the drift is beyond
#   the bound; and at checkpoints that descent still improves quickly it is no LLC. Differences between
#   checkpoints at one setting are what the rest of this book rests on, and not the values.

# %% [markdown]
# ## A recipe
#
# 1. Fix the batch $m$ and $n\beta$, by default $m / \ln m$, and never change $n\beta$ within a comparison.
# 2. Take the smallest $\gamma$ of a decade grid; raise it only if chains escape.
# 3. Come down with $\epsilon$ until two neighbours are sound and agree; keep the larger, if its bias (against twice
#    the step, on the same noise) fits the precision that is wanted. Its chains have $5 \cdot 2 / (\epsilon\gamma)$
#    draws or more: the spring alone takes as long. If they may not have so many, raise $\gamma$.
# 4. Keep the drift times the greatest curvature below 1 where you can afford the curvature.
# 5. Look at the traces: level, overlapping, positive, R-hat at most 1.01 where a number is to be published. The curves of
#    this book are older than that limit: they count as unsound above 1.05.
# 6. Subtract the loss of $w_0$ on the same batch, and take as many draws as the error asks for.
# 7. Repeat 5 at an early checkpoint and at the steepest one, with common noise throughout.
# 8. Report $\epsilon$, $n\beta$, $\gamma$, $m$, draws, burn-in and the standard error with every LLC.
#
# `calibrate` runs lines 1 to 3 and works out the draws of 6. First on a model with a known answer: four
# inputs of which one is always zero, so that the LLC is $3/2$ but for the spring and the step.

# %% tags=["show-input"]
import textwrap

import torch

from devlib.llc.calibrate import calibrate

gen = torch.Generator().manual_seed(seed)
truth = torch.tensor(
    [[1.0, -2.0, 0.5, 0.0]], dtype=torch.float64
)  # six digits on any processor
xs = torch.randn(4096, 4, generator=gen).double()
xs[:, 3] = 0.0
ys = xs @ truth.T + 0.1 * torch.randn(4096, 1, generator=gen).double()


def half_square(params, batch):
    """Half the squared error of each sample, (m,)."""
    x, y = batch
    return 0.5 * (x @ params["weight"].T - y).square()[:, 0]


# five times the draws that are usual, so that the choice does not depend on their noise
small = calibrate(half_square, {"weight": truth}, (xs, ys), batch_size=128, draws=2000,
                  precision=0.05)
print("\n".join(textwrap.wrap(str(small), 70)))

# %% mystnb={"image": {"alt": "What calibrate tried on the linear model: LLC with error bars against step size, failures marked and the proposal ringed"}}
chosen = small.sampler.eps, small.sampler.gamma
fig = draw.trials(small.table, chosen)
figures.show(fig, small.table, "trials_linear", "linear model of four inputs")
proposed = small.table[np.isclose(small.table.eps, chosen[0])].iloc[0]
assert abs(proposed.llc - 1.5) < 0.2 + 4 * proposed.mcse

# %% [markdown]
# Then on the last checkpoint of the regression run.

# %% mystnb={"image": {"alt": "What calibrate tried on the regression model: LLC with error bars against step size for each localisation, failures marked and the proposal ringed"}}
trials, proposal = run["trials"], run["proposal"].iloc[0]
found = "eps" in proposal
fig = draw.trials(trials, (proposal.eps, proposal.gamma) if found else None)
figures.show(fig, trials, "trials_regression", run.description)

# %%
print("\n".join(textwrap.wrap(proposal.words, 70)))
show_table(pd.crosstab(trials.gamma, trials.status), "What was tried", index=True)
assert not found or "precision reached" in proposal.words  # as the text below says

# %% [markdown]
# "Too slow" are settings whose spring alone would take longer to relax than the draws that are allowed: they are not
# run. So with few draws `calibrate` proposes a stronger spring than with many. It moves on to the next $\gamma$ when
# no two neighbouring steps are sound and agree. "Biased" is a step whose error, measured against twice that step, does
# not fit the precision. What is proposed has been tested: the last estimate in the text above is of chains run to
# that precision.

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
