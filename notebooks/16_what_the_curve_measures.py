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
reuse: bool = False  # with recompute: measure committed checkpoints

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd

from companion import figures, presets, results
from companion.claims import seeds
from companion.claims.table_rows import MATCH
from companion.claims.verdicts import say
from companion.health import SLOW
from companion.long_chains import as_published, left_out
from companion.pages import curve, curve_figures
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.boundaries import Rule
from devlib.steps import nearest_each

settings, chosen = results.regression_settings(preset), presets.get(preset).protocols
run = results.regression(preset, seed, recompute, reuse=reuse)
found = results.protocols(preset, seed, recompute, reuse=reuse)
llc, evaluation = run["llc"], run["evaluation"]
nbeta, gamma = settings.llc.nbeta, settings.llc.gamma
nothing = (
    settings.task.task_dim + settings.task.noise_variance
)  # the loss of predicting zero
reached = int(llc.step.max())
part = found["estimates"]
ours = curve.chain_loss(llc, nbeta)
released = curve.released("chain_loss")
LAST = 40_404  # the last step at which all released chains have forgotten
early, released_early = ours[ours.step <= LAST], released[released.step <= LAST]
plateaus = curve.released_plateaus()
r = plateaus[plateaus.curve == "correlation to 40404"].value
own = np.corrcoef(llc.llc[early.index], -early.loss)[0, 1]
short = curve.with_meeting(part[part.protocol == "equilibrium"])
first = left_out(chosen)
long = curve.long_starts(part, found["climb"], first)
both = long if len(long) else short  # the longest that the preset runs
published = as_published(part)
local = curve.with_meeting(part[part.protocol == "local"])
local = curve.with_retained(local, nothing)
apart = sorted(both[~both.meet].step.unique())
agree = sorted(both[both.meet].step.unique())
beside = curve.beside_seeds(published, evaluation)
shorter = curve.beside_seeds(
    llc[llc.step.isin(beside.step)].rename(columns={"mcse": "error"}), evaluation
) if len(beside) else beside
like_theirs = [
    "Chains as long as the paper's, averaged in the same way, are where the five "
    f"released seeds want one more run at {beside.within.sum()} of {len(beside)} "
    "checkpoints; the shorter chains of the other pages are at "
    f"{shorter.within.sum()}."
] if len(beside) else []

# %% tags=["summary", "remove-input"]
summary(
    "The LLC is a measure of the degeneracy of the loss near the checkpoint: it is "
    "estimated by a chain that a spring holds there (Section 4, A.3).",
    [
        f"Up to step {min(LAST, reached):,} chains of the paper's settings end at one "
        f"loss, {early.chain_loss.mean():.2f} ± {early.chain_loss.std():.2f}, "
        f"wherever they start. Predicting zero has {nothing:.3f}. The curve is the "
        "test loss "
        f"upside down: r = {r.min():.5f} or more in all five released seeds, {own:.5f} "
        "here.",
        f"Started from two places, chains agree at {len(agree)} of "
        f"{both.step.nunique()} checkpoints. They part at: "
        f"{', '.join(f'{step:,}' for step in apart) or 'none'}.",
        *like_theirs,
        "With a spring that follows the weights and a stable step, chains keep "
        f"{local.retained.min():.0%} to {local.retained.max():.0%} of what the model "
        "knows, and the LLC is another curve.",
    ],
)

# %% [markdown]
# ## Where the chains end
#
# Below is $\bar L$ over training, beside the loss of the model that the chains start from. Grey: the same from the
# five released seeds, their mean and range. A predictor that says zero, whatever the context, has the loss of the
# dashed line.

# %% tags=["tabs"] mystnb={"image": {"alt": "Mean loss of the chains over training: a flat line above the loss of predicting zero until step 40,000, while the loss of the model falls from 4.3 to 1.9; after that the chains' loss falls too"}}
for name, linear in (("chain_loss", False), ("chain_loss_linear", True)):
    fig = curve_figures.chain_loss(
        ours,
        released,
        {"predicting zero": nothing},
        "loss (squared target units)",
        linear,
    )
    figures.show(fig, ours, name, run.description)

# %% tags=["hide-input"]
slope = plateaus[plateaus.curve == "slope to 40404"].value
show_table(
    pd.DataFrame(
        {
            "up to step 40,404": [
                "mean loss of the chains",
                "corr(LLC, -loss)",
                "slope of the LLC against -loss",
            ],
            "released seeds, least": [released_early.least.min(), r.min(), slope.min()],
            "released seeds, greatest": [
                released_early.greatest.max(),
                r.max(),
                slope.max(),
            ],
            "ours": [
                early.chain_loss.mean(),
                own,
                np.polyfit(-early.loss, llc.llc[early.index], 1)[0],
            ],
        }
    ),
    f"Five released seeds and ours; nbeta is {nbeta:.2f}",
    digits=5,
)

# %% [markdown]
# So to that step the curve at the paper's settings says what the test loss says. The reason is the spring. The
# localising Gaussian has a standard deviation of $1/\sqrt\gamma$ a weight, and the weights themselves are smaller:

# %% tags=["hide-input"]
spring = part[(part.protocol == "equilibrium") & (part.start == "w0")]
shown = nearest_each(spring.step, (0, 12_221, 40_404, 146_464, 217_171, reached))
spring = spring[spring.step.isin(shown)][["step", "spring_ratio"]]
spring.insert(1, "rms of the weights", gamma**-0.5 / spring.spring_ratio)
show_table(
    spring.rename(columns={"spring_ratio": "spring's sd over it"}),
    f"The spring's sd, {gamma**-0.5:.3f}, beside the weights",
)
say(
    "The spring alone relaxes in 2 / (eps gamma) = "
    f"{2 / (settings.llc.eps * gamma):,.0f} draws."
)

# %% [markdown]
# ### Is it the step?
#
# Or is the step too long? Along a direction of curvature $h$, an Euler step of $\epsilon\, n\beta\, h > 4$
# diverges. It throws a chain out of a basin in which it would otherwise stay. At the paper's step that is so for
# the steepest direction from about step 5,000 to 40,000, in the released runs and in ours.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Step size times inverse temperature times the largest Hessian eigenvalue over training: above the limit of 4 between steps 5,000 and 40,000"}}
top = results.hessian(preset, seed, recompute, reuse=reuse)["statistics"]
strength = settings.llc.eps * nbeta
steep = top[["step"]].assign(steepness=strength * top.eig_1)
theirs = seeds.curve("eig_1")
theirs[["mean", "least", "greatest"]] *= strength
fig = curve_figures.step_stability(steep, theirs, LIMIT := 4.0)
figures.show(fig, steep, "steepness", run.description)

# %% [markdown]
# So the same target is sampled once more by a tenth of the step, which is stable there, in as many times the draws,
# from both starts.

# %% tags=["hide-input"]
small = part[part.protocol == "small step"]
if len(small):
    show_table(
        small[["step", "start", "eps", "llc", "mcse", "chain_sd", "chain_loss"]],
        "The paper's target by a tenth of the paper's step",
        digits={"eps": ".0e", "llc": 1, "mcse": 1, "chain_sd": 1, "chain_loss": 2},
    )
else:
    print("this preset takes no smaller step")

# %% [markdown]
# ## What a chain's last state still knows
#
# Loss at each position $k$ of the context: of the model, and of the last state of a chain that started from it.
# A flat line near four has unlearned the task.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against position in the context at four checkpoints, of the model and of the last states of its chains: at the earlier checkpoints the chains' lines are flat above four"}}
table = found["positions"].fillna({"start": ""})
shown = nearest_each(
    table.step,
    (12_221, 40_404, 217_171, 499_999)
    if reached > 100_000
    else (reached // 10, reached),
)
fig = curve_figures.positions(table, shown)
figures.show(fig, table, "positions_of_chains", found.description)

# %% [markdown]
# ## Two starts, two regimes
#
# Chains that have forgotten their start cannot tell where they began. So each checkpoint is sampled twice: from
# $w_0$, and from the prior, $w_0 + N(0, 1/\gamma)$. Filled marks: the two agree within three standard errors. Open
# marks: they do not, and neither number is *the* LLC. Diamonds are the same chains from $w_0$ with every draw
# averaged, as the paper's code does. All checkpoints share the batches and the noise of their start. Chains from
# $w_0$ that are still climbing meet nothing, whatever their error: where the first quarter of what is averaged is not
# where its second half wants it, at 95%. All are ours: batches of 128 from $2^{16}$ contexts, where the paper takes
# 1,024 from $2^{20}$.

# %% tags=["tabs"] mystnb={"image": {"alt": "LLC over training from two starts, with the released range in grey: late in training those from the start fall with the released curve, and those from the prior do not"}}
RELEASED_LLC = seeds.curve("llc")
for name, linear in (("two_starts", False), ("two_starts_linear", True)):
    fig = curve_figures.two_starts(both, published, llc, RELEASED_LLC, linear)
    figures.show(fig, both, name, found.description)

# %% tags=["hide-input"]
wide = both.pivot(index="step", columns="start", values="llc")
error = both.pivot(index="step", columns="start", values="error")
error = np.hypot(error.w0, error.prior)
gap = (wide.prior - wide.w0) / error
wide = wide.rename(columns={"w0": "from w0", "prior": "from the prior"})
wide["apart (standard errors)"] = gap
wide["other pages"] = llc.set_index("step").llc.reindex(wide.index)
wide["as published"] = published.set_index("step").llc.reindex(wide.index)
wide["released, mean"] = RELEASED_LLC.set_index("step")["mean"].reindex(wide.index)
show_table(
    wide, "The LLC at each checkpoint, by how the chains are run", index=True, digits=1
)

# %% [markdown]
# ### As published
#
# Is it the same curve, then, if it is made the same way? Chains as long as the paper's, every draw averaged,
# beside the interval in which the released five seeds want one more run, at 95%, joined with our error. Early and
# late that interval is wide, and tells little. *off* is how far we are from the released mean, in standard deviations
# of the released seeds: these do not know our own error. Our run's weights grow faster late in training ([more
# seeds](07_more_seeds)), so the last column has the released mean where the released norm is what ours is.

# %% tags=["hide-input"]
if len(beside):
    show_table(
        beside.rename(columns={"at_norm": "released, at our norm"}),
        f"Chains of {chosen.long_draws:,} draws from w0, all averaged",
        digits=1,
    )
    outside = ", ".join(f"{step:,}" for step in beside[~beside.within].step)
    wrong = ", ".join(f"{step:,}" for step in shorter[~shorter.within].step)
    say(
        f"within the interval at {beside.within.sum()} of {len(beside)} checkpoints;",
        f"outside: {outside or 'none'}",
    )
    say(
        f"the shorter chains of the other pages: at {shorter.within.sum()};",
        f"outside: {wrong or 'none'}",
    )
    apart_most = (beside.at_norm - beside.released).abs()
    if apart_most.notna().any():
        row = beside.loc[apart_most.idxmax()]
        say(
            f"the norm tells most at step {row.step:,.0f}: ours {row.ours:.1f},",
            f"the released mean {row.released:.1f},",
            f"where its norm is ours {row.at_norm:.1f}",
        )
else:
    print("this preset runs no chains of the paper's length at the paper's steps")

# %% [markdown]
# ### How long is long enough?
#
# Where all chains forget, what takes longest is the spring: it alone relaxes in 2 / (eps gamma) draws. Long chains have
# five such times. Below is where they settle after the first of the five, and how far other estimates are from
# there: the curve of the other pages, short chains from either start, and longer ones from the prior. Of the last
# three the first half is left out.

# %% tags=["hide-input"]
rest = curve.settled(found["climb"], first)
rest = rest[rest.step <= LAST]
if len(rest):
    others = {
        "other pages": llc.rename(columns={"mcse": "error"}),
        "short, w0": short[short.start == "w0"],
        "short, prior": short[short.start == "prior"],
        "longer, prior": long[long.start == "prior"],
    }
    off = curve.short_of(rest, others)
    show_table(
        off[["step", "long", "error", *others]].rename(
            columns={name: f"{name}: off by" for name in others}
        ),
        f"Long chains after {first:,} draws; how far others are off",
        digits=1,
    )
    for name, table in others.items():
        draws = table[table.step.isin(off.step)].draws
        taken = " to ".join(f"{n:,.0f}" for n in sorted({draws.min(), draws.max()}))
        most = off[f"{name}, in errors"].abs().max()
        say(
            f"{name}, {taken} draws: {off[name].min():+.1f} to {off[name].max():+.1f}",
            f"off, {most:.1f} errors at most",
        )
    rms = (off["other pages"] ** 2).mean() ** 0.5
    say(
        f"root mean square of the other pages: {rms:.1f};",
        f"the claims take {SLOW} into the error of chains as short as these",
    )
else:
    print("this preset runs no chains of the paper's length")

# %% [markdown]
# All checkpoints share the batches and the noise of their chains, so that these are few deviations and not one a
# checkpoint. Those of the other pages and of the short chains from the prior are larger than their errors. An error
# is computed from draws that a chain has taken, and knows nothing of directions in which it has hardly moved. So the
# curve of the other pages is good to the deviations above, not to the errors that it quotes. `devlib.measure` asks
# whether the distance from $w_0$ is at rest too; by that even the longer chains from the prior are not yet.
#
# The climb shows why a long chain's average depends on its length. From $w_0$ the chain needs thousands of draws to
# leave the surroundings of a late checkpoint, if it leaves them at all; an average over all draws is the mean of
# that climb.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Block means of the LLC along chains from two starts at late checkpoints: from the prior flat from the beginning, from w0 climbing over thousands of draws"}}
if len(published):
    late = nearest_each(
        published.step, (217_171, 499_999) if reached > 100_000 else (reached,)
    )
    panels = [
        (step, ("w0, small step", "prior, small step"), chosen.small_factor)
        for step in sorted(small.step.unique())[:1]
    ]
    longest = "prior, long" if len(long) else "prior"
    panels += [(step, ("w0, long", longest), 1) for step in late]
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
fig = curve_figures.local_curve(local, evaluation)
figures.show(fig, local, "local_protocol", found.description)

# %% tags=["hide-input"]
say(
    f"nbeta {nbeta:.1f}, spring's sd {chosen.local_ratio:g} of the weights' rms; share "
    f"kept {local.retained.min():.0%} to {local.retained.max():.0%}; the two starts "
    f"agree at {local[local.meet].step.nunique()} of {local.step.nunique()} checkpoints"
)

# %% [markdown]
# The profile: the same over $n\beta$, for three springs. A number that depends on both is no property of the
# checkpoint alone. The springs' standard deviations are given as shares of the weights' root mean square. Open marks are cells whose two starts do not agree: their chains are too short, as all are at the
# largest $n\beta$, and nothing is read off them.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC against inverse temperature at several checkpoints, one panel for each width of the spring"}}
profile = found["profile"].assign(ratio=found["profile"].spring_ratio.round(3))
profile = curve.with_meeting(profile, by=("step", "nbeta", "ratio"))
fig = curve_figures.profile(profile)
figures.show(fig, profile, "profile", found.description)

# %% [markdown]
# ## A null: what does the LLC add?
#
# The plateau rule (B.1; errors of 1, tolerance 8) on the LLC, on $n\beta (c - L)$, which has no LLC in it, on
# $n\beta (\bar L - c)$, and on the weight norm, scaled to the LLC's range. The rule takes an error of 1 for all four
# curves. The page *Stage boundaries* takes the estimates' own errors, so that its list is another. Then, run by run:
# how many of the LLC's plateaus the loss alone and the norm alone have too, matched one to one. *By chance* is how many
# would be near one of the loss's if they lay anywhere between the LLC's first and last plateau, in $\log t$.

# %% tags=["hide-input"]
rule = Rule(settings.stages)
loss = evaluation.set_index("step").loss[llc.step].to_numpy()
norm = evaluation.set_index("step").weight_norm[llc.step].to_numpy()
c = early.chain_loss.mean()
curves = {
    "llc": (llc.llc.to_numpy(), False),
    "nbeta (c - loss)": (nbeta * (c - loss), False),
    "nbeta (chain loss - c)": (nbeta * (ours.chain_loss.to_numpy() - c), False),
    "weight norm, scaled": (norm, True),
}
found_here = curve.plateaus(llc.step, curves, rule)
rows = {f"released, seed {number}": {} for number in range(5)} | {"ours": {}}
for row in plateaus[plateaus.curve.isin(curves)].itertuples():
    rows[f"released, seed {row.seed}"][row.curve] = row.boundaries.split()
rows["ours"] = found_here
show_table(
    pd.DataFrame(
        [
            {
                "run": name,
                **{
                    curve_name: ", ".join(f"{int(step):,}" for step in steps)
                    for curve_name, steps in row.items()
                },
            }
            for name, row in rows.items()
        ]
    ),
    "Plateaus of each curve, in steps",
)
added = curve.added_by_the_llc(rows)
show_table(added, "Of the LLC's plateaus, those that need no LLC", digits=1)
theirs = added[added.run.str.startswith("released")]
say(
    f"in the released seeds {theirs['in the loss'].sum()} of {theirs.plateaus.sum()} "
    f"plateaus of the LLC are within a factor of {MATCH:g} of one of the loss alone; "
    f"{theirs['by chance'].sum():.0f} would be by chance"
)

# %% [markdown]
# ## The language model
#
# The same for the two-layer language model. Guessing every token with equal probability has the loss
# $\ln 5000$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean loss of the language model's chains over training, above uniform guessing for the released model"}}
from companion import results_language

language = results_language.language(
    preset, 0 if preset == "published" else seed, False, 2
)
words = presets.get(preset).language
lm = curve.chain_loss(language["llc"], words.llc.nbeta)
uniform = math.log(words.model.vocabulary)
fig = curve_figures.chain_loss(
    lm,
    curve.released("language_chain_loss"),
    {"uniform guessing": uniform},
    "loss (nats)",
)
figures.show(fig, lm, "language_chain_loss", language.description)
theirs = curve.released("language_chain_loss")["mean"]
correlation = plateaus[plateaus.curve == "language correlation"].value.iloc[0]
say(
    f"mean loss of the chains: released {theirs.min():.1f} to {theirs.max():.1f} nats, "
    f"ours {lm.chain_loss.min():.1f} to {lm.chain_loss.max():.1f}; uniform guessing "
    f"{uniform:.2f}. "
    f"corr(LLC, -loss) over the released run: {correlation:.3f}"
)

# %% [markdown]
# ## What is measured, what is inferred, what is open
#
# *Measured.* At the paper's settings the chains of the regression model end at one loss, above that of predicting
# zero, from every checkpoint up to step 40,404: in all five released seeds, and here from two starts and by a tenth
# of the step. Until there the LLC adds nothing to the test loss. Later the estimate depends on where the chain starts
# and on how many draws it takes.
#
# *Inferred.* The fall of the released curve in LR4 is a change of regime: the weights outgrow a spring of fixed
# width, and chains that before forgot the model leave it later and later. At the last two checkpoints they stay near it
# for as long as they are run.
#
# *Open.* The local protocol keeps the model, but its numbers depend on the spring and on $n\beta$: which of them, if
# any, has plateaus that neither the loss nor the norm has, one seed and one spring do not settle.

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
