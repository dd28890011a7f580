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
# # The induction circuit
#
# Section 6.3 and C.2.2 to C.2.4 of the paper: the last two stages of the two-layer model of
# [language stages](10_language_stages). Two heads in a row copy what followed a token the last time it stood in the
# text. The paper finds the first of them over LM3 and LM4, the second in LM4.

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
corpus: str = ""  # offline, toy or hub; empty: the preset's

# %% tags=["hide-input"]
import pandas as pd

from companion import figures, results_language
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.table_rows import composition_baseline
from companion.claims.verdicts import say
from companion.figures_released import behind
from companion.pages.larger_rate import (
    PANELS,
    larger_rate,
    of_runs,
    weights_beside_spring,
)
from companion.paper_stages import find_named, paper_ends
from companion.shown_tables import show_table
from companion.summary import summary
from companion.tabs import tab
from devlib.language.behaviour import icl_windows

settings = results_language.language_settings(preset, layers=2, corpus=corpus)
model, chosen = settings.model, settings.metrics
run = results_language.language(preset, seed, recompute, layers=2, corpus=corpus)
behaviour, heads = run["behaviour"], run["heads"]
stages = find_named(run["llc"], behaviour, settings.stages, paper_ends(settings))[2]
reached = int(behaviour.step.max())
end = behaviour.iloc[-1]
least = behaviour.loc[behaviour.bigram.idxmin()]
faster = larger_rate()

# %% tags=["summary", "remove-input"]
matched = heads[heads.step == reached].prefix.max()
untrained_match = heads[heads.step == 0].prefix.mean()
faster_end = faster["heads"][faster["heads"].step == faster["heads"].step.max()]
summary(
    "Previous-token heads form over LM3 and LM4, prefix-matching heads in LM4; with "
    "them the model learns in context (Section 6.3).",
    [
        f"At step {reached:,} the best prefix-matching head scores {matched:.3f} "
        f"(untrained heads {untrained_match:.3f}), and the ICL score is {end.icl:+.2f} "
        f"± {end.icl_se:.2f} nats.",
        f"At three times the paper's rate one head scores "
        f"{faster_end.prefix.max():.2f} at step {faster_end.step.max():,}: the model "
        "and the text allow the circuit.",
    ],
    "LM-4",
    "LM-5",
    "LM-6",
    "LM-7",
    two_layers=run,
)

# %% [markdown]
# ## Its two halves
#
# C.2.3, C.2.4. A previous-token head attends to the token before; a prefix-matching head attends
# from a token to what followed it the last time. Both scores are mean attention on random sequences, so no
# head can know them by heart. Grey are the released heads that score most at their run's end, 1:2 and 2:8, and the
# released ICL score, token 500 less token 50.

# %% tags=["tabs"] mystnb={"image": {"alt": "Previous-token and prefix-matching scores of every head over training, one panel a layer and score; and the ICL score over training with its error band"}}
tab("heads")
panels = {
    f"layer {layer}, {title}": table.pivot(index="step", columns="head", values=name)
    .add_prefix(f"{layer}:")
    .reset_index()
    for name, title in (("previous", "previous token"), ("prefix", "prefix matching"))
    for layer, table in heads.groupby("layer")
}
fig = draw.curves(panels, stages, "mean attention", each_scale=True)
for title, name in (("layer 1, previous token", "previous"),
                    (f"layer {model.layers}, prefix matching", "prefix")):
    behind(fig.axes[list(panels).index(title)], name, of="language-2layer", named=False)
figures.show(fig, heads, "heads", run.description)
tab("ICL score")
early, late = icl_windows(chosen, model.context)
icl = behaviour[["step", "icl"]].rename(columns={"icl": "ICL score"})
title = f"loss on tokens {late[0]} to {late[1]} minus {early[0]} to {early[1]}"
fig = draw.curves({title: icl}, stages, "nats",
                  columns=1, height=3.4, errors={"ICL score": behaviour.icl_se},
                  levels={"no gain": 0.0})
behind(fig.axes[0], "icl", of="language-2layer")
figures.show(fig, behaviour[["step", "icl", "icl_se"]], "icl", run.description)

# %%
final = heads[heads.step == reached].set_index(["layer", "head"])
untrained = heads[heads.step == 0].set_index(["layer", "head"])
ahead = final.previous.idxmax()
match = final.prefix.idxmax()
say(
    f"previous token: most in head {ahead[0]}:{ahead[1]}, {final.previous[ahead]:.3f} "
    f"+- {final.previous_se[ahead]:.3f} (untrained heads "
    f"{untrained.previous.mean():.3f})"
)
say(
    f"prefix matching: most in head {match[0]}:{match[1]}, {final.prefix[match]:.4f} "
    f"+- {final.prefix_se[match]:.4f} (untrained heads {untrained.prefix.mean():.4f})"
)
say(
    f"ICL score {least.icl:+.3f} +- {least.icl_se:.3f} "
    f"at the bigram minimum, {end.icl:+.3f} +- {end.icl_se:.3f} at the end"
)
show("LM-4", "LM-5", "LM-6", two_layers=run)

# %% [markdown]
# ## A larger rate: the same circuit, another curve
#
# A run of the same model on the same text, in the same contexts and batches, at three times the paper's rate
# (reached over 300 updates), for 24,000 updates: it gets the circuit. So text, contexts and batches alone do not
# rule the circuit out. Its LLC is another curve. The likely reason (inferred): a larger rate makes larger weights,
# and the spring that holds the chains is the same. Beside larger weights its reach is smaller, the chains unlearn
# less, and the LLC is lower.

# %% mystnb={"image": {"alt": "LLC, weight norm, loss, ICL score and the leading heads over training, of this run and of the run at three times the paper's rate: only the latter gets a prefix-matching head, and its LLC stays lower while its weights are larger"}}
rates = {"this run": run, "three times the paper's rate": faster}
both = of_runs(rates)
fig = draw.curves(both, stages.head(0), "", each_scale=True)
for ax, name in zip(fig.axes, PANELS, strict=True):
    named = name == "previous"  # where the legend has room
    if not named:
        ax.get_legend().remove()
    behind(ax, name, of="language-2layer", named=named)
drawn = pd.concat([table.assign(panel=title) for title, table in both.items()])
figures.show(fig, drawn, "larger_rate",
             f"this run: {run.description}; the other: {faster.description}")

# %% tags=["hide-input"]
show_table(weights_beside_spring(rates, (0, 900, 2_000, 6_500, 17_000)),
           "The weights beside the spring, at the checkpoints nearest to these steps",
           units={"loss": "nats", "loss of a chain": "nats"},
           digits={"LLC": 1, "its error": 1, "norm": 0, "rms / spring's sd": 2,
                   "loss": 2, "loss of a chain": 2})

# %% [markdown]
# The claims about the circuit, on the run at three times the paper's rate:

# %% tags=["hide-output"]
show("LM-4", "LM-5", "LM-6", "LM-7", two_layers=faster)

# %% [markdown]
# ## What those two heads look at
#
# Sequences of random tokens, each shown twice after the beginning-of-sequence token (bos), so that only what stood
# there before tells what comes. A previous-token head is bright along the line below the diagonal. An induction
# head is bright along the line from the second showing to what followed in the first. The activations are read
# through TransformerLens's hooks.

# %% mystnb={"image": {"alt": "Mean attention patterns of the best previous-token and prefix-matching heads at some steps"}}
looked = run if "patterns" in run.tables else results_language.language("laptop", 0)
patterns = looked["patterns"]
if looked is not run:
    say("This run's checkpoints were measured before patterns were, and are not kept. "
        "These are the laptop run's.")
fig = draw.head_patterns(patterns)
figures.show(fig, patterns, "patterns", looked.description)

# %%
repeated = patterns["query"].max() // 2  # tokens of a sequence
for (layer, head), rows in patterns.groupby(["layer", "head"]):
    last = rows[rows.step == rows.step.max()]
    second = last[last["query"] > repeated]
    before = second[second["key"] == second["query"] - 1].attention.mean()
    followed = second[second["key"] == second["query"] - repeated + 1].attention.mean()
    even = (1 / (second["query"] + 1)).mean()
    say(f"head {layer}:{head} at step {last.step.iloc[0]:,}, in the second showing: "
        f"{before:.3f} of its attention to the token before, {followed:.3f} to what "
        f"followed the first time; evenly spread {even:.3f}")

# %% [markdown]
# ## Composition
#
# C.2.2, eq. 17: how much of what a head of layer 1 writes is read into the queries, keys and values of a head
# of layer 2. Untrained pairs have about $1/\sqrt{d}$. Marked is the pair of the best previous-token head and the
# best prefix-matching head of the end.

# %% mystnb={"image": {"alt": "Q-, K- and V-composition of all pairs of heads over training, thin lines, with their mean, and the K-composition of the pair that leads at the end"}}
composition = run["composition"]
pairs = composition.assign(
    pair=composition.earlier_head.astype(str) + composition.later_head.astype(str)
)
fig = draw.threads({f"{kind.upper()}-composition": pairs.pivot(
    index="step", columns="pair", values=kind).to_numpy() for kind in "qkv"},
    sorted(pairs.step.unique()), stages, "score (eq. 17)")
earlier, later = final.loc[1].previous.idxmax(), final.loc[2].prefix.idxmax()
circuit = composition[(composition.earlier_head == earlier)
                      & (composition.later_head == later)]
fig.axes[1].plot(circuit.step, circuit.k, color=figures.VERMILLION,
                 label=f"the pair of 1:{earlier} and 2:{later}")
fig.axes[1].legend(fontsize=8)
figures.show(fig, composition, "composition", run.description)

# %%
baseline = composition_baseline(composition)
last = composition[composition.step == reached]
strongest = last.loc[last.k.idxmax()]
say("untrained, mean score:", ", ".join(f"{kind.upper()} {baseline[kind]:.4f}"
                                        for kind in "qkv"))
say(f"strongest K-composition at the end: 1:{strongest.earlier_head:.0f} into "
    f"2:{strongest.later_head:.0f}, {strongest.k:.3f}")
show("LM-7", two_layers=run)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
