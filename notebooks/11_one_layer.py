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
# # One-layer language model
#
# Appendix E of the paper: one layer cannot hold an induction circuit, but the early stages need none. Bigrams,
# positions and n-grams should come as they do with two layers (the page *Language model stages*, which explains
# each measure and the text trained on).

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 0  # of initialisation, batches, test set and chains
recompute: bool = False  # compute anew instead of reading stored tables
corpus: str = ""  # offline, toy or hub; empty: the preset's

# %% tags=["hide-input"]
from companion import figures, results_language
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.verdicts import onset, say
from companion.figures_released import behind
from companion.health import curve_health, say_health
from companion.paper_stages import find_named, paper_ends
from companion.shown_tables import show_table
from companion.summary import summary
from devlib.errors import UserError

settings = results_language.language_settings(preset, layers=1, corpus=corpus)
model, training, chosen = settings.model, settings.training, settings.metrics
run = results_language.language(preset, seed, recompute, layers=1, corpus=corpus)
behaviour, llc, structure = run["behaviour"], run["llc"], run["structure"]
smoothed, boundaries, stages = find_named(llc, behaviour, settings.stages,
                                          paper_ends(settings))
reached = int(behaviour.step.max())
end = behaviour.iloc[-1]
least = behaviour.loc[behaviour.bigram.idxmin()]
scores = [f"ngram_{n}" for n in chosen.ngrams]
heads = run["heads"]
final, untrained = heads[heads.step == reached], heads[heads.step == 0]
try:
    tables = {"one_layer": run, "two_layers": results_language.language(
        preset, seed, layers=2, corpus=corpus)}
except UserError:
    tables = {"one_layer": run}

# %% tags=["summary", "remove-input"]
summary(
    "With one layer bigrams and n-grams come as they do with two, and no induction "
    "circuit follows (Appendix E).",
    [
        f"Bigrams are best at step {least.step:,.0f}, {least.bigram_excess:.2f} ± "
        f"{least.bigram_excess_se:.2f} nats above their floor.",
        f"Common n-grams, n = {', '.join(str(n) for n in chosen.ngrams)}, score "
        f"{', '.join(f'{end[name]:.2f}' for name in scores)} at the end: above 1 they "
        "are predicted better than other text.",
        f"Prefix matching scores at most {final.prefix.max():.4f} at step {reached:,} "
        f"(untrained heads {untrained.prefix.mean():.4f}).",
    ],
    "LM-10",
    "LM-13",
    **tables,
)

# %% [markdown]
# ## The curve and its stages
#
# Grey, here and below, is the authors' one released run by its own steps, of their text and batches; its LLC without
# the artefact of their init loss. The published run has the paper's optimiser and the first part of its steps.

# %% mystnb={"image": {"alt": "Test loss above and LLC with error bars below, over training steps of the one-layer model, with the stages found as coloured bands"}}
marked = llc.assign(health=curve_health(llc, settings.llc))
fig = figures.llc_curve(
    marked, smoothed, stages, {}, behaviour, loss_unit="nats a token"
)
for ax, curve in zip(fig.axes, ("loss", "llc"), strict=True):
    behind(ax, curve, of="language-1layer")
figures.show(fig, marked, "llc_one_layer", run.description)

# %%
for line in say_health(llc, behaviour, settings.llc, settings.stages):
    say(line)
show_table(stages, "What each stage changes", units={"loss_change": "nats"},
           digits={"loss_change": 3, "loss_se": 3, "llc_change": 1, "llc_se": 1})
say(
    f"test loss at the end {end.loss:.3f} +- {end.loss_se:.3f}; the paper's are with "
    "LM-9 on the page of claims"
)

# %% [markdown]
# ## Bigrams, positions, n-grams
#
# The measures of Sections 6.1 and 6.2 on the one-layer model.

# %% mystnb={"image": {"alt": "Three panels over training of the one-layer model: bigram score, what zeroed positions cost, n-gram scores"}}
names = {f"ngram_{n}": f"{n}-gram score" for n in chosen.ngrams}
panels = {"bigram score (nats)": behaviour[["step", "bigram"]],
          "cost of zeroed positions (nats)": behaviour[["step", "ablation"]],
          "n-gram scores": behaviour[["step", *names]].rename(columns=names)}
fig = draw.curves(panels, stages, "nats, or loss over loss", columns=3, each_scale=True)
for ax, curves in zip(fig.axes, (["bigram"], ["ablation"], names), strict=True):
    behind(ax, *curves, of="language-1layer", named=False)
figures.show(
    fig,
    behaviour[
        [
            "step",
            "bigram",
            "bigram_excess_se",
            "ablation",
            "ablation_se",
            *(n for key in names for n in (key, f"{key}_se")),
        ]
    ],
    "one_layer",
    run.description,
)

# %%
def moments(table):
    """When the score is least, and when positions and n-grams have gained a tenth of
    what they will."""
    return {
        "least bigram score": int(table.step[table.bigram.idxmin()]),
        "positions": onset(table.ablation, table.step),
        **{name: onset(table[key], table.step, start=1) for key, name in names.items()},
    }


own = moments(behaviour)
say("one layer: ", "; ".join(f"{name} {step:,}" for name, step in own.items()))
if "two_layers" in tables:
    two = tables["two_layers"]["behaviour"]
    other = moments(two[two.step <= reached])
    say("two layers:", "; ".join(f"{name} {step:,}" for name, step in other.items()))
else:
    say("two layers: not run")
say(
    f"bigram score at its least {least.bigram_excess:.3f} +- "
    f"{least.bigram_excess_se:.3f} nats above the floor"
)
show("LM-10", "LM-13", **tables)

# %% [markdown]
# In the paper the LLC of this model falls between steps 400 and 900, just before the loss has a bump. In the
# released files, with the artefact of the init loss removed, the fall is 0.9, and the loss rises nowhere near by
# more than 0.008. No run of this size could tell either from nothing.

# %% [markdown]
# ## Previous tokens, without a second layer
#
# A head of one layer may attend to the token before; prefix matching needs two.

# %% mystnb={"image": {"alt": "Previous-token and prefix-matching scores of the heads of the one-layer model over training"}}
panels = {title: heads.pivot(index="step", columns="head", values=name).add_prefix("1:")
          .reset_index() for name, title in (("previous", "previous token"),
                                             ("prefix", "prefix matching"))}
fig = draw.curves(panels, stages, "mean attention", each_scale=True)
figures.show(fig, heads, "heads_one_layer", run.description)

# %%
say(
    f"at the end: previous token {final.previous.max():.3f} (untrained "
    f"{untrained.previous.mean():.3f}), prefix matching {final.prefix.max():.4f} "
    f"(untrained {untrained.prefix.mean():.4f}); ICL score {end.icl:+.3f} +- "
    f"{end.icl_se:.3f}"
)

# %% [markdown]
# ## The model and its text

# %%
say(
    f"{model.layers} layer, {model.heads} heads of {model.head_dim}, d = "
    f"{model.embed_dim}, vocabulary {model.vocabulary:,}, context {model.context}; the "
    "paper: 1, 8 of 32, 256, 5,000, 1,024."
)
say(
    f"{len(behaviour)} checkpoints up to step {reached:,}, of "
    f"{training.batch * model.context:,} tokens a step (the paper: 102,400)."
)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
