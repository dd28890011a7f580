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
# # What it costs
#
# Time on one thread of one machine, measured by `make bench`, which runs the contestants in turns and counts
# CPU seconds. This page draws what it stored. Nothing here depends on preset or seed.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale; every preset shows the same measurements
seed: int = 0  # changes nothing here
recompute: bool = False  # changes nothing here: `make bench` measures anew

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, presets
from companion.claims.verdicts import say
from companion.pages import beyond, costs, costs_figures
from companion.pages.costs import description, load
from companion.runs import COMMITTED
from companion.shown_tables import show_table
from companion.summary import summary

training, language, precision = load("training"), load("language"), load("precision")

# %% tags=["summary", "remove-input"]
ratios = [row["ratio"] for row in precision["checkpoints"]]
steps = [row["ratio at as many steps"] for row in precision["checkpoints"]]
totals = costs.totals(precision)
errors = totals.groupby("way")["error %"].agg(["min", "max"]).round(1).to_dict("index")
ours, theirs = errors["devlib, to 2 %"], errors["devinterp, the paper's settings"]
table = costs.overview()
missed = table[table.times < table.wanted]
summary(
    "Estimating the LLC takes up to 72 CPU hours for a regression run, and about 200 "
    "GPU hours for the two-layer language model (A.4).",
    [
        f"An estimate to 2% costs {min(ratios):.0f} to {max(ratios):.0f} times less "
        "CPU time than devinterp takes at the paper's settings. Those many draws bring "
        f"an error of {theirs['min']} to {theirs['max']}%, ours {ours['min']} to "
        f"{ours['max']}%. For equally many steps it is {min(steps):.0f} to "
        f"{max(steps):.0f} times less.",
        "A training step of the regression model is "
        f"{training['times as fast']['median']:.1f} "
        "times as fast as the same step in plain torch.",
        f"{len(missed)} of {len(table)} comparisons fall short of what this project "
        "had set itself.",
    ],
)

# %% [markdown]
# ## Everything that was measured
#
# Each row is one comparison: how many times less this library takes. Contestants run on one thread of one machine,
# in turns, and a ratio is that of a round; another processor gives other ratios. For an LLC at equilibrium contexts
# are counted, not seconds. *Wanted* is what this project set itself before it measured. A number after a step is its batch; *own model* is one that a reader brings; the Hessian is
# its trace and five eigenvalues. *least* and *most* are over rounds, and over checkpoints where the work is an LLC or a
# Hessian.

# %%
show_table(
    table,
    "Times less than beside it",
    digits=dict.fromkeys(("times", "least", "most", "wanted"), 1),
)
say("below what was wanted:", "; ".join(missed.work + " beside " + missed.beside))

# %% [markdown]
# ## Training
#
# The paper's regression run is 500,000 updates of batch 256. The library's update is compiled, makes 15 of
# the 16 tokens, takes the last block only where it is read, and runs in slices whose activations stay in the
# cache. Beside it, the same update as a reader of F.2.1 would write it in plain torch.

# %%
show_table(pd.DataFrame(training["steps a second"]).T[["median", "min", "max"]]
           .rename_axis("contestant"), "Training steps a second", index=True, digits=1)
faster, share = training["times as fast"], training["share of the machine's rate"]
print(f"ratio   {faster['median']:5.2f} ({faster['min']:.2f} to {faster['max']:.2f}); "
      f"wanted: {faster['bar']}")
print(f"memory at most {training['peak MB']['training process']} MB")

# %% [markdown]
# Where an update's time goes, by torch's profiler. The products alone, at the rate of one large product on the same
# core, bound what any arrangement of the same update could reach.

# %%
show_table(costs.operators(training), "An update by operator", digits=0,
           units={"calls": "an update", "share": "%"})
work, machine = (
    sum(training["GFLOP of an update's products"].values()),
    training["GFLOP/s of the machine"]["oneDNN"]["median"],
)
print(
    f"products of an update: {work:.2f} GFLOP; a large product here: {machine:.0f} "
    f"GFLOP/s, so at most {machine / work:.0f} updates a second;\n"
    f"reached: {training['steps a second']['devlib']['median']:.0f}, "
    f"{share['median']:.0%} of that"
)

# %% [markdown]
# The language model of two layers, at the paper's width, reads contexts of 256 tokens, 16 an update. Beside it,
# TransformerLens 2.18's HookedTransformer, eager and in float32, with the same weights on the same batches.

# %%
print(description(language))
table = pd.DataFrame(language["tokens a second"]).T[["median", "min", "max"]]
show_table(
    table.assign(memory=pd.Series(language["peak MB"])).rename_axis("contestant"),
    "Tokens a second",
    index=True,
    digits=0,
    units={"memory": "MB"},
)
for name, value in language["times as fast"].items():
    print(
        f"{name:15} {value['median']:6.2f} times TransformerLens ({value['min']:.2f} "
        f"to {value['max']:.2f}); wanted: {value['bar']}"
    )

# %% [markdown]
# ## One step of SGLD
#
# The regression transformer, batch 1,024, a chain in full swing: fetching the batch, gradient, noise, update.
# devinterp 1.3.2 is the last release that takes any model. It is shown with its own data loader and with a
# leaner one, with both of its samplers, and with devlib's model, which was written for compiling and is slow
# without.

# %% mystnb={"image": {"alt": "Bars of CPU milliseconds a step for devlib and devinterp in several settings, with the extremes of all rounds; a dashed line stands at twice devlib's cost"}}
sgld = load("sgld")
table = costs.steps(sgld)
fig = costs_figures.steps(table, "devlib", 2)
figures.show(fig, table, "sgld_step", description(sgld))

# %%
ratio = sgld["speed-up"]["devinterp"]
show_table(table, "One step of SGLD (CPU milliseconds)", digits=2, blank="")
print(
    f"devinterp / devlib, round by round: {ratio['median']:.2f} ({ratio['min']:.2f} to "
    f"{ratio['max']:.2f} over {ratio['rounds']} rounds); wanted: 2"
)

# %% [markdown]
# On a model of a reader's own, here a plain transformer of that size, each library compiles what it is given.
# canonical-interp 0.2.7 takes chains in one call; its time is that of one chain's step either way. All three spend
# most of it in the same products of the same library, which is why little is left to gain: what devlib saves on its own
# model, a token and most of the last block, it cannot save on another's.

# %%
own_model = load("own_model")
table = costs.own_model(own_model)
show_table(
    table, "One step on a model of one's own (CPU milliseconds)", digits=2, blank=""
)
print(description(own_model))

# %% [markdown]
# ## One estimate, to two per cent
#
# A step is the smaller part of the saving. The paper runs 10 chains of 5,000 draws on batches of 1,024. Here
# chains run on batches of 64 until the standard error is 2% of the LLC, with the loss of $w_0$ on the *same*
# batch as the baseline; what they cost is measured whole, burn-in and the pass for the baseline included.
# devinterp's cost at the paper's settings is a timed part, scaled by the number of steps.

# %% mystnb={"image": {"alt": "CPU seconds of one LLC estimate at four checkpoints, on a logarithmic axis: devlib to two per cent, and devinterp at the paper's settings"}}
fig = costs_figures.totals(totals)
figures.show(fig, totals, "estimate_cost", description(precision))

# %%
show_table(totals, "One estimate", units={"seconds": "CPU"}, blank="",
           digits={"llc": 1, "error %": 2, "seconds": 1, "times": 0})
for row in precision["checkpoints"]:
    print(
        f"step {row['step']:,}: {row['ratio']:.0f} times less (wanted: 50); for "
        f"equally many steps, {row['ratio at as many steps']:.1f}"
    )
assert min(row["ratio"] for row in precision["checkpoints"]) > 50
print(
    f"compiling, once a process: {precision['compile seconds']:.0f} CPU seconds, not "
    "counted"
)

# %% [markdown]
# Where the LLC is far from zero, 200 draws a chain already do better than asked. The paper's 50,000 draws buy a smaller
# error than two per cent: its column says how small, by effective draws. What is compared is the cost of an answer
# that is good enough to draw a curve.
#
# A small error is not the whole of health. Late in training chains from $w_0$ are caught near it: they agree, and are
# sure of a number that longer chains leave behind (the page *What the curve measures*). What it takes to know
# is counted below, under equilibrium.
#
# ## Does a small batch give the same answer?
#
# Chains of every batch size, with the same noise, so that their differences are known far better than their
# means.

# %% mystnb={"image": {"alt": "Difference of the LLC at batches of 32, 64 and 128 from batch 1,024, in per cent, at four checkpoints, with error bars and a band of two per cent"}}
table = costs.batches(precision)
fig = costs_figures.batch_differences(table, table.batch.max())
figures.show(fig, table, "batch_differences", description(precision))

# %%
columns = ["step", "batch", "llc", "mcse", "difference", "difference error"]
show_table(
    table[columns], "LLC by batch, and its difference from the largest", digits=2
)
small = table[table.batch < table.batch.max()]
clear = small[small.difference.abs() > 3 * small["difference error"]]
print("\nbeyond three standard errors:")
for row in clear.itertuples():
    print(f"  batch {row.batch} at step {row.step:,}: {row.difference / row.llc:+.0%}")

# %% [markdown]
# Minibatch noise heats a chain a little beyond its temperature. Where the LLC is in the tens that shows, and no
# standard error counts it. So a curve should keep one batch size throughout, as all curves of this book do. Where
# the LLC is large the difference is lost in the error. These chains are short on purpose, and only their
# differences count here: at the first of these steps and the last their mean is not that of longer ones.

# %% [markdown]
# ## One estimate at equilibrium, its health included
#
# The error above is that of chains that may not have come to rest. Here chains from $w_0$ and from the prior have to
# agree, four of each on batches of 32, and chains of twice the step and one without noise run beside those from $w_0$.
# Both agree where their estimates differ by less than 2% or two of their errors; their pooled mean has to be known to 2%.
# Counted are contexts whose gradient is taken, so that no machine's speed enters. Where the chains from the prior are at
# rest and those from $w_0$ less than half as high, the latter are warmed up by a thousand draws of about three times
# the step, which counts too. Beside it stand the paper's 10 chains of 5,000 draws on batches of 1,024, longer where theirs take longer to
# come to rest.

# %%
converged = load("converged")
table = costs.converged(converged)
show_table(
    table,
    "One estimate at equilibrium (contexts in thousands)",
    digits={
        "from w0": 1,
        "from the prior": 1,
        "both": 1,
        "mcse": 1,
        "step bias": 1,
        "contexts": 0,
        "times less": 0,
    },
)
reached = table[table.converged == "yes"]
print(
    f"{len(reached)} of {len(table)} converged to "
    f"{converged['settings']['precision']:.0%}, for {reached['times less'].min():.0f} "
    f"to {reached['times less'].max():.0f} times fewer contexts (wanted: 100)"
)
assert "no" in table.converged.values  # as the text says

# %% [markdown]
# Where it says "no", the starts were still apart, or their mean uncertain, after all draws that were allowed, and
# `times less` is of what was spent. At step 984 the chains mix slowly, and the step's bias is the larger error, which
# no number of draws mends: it belongs to the paper's step and to these batches. Late in training the chains from $w_0$
# are caught near it, the paper's for thousands of draws; a larger step frees them, though at the last not all of
# them for good. So the number that both agree on here, at step 217,171, is that of chains that left the surroundings
# of $w_0$. Chains without a warm-up stay there for longer: on the page *What the curve measures* the two starts part.
#
# ## The Hessian of a checkpoint
#
# What the page *Hessian comparison* shows of each checkpoint: the trace to 2% and the five largest eigenvalues to
# 1%, on the same contexts. PyHessian is measured beside. It finds eigenvalues one by one by power iteration, and
# the trace by random signs alone. Its trace is charged as many probes as 2% takes by their spread. Its eigenvalues
# are charged at the loosest tolerance that brings all five near enough; where none did, the time is the tightest
# one's and the ratio a lower bound.

# %%
hessian = load("hessian")
print(description(hessian))
table = costs.hessians(hessian)
show_table(
    table.astype({"probes": int}),
    "Trace and eigenvalues of one checkpoint (CPU seconds)",
    digits=1,
)
print(
    "\ndevlib: CPU seconds in all; then PyHessian's by part. Wanted: 2 times; least "
    "here: "
    f"{table.times.min():.1f}"
)

# %% [markdown]
# How near do estimators of the trace come for equally many products $Hv$? Random signs alone, Hutch++ and XTrace
# are curvlinops'. devlib's takes out the eigenvalues that are wanted anyway, and counts the search for them. Shown
# is the distance from the trace in per cent, on few contexts.

# %%
trace = load("trace")
print(description(trace))
table = costs.traces(trace)
show_table(table, "Distance from the trace (%)", digits=2)
known = (2 * trace["repetitions"]) ** -0.5
further = {
    name: (table.devlib / table[name]).median() for name in ("XTrace", "Hutchinson")
}
print(
    f"\neach from {trace['repetitions']} repetitions, so known to {known:.0%} of "
    "itself; median "
    f"of devlib's\nover XTrace's {further['XTrace']:.1f}, over Hutchinson's "
    f"{further['Hutchinson']:.1f}"
)

# %% [markdown]
# For the trace alone XTrace is the best of them. It finds no eigenvalues, for which the products of devlib's search
# would then be spent beside its own; so devlib keeps to signs, on what the eigenvectors leave.

# %% [markdown]
# ## How cost grows
#
# Each ladder varies one thing and holds the others at the `published` preset's.

# %% mystnb={"image": {"alt": "CPU milliseconds a step against the number of parameters, the batch size and the number of chains, in double logarithmic scale with fitted power laws"}}
scaling = load("scaling")
ladders = costs.ladders(scaling)
fig = costs_figures.ladders(ladders)
data = costs.long(ladders)
figures.show(fig, data, "scaling", description(scaling))

# %%
show_table(costs.exponents(scaling), "Exponents of the fitted power laws", digits=2)

# %% [markdown]
# The slope is below one in parameters, because attention and the bookkeeping do not grow with the square of the
# width. It is a little below one in batch, as each call has its price, and one in chains. Taken together by `vmap`,
# chains of this model cost more than one by one. That wins only for models of a few thousand parameters, or on a
# GPU; `sample_chains` chooses.
#
# ## Do both give the same number?
#
# The same quadratic loss, the same settings, full batches, and the exact answer of the discrete chain.

# %%
agreement = load("agreement")
print(f"exact     {agreement['exact']:.4f}")
for name in ("devlib", "devinterp"):
    side = agreement[name]
    off = (side["llc"] - agreement["exact"]) / side["mcse"]
    print(
        f"{name:9} {side['llc']:.4f} +- {side['mcse']:.4f}, {off:+.1f} standard "
        f"errors; {side['cpu seconds']:.0f} CPU seconds"
    )
    assert abs(off) < 4

# %% [markdown]
# ## A preset
#
# What the stored tables of each preset took, as their manifests say: wall minutes on two cores that other work
# shared, so up to three times what an idle machine takes. Where checkpoints were measured apart, on one core each
# (the LLCs, metrics and Hessians of `published`), their CPU minutes are added up.

# %%
table = costs.minutes(COMMITTED)
show_table(table, "What the stored tables took (minutes)", digits=1)
updates, rate = (
    presets.PUBLISHED.regression.training.stop,
    training["steps a second"]["devlib"],
)
print(
    "\nTraining the published regression model, which its manifest does not time: "
    f"{updates:,} "
    f"updates\nat the rate above, {updates / rate['median'] / 3600:.1f} hours of one "
    "core."
)

# %% [markdown]
# ### Memory
#
# Peak resident memory of one process in MB, a few steps of each kind of work at each preset. The paper's language
# models are left out: their set of a million contexts alone is 8.4 GB.

# %%
show_table(costs.memory(load("memory")), "Peak memory of one process (MB)")

# %% [markdown]
# ## On GPUs: arithmetic
#
# Not measured: counted work, over what GPUs are said to do and a share of it that is assumed. The assumptions,
# each part, and more GPUs stand on the page *Beyond one machine*. Hours of the whole paper on one GPU:

# %%
show_table(beyond.paper_hours(load("work"), counts=(1,)).drop(columns="times"),
           "The whole paper on one GPU (hours, by arithmetic)", digits=1)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
