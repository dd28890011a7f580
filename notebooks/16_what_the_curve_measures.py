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
# # What the curve measures
#
# The paper reads the LLC curve as the degeneracy of the loss near $w_t$. This page asks what the sampler does
# at the paper's own settings. It keeps the definitions of Section 4 and A.3; what it adds is ours.
#
# An estimate is a difference of two losses. With $\bar L$ the mean loss of a chain,
#
# $$
# \hat\lambda = n\beta \, (\bar L - L(w_0)), \qquad \bar L = L(w_0) + \hat\lambda / n\beta .
# $$
#
# If the chain forgets where it began, $\bar L$ is the same number $c$ at every checkpoint. The curve is then
# $n\beta \, (c - L(w_t))$: the test loss upside down, and nothing else.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure the committed checkpoints instead of training

# %% tags=["hide-input"]
import math

import numpy as np

from companion import figures, presets, results
from companion.pages import curve, curve_figures
from devlib.boundaries import Rule
from devlib.steps import nearest_each

settings, chosen = results.regression_settings(preset), presets.get(preset).protocols
run = results.regression(preset, seed, recompute, reuse=reuse)
found = results.protocols(preset, seed, recompute, reuse=reuse)
llc, evaluation = run["llc"], run["evaluation"]
nbeta, gamma = settings.llc.nbeta, settings.llc.gamma
nothing = settings.task.task_dim + settings.task.noise_variance  # the loss of predicting zero
reached = int(llc.step.max())
part = found["estimates"]
print(f"{part.step.nunique()} checkpoints up to step {reached:,}; from each start {chosen.chains} chains "
      f"of {chosen.draws} draws, batch {chosen.batch}; the first {chosen.burn_in} are burn-in.")

# %% [markdown]
# ## Where the chains end
#
# Below is $\bar L$ over training, beside the loss of the model that the chains start from. Grey: the same from the
# five released seeds, their mean and range. A predictor that says zero, whatever the context, has the loss of the
# dashed line.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean loss of the chains over training: a flat line above the loss of predicting zero until step 40,000, while the loss of the model falls from 4.3 to 1.9; after that the chains' loss falls too"}}
ours = curve.chain_loss(llc, nbeta)
released = curve.released("chain_loss")
fig = curve_figures.chain_loss(ours, released, {"predicting zero": nothing},
                               "loss (squared target units)")
figures.show(fig, ours, "chain_loss", run.description)

# %% tags=["hide-input"]
LAST = 40_404  # the last step at which all released chains have forgotten
early, released_early = ours[ours.step <= LAST], released[released.step <= LAST]
plateaus = curve.released_plateaus()
r = plateaus[plateaus.curve == "correlation to 40404"].value
slope = plateaus[plateaus.curve == "slope to 40404"].value
own = np.corrcoef(llc.llc[early.index], -early.loss)[0, 1]
print(f"Up to step {min(LAST, reached):,}:\n"
      f"  mean loss of the chains, released seeds: {released_early['mean'].mean():.3f}, every seed and step "
      f"within {released_early.least.min():.3f} to {released_early.greatest.max():.3f}\n"
      f"  ours: {early.chain_loss.mean():.3f} +- {early.chain_loss.std():.3f} (sd over checkpoints)\n"
      f"  corr(LLC, -loss), released seeds: {r.min():.5f} to {r.max():.5f}; ours: {own:.5f}\n"
      f"  slope of the LLC against -loss, released: {slope.min():.1f} to {slope.max():.1f}; "
      f"nbeta is {nbeta:.1f}")

# %% [markdown]
# So to that step the curve at the paper's settings says what the test loss says. The reason is the spring. The
# localising Gaussian has a standard deviation of $1/\sqrt\gamma$ a weight, and the weights themselves are smaller:

# %% tags=["hide-input"]
spring = part[(part.protocol == "equilibrium") & (part.start == "w0")]
for row in spring[spring.step.isin(nearest_each(spring.step, (0, 12_221, 40_404, 146_464, 217_171, reached)))].itertuples():
    print(f"step {row.step:7,}: spring's sd {gamma**-0.5:.3f}, rms of the weights "
          f"{gamma**-0.5 / row.spring_ratio:.3f}; ratio {row.spring_ratio:.2f}")
print(f"The spring alone relaxes in 2 / (eps gamma) = {2 / (settings.llc.eps * gamma):,.0f} draws.")

# %% [markdown]
# ### Is it the step?
#
# Another reading would be that the step is too long: along a direction of curvature $h$, an Euler step of
# $\epsilon\, n\beta\, h > 4$ diverges, and throws a chain out of a basin in which it would otherwise stay. At the
# paper's step that is so for the steepest direction from about step 5,000 to 40,000, in the released runs and in
# ours.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Step size times inverse temperature times the largest Hessian eigenvalue over training: above the limit of 4 between steps 5,000 and 40,000"}}
top = results.hessian(preset, seed, recompute, reuse=reuse)["statistics"]
strength = settings.llc.eps * nbeta
steep = top[["step"]].assign(steepness=strength * top.eig_1)
theirs = curve.released("curvature")
theirs[["mean", "least", "greatest"]] *= strength
fig = curve_figures.step_stability(steep, theirs, LIMIT := 4.0)
figures.show(fig, steep, "steepness", run.description)

# %% [markdown]
# So the same target is sampled once more by a tenth of the step, which is stable there, in as many times the draws,
# from both starts.

# %% tags=["hide-input"]
small = part[part.protocol == "small step"]
for row in small.itertuples():
    print(f"step {row.step:7,}, eps {row.eps:.0e}, from {'w0       ' if row.start == 'w0' else 'the prior'}: "
          f"LLC {row.llc:6.1f} +- {max(row.mcse, row.chain_sd / row.chains**0.5):.1f}, mean loss of the chain "
          f"{row.chain_loss:.2f}")
if not len(small):
    print("this preset takes no smaller step")

# %% [markdown]
# ## What a chain's last state still knows
#
# Loss at each position $k$ of the context: of the model, and of the last state of a chain that started from it.
# A flat line near four has unlearned the task.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against position in the context at four checkpoints, of the model and of the last states of its chains: at the earlier checkpoints the chains' lines are flat above four"}}
table = found["positions"].fillna({"start": ""})
shown = nearest_each(table.step, (12_221, 40_404, 217_171, 499_999) if reached > 100_000
                     else (reached // 10, reached))
fig = curve_figures.positions(table, shown)
figures.show(fig, table, "positions_of_chains", found.description)

# %% [markdown]
# ## Two starts, two regimes
#
# Chains that have forgotten their start cannot tell where they began. So each checkpoint is sampled twice: from
# $w_0$, and from the prior, $w_0 + N(0, 1/\gamma)$. Filled marks: the two agree within three standard errors. Open
# marks: they do not, and neither number is *the* LLC. Diamonds are chains as long as the paper's with every draw
# averaged, as its code does.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC over training from two starts, with the released range in grey: they agree up to step 146,464 and part after it, where the released curve falls and the chains from the prior do not"}}
RELEASED_LLC = curve.released("llc")
both = curve.with_meeting(part[part.protocol == "equilibrium"])
published = part[part.protocol == "as published"]
fig = curve_figures.two_starts(both, published, llc, RELEASED_LLC)
figures.show(fig, both, "two_starts", found.description)

# %% tags=["hide-input"]
apart = sorted(both[~both.meet].step.unique())
agree = sorted(both[both.meet].step.unique())
print(f"the starts agree at {len(agree)} of {both.step.nunique()} checkpoints; "
      f"apart at: {', '.join(f'{step:,}' for step in apart) or 'none'}")
wide = both.pivot(index="step", columns="start", values="llc")
for step in nearest_each(both.step, (984, 12_221, 40_404, 95_959, 146_464, 217_171, 328_282, 499_999)):
    stored = llc[llc.step == step].llc
    long = published[published.step == step].llc
    print(f"step {step:7,}: from w0 {wide.w0[step]:6.1f}, from the prior {wide.prior[step]:6.1f}"
          + (f", other pages {stored.iloc[0]:6.1f}" if len(stored) else "")
          + (f", as published {long.iloc[0]:6.1f}" if len(long) else ""))

# %% [markdown]
# The climb shows why a long chain's average depends on its length. From $w_0$ the chain needs thousands of draws to
# leave the surroundings of a late checkpoint, if it leaves them at all; an average over all draws is the mean of
# that climb.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Block means of the LLC along chains from two starts at late checkpoints: from the prior flat from the beginning, from w0 climbing over thousands of draws"}}
if len(published):
    late = nearest_each(published.step, (217_171, 499_999) if reached > 100_000 else (reached,))
    panels = [(step, ("w0, small step", "prior, small step"), chosen.small_factor)
              for step in sorted(small.step.unique())[:1]]
    panels += [(step, ("w0, long", "prior"), 1) for step in late]
    fig = curve_figures.climb(found["climb"], panels, RELEASED_LLC)
    figures.show(fig, found["climb"], "climb", found.description)
else:
    print("this preset runs no chains of the paper's length")

# %% [markdown]
# ## A local protocol
#
# What would a chain measure that keeps what the model knows? Ours: the paper's $n\beta$, a spring whose standard
# deviation is a tenth of the weights' root mean square at each checkpoint, and a step that is stable in the steepest
# direction. The share kept is $1 - (\bar L - L(w_0)) / (L_{ref} - L(w_0))$, against the predictor of zero; it has no
# meaning where the model is no better than that.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC by the local protocol over training from two starts above, and the share of the model's knowledge that the chains keep below"}}
local = curve.with_retained(curve.with_meeting(part[part.protocol == "local"]), nothing)
fig = curve_figures.local_curve(local, evaluation)
figures.show(fig, local, "local_protocol", found.description)

# %% tags=["hide-input"]
print(f"nbeta {nbeta:.0f}, spring's sd {chosen.local_ratio:g} of the weights' rms")
print(f"share kept: {local.retained.min():.0%} to {local.retained.max():.0%}; the two starts agree at "
      f"{local[local.meet].step.nunique()} of {local.step.nunique()} checkpoints")

# %% [markdown]
# The profile: the same over $n\beta$, for three springs. A number that hangs on both is no property of the
# checkpoint alone.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC against inverse temperature at several checkpoints, one panel for each width of the spring"}}
profile = found["profile"].assign(ratio=found["profile"].spring_ratio.round(3))
profile = curve.with_meeting(profile, by=("step", "nbeta", "ratio"))
fig = curve_figures.profile(profile)
figures.show(fig, profile, "profile", found.description)

# %% [markdown]
# ## A null: what does the LLC add?
#
# The plateau rule (B.1; errors of 1, tolerance 8) on the LLC, on $n\beta (c - L)$, which has no LLC in it, on
# $n\beta (\bar L - c)$, and on the weight norm, scaled to the LLC's range.

# %% tags=["hide-input"]
rule = Rule(settings.stages)
loss = evaluation.set_index("step").loss[llc.step].to_numpy()
norm = evaluation.set_index("step").weight_norm[llc.step].to_numpy()
c = early.chain_loss.mean()
curves = {"llc": (llc.llc.to_numpy(), False), "nbeta (c - loss)": (nbeta * (c - loss), False),
          "nbeta (chain loss - c)": (nbeta * (ours.chain_loss.to_numpy() - c), False),
          "weight norm, scaled": (norm, True)}
own = curve.plateaus(llc.step, curves, rule)
for name in curves:
    print(name)
    for row in plateaus[plateaus.curve == name].itertuples():
        print(f"  released seed {row.seed}: {', '.join(f'{int(s):,}' for s in row.boundaries.split())}")
    print(f"  ours: {', '.join(f'{step:,}' for step in own[name])}")

# %% [markdown]
# ## The language model
#
# The same for the two-layer language model. Guessing every token with equal probability has the loss
# $\ln 5000$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean loss of the language model's chains over training, above uniform guessing for the released model"}}
from companion import results_language

language = results_language.language(preset, 0 if preset == "published" else seed, False, 2)
words = presets.get(preset).language
lm = curve.chain_loss(language["llc"], words.llc.nbeta)
uniform = math.log(words.model.vocabulary)
fig = curve_figures.chain_loss(lm, curve.released("language_chain_loss"),
                               {"uniform guessing": uniform}, "loss (nats)")
figures.show(fig, lm, "language_chain_loss", language.description)
theirs = curve.released("language_chain_loss")["mean"]
print(f"released: {theirs.min():.1f} to {theirs.max():.1f} nats; "
      f"ours: {lm.chain_loss.min():.1f} to {lm.chain_loss.max():.1f}; uniform guessing {uniform:.2f}")

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
