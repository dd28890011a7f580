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
# # The language LLC by other samplers
#
# The language model's LLC curve rests on choices: how many contexts give a gradient, where the chains start, how
# stiff the spring is, at which $n\beta$ they run. [What the curve measures](16_what_the_curve_measures) asks what
# such choices do to the regression model's curve. This page asks it of the language model, at a few checkpoints, and
# puts other seeds beside its run (B.3a). All of it is ours.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables

# %% tags=["hide-input"]
import math

import numpy as np

from companion import figures, presets, results_language
from companion.claims.verdicts import say
from companion.pages import curve, curve_figures
from companion.pages import protocols_language as page
from companion.shown_tables import show_table
from companion.summary import summary

found = results_language.protocols(preset, seed, recompute)
words, rows = presets.get(preset).language, found["estimates"]
nbeta, uniform = words.llc.nbeta, math.log(words.model.vocabulary)
unigrams = rows.unigram_loss.iloc[0]
target = rows[rows.protocol == "target"].reset_index(drop=True)
smallest, largest = target.batch.min(), target.batch.max()
p, differences = page.joint_p(target), page.by_batch(target)
long = rows[rows.protocol == "long"].reset_index(drop=True)
starts = curve.with_meeting(target[target.draws == target.draws.max()])
profile = rows[rows.protocol == "profile"]
profile = profile.assign(ratio=profile.spring_ratio.round(3))
profile = curve.with_meeting(profile, by=("step", "nbeta", "ratio"))
profile = curve.with_retained(profile, uniform)
local = profile[
    np.isclose(profile.nbeta, nbeta, rtol=1e-3) & (profile.ratio == profile.ratio.min())
]
runs = page.seeds_shown(preset, seed, recompute)
shares = page.proportions(profile)
off = (1 - shares.iloc[:, 2:]).abs().max(axis=None)  # from a number of the spring's
boundaries, spread = page.boundaries_of(runs), page.spread(runs)

# %% tags=["summary", "remove-input"]
biggest = differences.loc[differences.difference.abs().idxmax()]
kept = local[local.retained.notna()]
summary(
    "The LLC of the language models is estimated by 20 chains of 200 draws on batches "
    "of 100 contexts of 1,024 tokens (A.4.1); in each of five seeds it reveals the "
    "stages LM1 to LM4, in three of them LM5 has two parts (Fig. B.3a).",
    [
        f"Batches of {smallest} and of {largest} contexts differ most at step "
        f"{biggest.step:,.0f}, by {biggest.difference:+.1f} ± "
        f"{biggest['its error']:.1f}; jointly over {target.step.nunique()} checkpoints "
        f"p = {p:.2g}.",
        f"The two starts meet at {starts[starts.meet].step.nunique()} of "
        f"{starts.step.nunique()} checkpoints. The chains end at "
        f"{target.chain_loss.min():.1f} to {target.chain_loss.max():.1f} nats; a "
        f"predictor that knows the tokens' shares alone has {unigrams:.2f}, one that "
        f"knows nothing {uniform:.2f}."
        + "".join(
            f" Chains of {row.draws} draws from "
            f"{row.start.replace('prior', 'the prior')} give {row.llc:.1f} ± "
            f"{row.mcse:.1f} at step {row.step:,}."
            for row in long.itertuples()
        ),
        (
            "A spring of a tenth of the weights keeps "
            f"{kept.retained.min():.0%} to {kept.retained.max():.0%} of what the model "
            f"knows, and the LLC is {local.llc.min():.1f} to {local.llc.max():.1f} "
            "there. Of a number that the spring alone sets, proportional to nbeta, it "
            f"is off by at most {off:.0%} over the nbeta tried."
            if len(kept)
            else "These models know too little for a share kept by a local spring."
        ),
        f"{len(runs)} seeds of the {runs[0].manifest['preset']} preset have "
        + ", ".join(str(len(steps)) for steps in boundaries.values())
        + f" boundaries; their LLCs scatter by {spread.median():.2g} in the median.",
    ],
)

# %% [markdown]
# ## Does the batch matter?
#
# A draw's gradient is that of a few contexts. Its noise adds to the sampler's own, so that a small batch makes the
# chain hotter than $n\beta$ says. The marks below are the LLC by the paper's step, $n\beta$ and $\gamma$ with batches
# of several sizes; bars are two standard errors. All chains begin at the prior, $w_0 + N(0, 1/\gamma)$, and the same few
# draws of each are taken, so that what differs is the batch. As levels these numbers are not to be read: late in
# training the chains are still falling by then (below).

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC at a few checkpoints by batches of several sizes, with error bars that overlap: smaller batches only have larger errors"}}
fig = page.batches(target)
figures.show(fig, target, "language_batches", found.description)

# %% tags=["hide-input"]
show_table(
    differences,
    f"LLC by batch from the prior, and the largest batch's less the smallest's; "
    f"{target.chains.iloc[0]} chains of {target.draws.min()} draws, the first half "
    "left out",
    digits=1,
)
say(
    f"that all sizes have one LLC at each checkpoint: p = {p:.2g}, as if the "
    "checkpoints were independent; they share their batches and noise"
)

# %% [markdown]
# ## Two starts, and where the chains end
#
# As for the regression model, each checkpoint is sampled from $w_0$ and from the prior. Where the two agree the
# number does not depend on where the chain began. That does not make it local: a chain whose loss is above that of
# guessing by the tokens' shares has forgotten the model.

# %% tags=["hide-input"]
shown = starts.pivot(index="step", columns="start", values="llc")
shown = shown.rename(columns={"w0": "from w0", "prior": "from the prior"})
shown["meet"] = starts.groupby("step").meet.first().map({True: "yes", False: "no"})
first = starts[starts.start == "w0"].set_index("step")
shown["loss of the model"] = first.init_loss
shown["of the chains"] = first.chain_loss
shown["spring's sd over the weights' rms"] = first.spring_ratio
show_table(
    shown,
    f"Losses in nats; knowing the tokens' shares {unigrams:.2f}, nothing {uniform:.2f}",
    index=True,
    digits=2,
)

# %% [markdown]
# ### Long chains
#
# Late in training the spring's spread is no more than that of the weights, and the regression model's chains then fall
# into two regimes. So the last checkpoint is sampled by longer chains from both starts, the smallest batch again: block
# means along them, with the chains' spread.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Block means of the language LLC along long chains from two starts at the last checkpoint"}}
if len(long):
    fig = page.climb(found["climb"])
    figures.show(fig, found["climb"], "language_climb", found.description)
    columns = ["step", "start", "chains", "draws", "llc", "mcse", "chain_sd", "rhat"]
    shown = curve.with_meeting(long)[[*columns, "meet"]]
    show_table(
        shown.assign(meet=shown.meet.map({True: "yes", False: "no"})),
        "Long chains, their first half left out",
        digits={"llc": 1, "mcse": 1, "chain_sd": 1, "rhat": 2},
    )
    llc = results_language.language(preset, seed, recompute)["llc"]
    for row in llc[llc.step.isin(long.step)].itertuples():
        say(
            f"step {row.step:,}: on the curve of the other pages {row.llc:.1f} +- "
            f"{row.mcse:.1f}, by {words.llc.chains} chains of {words.llc.draws} draws "
            f"from w0, the first {words.llc.burn_in} left out"
        )
else:
    print("this preset runs no long chains")

# %% [markdown]
# ## Local springs, and the profile over $n\beta$
#
# The same checkpoints under springs whose standard deviation is a share of the weights' root mean square, by a step
# that is stable in the steepest direction, at $n\beta$ a tenth of the paper's, the paper's, and ten times that. Open
# marks are cells whose two starts do not agree: nothing is read off them.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC of the language model against inverse temperature at several checkpoints, one panel for each width of the spring"}}
fig = curve_figures.profile(profile)
figures.show(fig, profile, "language_profile", found.description)

# %% tags=["hide-input"]
table = local[local.start == "w0"][
    ["step", "llc", "mcse", "meet", "init_loss", "chain_loss", "retained"]
].assign(meet=lambda rows: rows.meet.map({True: "yes", False: "no"}))
show_table(
    table.rename(
        columns={
            "llc": "LLC",
            "mcse": "its error",
            "init_loss": "loss of the model",
            "chain_loss": "of the chains",
            "retained": "share kept",
        }
    ),
    f"At the paper's nbeta, {nbeta:.1f}, and a spring of {local.ratio.min():g} of the "
    "weights: the share kept is against a predictor that knows nothing",
    digits=2,
)

# %% [markdown]
# Does the loss or the spring say how far such chains go? If the spring alone does, a chain's loss is the same whatever
# $n\beta$, and the LLC is $n\beta$ times it. The table has the LLC over $n\beta$, as shares of that at the smallest
# $n\beta$: 1 throughout means that the number is the spring's.

# %% tags=["hide-input"]
show_table(
    shares,
    f"LLC over nbeta at a spring of {local.ratio.min():g} of the weights, as shares",
    digits=2,
)

# %% [markdown]
# ## The bigram score, against text that was not counted
#
# The bigram score's floor (LM-1) is the entropy of counts of the training text. Of a rare token few followers were
# seen, and their entropy is too low: the excess over it is too large. Below, the same score against the bigrams of the
# validation text, less the cross entropy of a real predictor with them: counts of the training text with some of the
# tokens' overall shares added, as many as do best. Below zero the model predicts the next token better than any such
# counting. The table has both by source of text, where a validation context is of one source throughout.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Excess of the bigram score over its floor by training step, by the entropy of counts and against held-out text; the second is lower"}}
bigrams = found["bigrams"]
fig = page.bigram_excess(bigrams)
figures.show(fig, bigrams, "bigram_readings", found.description)

# %% tags=["hide-input"]
lowest = bigrams[bigrams.source == "all"].set_index("step").excess.idxmin()
show_table(
    bigrams[bigrams.step == lowest][
        [
            "source",
            "contexts",
            "excess",
            "excess_se",
            "held_out_excess",
            "held_out_excess_se",
        ]
    ].rename(
        columns={
            "excess": "over the counts' entropy",
            "excess_se": "its error",
            "held_out_excess": "over a predictor, held-out",
            "held_out_excess_se": "its error ",
        }
    ),
    f"Excess of the bigram score in nats at step {lowest:,}, the lowest of those "
    "measured",
    digits=2,
)

# %% [markdown]
# ## Other seeds (B.3a)
#
# The paper draws loss and LLC of five seeds of its language model. Ours are of a model a twentieth of its size, with
# other data and other noise in each seed; the ticks at the top are each seed's own boundaries, by the rule of
# [stage boundaries](02_stage_boundaries). They say how much of a curve is the seed's, at this scale. The paper's
# stages they cannot show.

# %% tags=["hide-input"] mystnb={"image": {"alt": "LLC and test loss of five seeds of a small language model over training, close to one another, each with its boundaries as ticks"}}
fig = page.seeds(runs, boundaries)
table = page.joined(runs)
figures.show(fig, table, "language_seeds", page.seeds_description(runs))

# %% tags=["hide-input"]
show_table(page.shared(boundaries), "Boundaries of each seed, in steps")
say(
    f"standard deviation of the LLC over the seeds: {spread.median():.2g} in the "
    f"median over checkpoints, {spread.max():.2g} at most; an estimate's own error is "
    f"{table.mcse.median():.2g} in the median"
)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
