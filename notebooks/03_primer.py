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
# # Primer: what the LLC measures
#
# Section 4, A.1 and A.2 of the paper. Every other page of this book reads the LLC of a trained network,
# where nobody knows the answer. Here it is measured where the answer is known: on losses of a few
# parameters, and on linear networks. Nothing is trained, so apart from `smoke` all presets compute the same.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of chains
recompute: bool = False  # compute anew instead of reading stored tables

# %% tags=["hide-input"]
import warnings

import numpy as np

from companion import figures
from companion.claims.ledger import on_tables, show
from companion.claims.verdicts import DIFFERS
from companion.known.potentials import FIGURE_2
from companion.pages import primer_figures
from companion.pages.primer import SETTINGS, agrees, kept_histogram, primer
from companion.pages.volumes import RADIUS
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.errors import ShortChains

# the loss holds the chains of this page, long before the spring would
warnings.simplefilter("ignore", ShortChains)
run = primer(preset, seed, recompute)
settings = SETTINGS[preset]
found, sgld = run["estimates"], run["network_estimates"]

# %% tags=["summary", "remove-input"]
off = (found.estimate - found.reference).abs() / found.mcse
linear = ((sgld.estimate - sgld.reference).abs()
          / np.hypot(sgld.mcse, sgld.reference_mcse))
summary(
    "The local learning coefficient measures how degenerate a loss is around a "
    "parameter: the rate at which the volume of low loss shrinks (Section 4, A.1, "
    "A.2).",
    f"Where the answer is known, the estimator finds it. On the {len(found)} examples "
    f"of A.2 and Fig. 2 it is at most {off.max():.1f} standard errors from what its "
    f"settings should give, on {len(sgld)} linear networks at most {linear.max():.1f}.",
    "A-1",
    "A-2",
    primer=run,
)

# %% [markdown]
# ## A rate at which volume shrinks
#
# Let $B$ be a small ball around a minimum $w_0$. How much of it has a loss within $\varepsilon$ of the
# lowest?
#
# $$
# V(\varepsilon) = \int_{\{w \in B:\; L(w) - L(w_0) < \varepsilon\}} dw
# \;\sim\; c\, \varepsilon^{\lambda} \left(-\log \varepsilon\right)^{m - 1}
# \quad \text{as } \varepsilon \to 0
# $$
#
# The exponent $\lambda$ is the LLC, $m$ its multiplicity (A.1). A small $\lambda$ means that much volume is
# left when the loss must be very low. (This $\varepsilon$ is a loss; elsewhere in the book $\epsilon$ is the
# step of a chain.)
#
# Below, $V$ of the four potentials of Fig. 2 and of $w_1^2 w_2^2$, the simplest one with $m = 2$, by
# quadrature along rays from $w_0$.

# %% mystnb={"image": {"alt": "Volume of low loss against the loss level for five potentials, in double logarithmic scale, and its local slope, which comes to the LLC of each potential"}}
volumes = run["volumes"]
fig = primer_figures.volumes(volumes, RADIUS)
figures.show(fig, volumes, "volumes", run.description)

# %%
lowest = volumes[volumes.eps <= 1e-14].groupby("potential", sort=False)
slopes = lowest[["llc", "multiplicity", "slope"]].mean()
show_table(
    slopes,
    "Slope of the volume at losses of 1e-16 to 1e-14, and the LLC",
    index=True,
    digits=4,
)
single = slopes[slopes.multiplicity == 1]
assert (single.slope - single.llc).abs().max() < 1e-3
double = slopes[slopes.multiplicity == 2].iloc[0]
assert 0.01 < double.llc - double.slope < 0.05

# %% [markdown]
# With multiplicity 1 the slope arrives at $\lambda$, to three digits at these levels. With multiplicity 2 the
# logarithm bends the curve at every scale. The slope is then $\lambda - (m - 1) / (-\log \varepsilon)$ up to higher
# orders. At a loss of $10^{-14}$ it is still visibly below $\lambda$. To the right all curves level off, where the
# set fills the ball.
#
# ## The same exponent, from an average
#
# An average over low losses needs no volume to be known. Under the density proportional to
# $e^{-n\beta L}$ on $B$, with $L(w_0) = 0$, integrating by parts gives
#
# $$
# n\beta\, \mathbb E[L] = n\beta\,
# \frac{\int \varepsilon\, V(\varepsilon)\, e^{-n\beta\varepsilon}\, d\varepsilon}
#      {\int V(\varepsilon)\, e^{-n\beta\varepsilon}\, d\varepsilon} - 1,
# $$
#
# and if $V = c\,\varepsilon^\lambda$ this is $\lambda$ exactly, at every $n\beta$. If $V$ follows the power
# only at small $\varepsilon$, then only at large $n\beta$: the average sees the volume at losses of about
# $1 / n\beta$.

# %% mystnb={"image": {"alt": "Mean of n beta times the loss against n beta for five potentials: each curve rises to the LLC, the one of multiplicity 2 slowest"}}
means = run["means"]
fig = primer_figures.means(means)
figures.show(fig, means, "means", run.description)

# %%
table = means.pivot_table("mean", ["potential", "llc"], "nbeta", sort=False)
columns = [nbeta for nbeta in table if round(nbeta) in (100, 10**4, 10**8)]
table = table[columns]
table.columns = [f"n beta = {nbeta:.0e}" for nbeta in columns]
show_table(table, "Mean of n beta times the loss", index=True)
far = means[means.nbeta > 1e11].groupby("potential", sort=False).last()
gap = (far["mean"] - far.llc).abs()
assert gap.drop("multiplicity 2").max() < 2e-3 < gap["multiplicity 2"]

# %% [markdown]
# So a finite $n\beta$ has an answer of its own, and an estimator must be held against that one. At $n\beta = 100$
# the third potential is far from its 1/4. No sampler has failed: that is the volume at losses of 1/100. A network's
# LLC is read at one $n\beta$ too. Only estimates at the same $n\beta$ and $\gamma$ can be compared.
#
# ## How the estimator reads it
#
# For a network no integral can be done. Chains of stochastic-gradient Langevin dynamics, {eq}`eq-sgld`, visit the
# neighbourhood of $w_0$ with that density. A Gaussian of precision $\gamma$ takes the place of the ball. The
# average over their draws is the estimate, {eq}`eq-llc`. On a loss of one's own, it takes the lines below. The
# models are $x \mapsto w x$ and $x \mapsto w^2 x$, with the truth at $w_0 = 0$:

# %% tags=["show-input"]
import torch

from devlib.llc import estimate_llc
from devlib.sampling import SGLD, sample_chains

xs = torch.randn(1000, generator=torch.Generator().manual_seed(seed))
params = {"w": torch.zeros(())}
for power in (1, 2):
    def loss(params, batch, power=power):
        return (params["w"]**power * batch[0])**2  # one value a sample

    draws = sample_chains(loss, params, (xs,), SGLD(2e-3, 20, 0.1),
                          chains=64, draws=900, burn_in=400,
                          batch_size=100, seed=seed)
    estimate = estimate_llc(draws)
    print(f"w^{power} x:", estimate)
    assert abs(estimate.mean - 1 / (2 * power)) < 0.1

# %% [markdown]
# One parameter each, but around zero the second model hardly moves with it, and it counts half as much.
# What `sample_chains` takes, and what it does when a chain fails, is on the page
# [use it on your own model](../book/use).
#
# ## The examples of A.2 and of Fig. 2
#
# A quadratic direction counts 1/2, a quartic one 1/4, an unused one nothing. In Fig. 2's last two potentials
# directions are not separate, and no such count is possible. (Which exponents Fig. 2 draws is inferred from
# its text.)

# %% mystnb={"image": {"alt": "Level lines of the four potentials of Figure 2, with the points where chains ended spread along the directions of low loss"}}
fig = primer_figures.contours(FIGURE_2, run["ends"])
figures.show(fig, run["ends"], "chain_ends", run.description)

# %%
ends = run["ends"]
fourth = ends[ends.potential == FIGURE_2[3].name]
away = ((fourth.w1 - 1).abs() < 0.2).sum()
print(f"fourth potential: {away} of {len(fourth)} chains ended by the line")

# %% [markdown]
# Lines are levels of the loss, from 1 inwards, each a tenth of the one before. The cross is $w_0$, the dots are
# where chains ended. In the third potential they spread along two lines of minima. In the fourth a few have left
# for the line $w_1 = 1$, whose points are minima too, of LLC 1/2. A sampler measures all that it can reach.

# %% mystnb={"image": {"alt": "For each of seven examples the exact LLC, the value to expect at this n beta and gamma, and the SGLD estimate with error bars, which covers the latter"}}
labels = [f"{row.potential}\n${row.formula}$" for row in found.itertuples()]
fig = primer_figures.estimates(found, labels)
figures.show(fig, found, "estimates", run.description)

# %%
toys = settings.toys
columns = ["potential", "llc", "limit", "reference", "estimate", "mcse"]
show_table(
    found[columns],
    f"The examples at n beta {toys.nbeta:g}, gamma {toys.gamma:g}, step {toys.eps:g}",
)
print(f"smallest ESS {found.ess.min():.0f}, largest R-hat "
      f"{found.rhat.max():.2f} ({toys.chains} chains)")

# %% [markdown]
# `limit` is the integral at $n\beta = 10^{12}$. `reference` is the answer at this $n\beta$, $\gamma$ and step size.
# Estimates are held against the reference by their Monte Carlo standard errors (MCSE), where the effective sample
# size (ESS) is 200 or more. All of them together have one p. Chains are many and short here. R-hat compares them
# one by one, so it is not near 1 where mixing is slow; the error counts what they lack. Reference and asymptote
# differ for three reasons:
#
# - $\gamma$ holds the chain near $w_0$, which lowers the mean: a quadratic direction of curvature $h$ gives
#   $\tfrac12\, n\beta h / (n\beta h + \gamma)$ in place of 1/2;
# - $n\beta$ is finite, as above;
# - the step $\epsilon$ is finite, which raises the mean by a share of about
#   $\epsilon\,(n\beta h + \gamma) / 4$. A step that is too large can thus *look* better against the asymptote.
#
# All three are in the reference but for the last potential: it has no symmetry to compute the chain's own
# law with, its reference leaves the step out, and its chains take half the step.

# %%
reached = toys.settled and found.ess.min() >= 200
claims = on_tables("A-1", "A-2", primer=run)
show(claims)
for claim in claims.values():
    assert claim.verdict != DIFFERS

# %% [markdown]
# ## Why the Hessian cannot tell
#
# A Hessian knows second derivatives at one point. The steepness $10\,w^2$ changes its eigenvalue and not the
# LLC: a factor in front of the loss is a factor in front of $V$. The powers $w^4$ and $w^6$ both have the
# eigenvalue 0, as an unused direction has, and differ in their LLC.

# %% mystnb={"image": {"alt": "Profiles of w squared, ten w squared, w to the fourth and sixth; their Hessian eigenvalues 2, 20, 0, 0; their LLCs 1/2, 1/2, 1/4, 1/6"}}
powers = run["powers"]
fig = primer_figures.hessian_and_llc(powers)
figures.show(fig, powers, "powers", run.description)

# %%
columns = ["potential", "eigenvalue", "llc",
           "reference", "estimate", "mcse"]
show_table(powers[columns], "Eigenvalue of the Hessian, and LLC")
quadratic, steep, quartic, sextic = powers.itertuples()
assert quartic.eigenvalue == sextic.eigenvalue == 0
assert steep.eigenvalue == 10 * quadratic.eigenvalue
if reached:
    assert agrees(powers).all()
    spread = 4 * (quartic.mcse**2 + sextic.mcse**2) ** 0.5
    assert quartic.estimate - sextic.estimate > spread
    print("the estimates tell w^4 from w^6")

# %% [markdown]
# ## Linear networks
#
# Reduced-rank regression $x \mapsto W_2 W_1 x$ and deep linear networks $x \mapsto W_S \cdots W_1 x$ are the
# largest models whose LLC is known in closed form {cite:p}`aoyagi2005,aoyagi2024`. Widths are written from input to
# output. Rank is that of the true matrix, and $w_0$ is the most singular of all points that express it. The figure
# shows the mean over Aoyagi's value against $n\beta$: lines from exact Gibbs chains (drawn layer by layer, without
# a step size), circles from SGLD at the one $n\beta$ where it was run.

# %% mystnb={"image": {"alt": "Mean of n beta times the loss of seven linear networks as a share of Aoyagi's LLC against n beta: all rise towards 1, with SGLD estimates as circles on the curves"}}
networks = run["networks"]
fig = primer_figures.networks(networks, sgld)
figures.show(fig, networks, "networks", run.description)

# %%
columns = ["network", "rank", "llc", "reference", "estimate", "mcse"]
show_table(sgld[columns], f"SGLD at n beta {settings.networks.nbeta:g}, "
           f"gamma {settings.networks.gamma:g}")
last = networks[networks.nbeta == networks.nbeta.max()]
columns = ["network", "rank", "multiplicity", "llc", "mean", "mcse"]
show_table(last[columns], "Gibbs chains at n beta 1e6")
if reached:
    assert agrees(sgld, sgld.reference_mcse).all()
    assert (last["mean"] < last.llc + 4 * last.mcse).all()
    share = last["mean"] / last.llc
    assert share[last.multiplicity == 1].min() > 0.97
    assert share[last.multiplicity > 1].max() < 0.985

# %% [markdown]
# Where the multiplicity is 1, the mean has arrived within 3% at $n\beta = 10^6$. Where it is 2 or 3, the mean is
# still below, for the same logarithm as before. Counting parameters would mislead. The network 5-3-5 has 30
# parameters, so 15 if all directions were quadratic; its LLC is 13/2.
#
# ## Is the error right too?
#
# An estimate within its error proves little if the error is too wide. Simulation-based calibration (Talts et al.,
# 2018, in the [references](../book/references)) tests the whole distribution. A truth is drawn from a Gaussian
# prior, data from the truth, and chains from the data. If the chains' distribution is right, the truth ranks
# anywhere among the draws with equal probability. Ranked are the loss and three coordinates of different curvature.

# %% mystnb={"image": {"alt": "Rank histograms of three coordinates and the loss, flat within the band that chance allows"}}
sbc = run["sbc"]
fig = primer_figures.rank_histograms(sbc)
figures.show(fig, sbc, "sbc", run.description)

# %%
from companion.claims.judge import joint
from companion.pages.sbc import uniformity

p_values = uniformity(sbc)
print(f"{settings.sbc_repetitions} repetitions; p-values of flatness:",
      ", ".join(f"{name} {p:.2f}" for name, p in p_values.items()))
if reached:
    assert min(p_values.values()) > 0.001

# %% [markdown]
# The slow tests run it with 200 repetitions, and leave their result with the book:

# %%
p_values = uniformity(kept_histogram())
print(f"{kept_histogram().expected.sum():.0f} repetitions; p-values of flatness:",
      ", ".join(f"{name} {p:.3f}" for name, p in p_values.items()))
together = joint(p_values.values())
print(f"the four together (Simes): p = {together:.3f}; flat, as far as so many "
      "repetitions can tell")
assert together > 0.05

# %% [markdown]
# ## Four numbers that mislead
#
# Chains always give a number. Here are four that are wrong, on losses whose answer is known, and the check that
# says so. A chain from $w_0$ that has not come to rest, in twenty quadratic directions of which the flattest is ten
# thousand times flatter than the steepest. A chain caught in a narrow hole about $w_0$, while the spring gives it a wide
# plain. A step that is too large for the curvature. And a $w_0$ that is no minimum.

# %% mystnb={"image": {"alt": "Four panels: traces from two starts that come together slowly; traces from two starts that stay apart; LLC over the step, rising for SGLD and level for smoothed noise; LLC falling below zero as w0 leaves the minimum"}}
from companion.pages import primer_failures

curves, verdicts = primer_failures.failures(seed)
fig = primer_failures.panels(curves, verdicts)
figures.show(fig, curves, "failures", run.description)

# %%
show_table(verdicts, "What chains from w0 say, and what a check says",
           digits={"exact": 2, "from w0": 2, "mcse": 2, "R-hat": 2})
by_name = verdicts.set_index("failure")["the check says"]
assert (by_name[["not relaxed", "two regimes"]] == "the starts do not meet").all()
short = verdicts.set_index("failure").loc["not relaxed"]
assert short["from w0"] + 4 * short.mcse < short.exact
bias = curves[curves.panel == "step"].groupby("kind").last().bias
assert bias["smoothed noise"] < 0.1 * bias["SGLD"]

# %% [markdown]
# The upper two need a second start: chains from $w_0 + N(0, 1/\gamma)$ beside those from $w_0$
# (`devlib.llc.equilibrium`). In the hole the R-hat of one start alone passes. Both starts bound the answer from
# below and from above, and where they do not meet neither is it. The step is seen by chains of twice the step on the
# same noise: what they give more is its bias, to first order. Where the noise of two steps is averaged
# (`SmoothedSGLD`, {cite:t}`leimkuhler2013`), a quadratic has none. The slope is seen by one chain without noise: what
# descent gains, as a share of what the noise costs. `devlib.measure` makes all four checks unasked.

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
