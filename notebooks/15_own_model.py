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
# # Measure your own model
#
# The estimator of this book, eqs. 3 and 8, in one call: a module, its data and its loss go in, and out comes one
# line that says the LLC, its error, and whether to believe it. The models here are made up, small enough for seconds
# each; the call is the same for yours.
#
# `pip install .` in a copy of the repository brings `devlib` alone.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale; every preset measures the same models
seed: int = 0  # of models and chains
recompute: bool = False  # changes nothing here: the page always measures

# %% tags=["hide-input"]
import warnings

import pandas as pd
import torch

import devlib
from companion.pages import own_model
from companion.summary import summary
from devlib.errors import UserError
from devlib.llc.response import influence

pd.options.display.width = 100
pd.options.display.max_colwidth = None

# %% [markdown]
# ## A convolutional net
#
# Noisy images with one bright column of six. The net has batch norm and dropout and stands in training mode, as
# training left it.

# %% tags=["show-input"]
net, checkpoints = own_model.trained(seed)
x, y = own_model.bars(seed=seed)
before = {name: value.clone() for name, value in net.state_dict().items()}

found = devlib.measure(
    net,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=64,
    precision=0.1,
    eps=2e-3,
    cap_draws=1600,
    seed=seed,
)
print(found)

# %% [markdown]
# What was not given was chosen: $n\beta = m / \ln m$ for batches of $m$ (A.5.1) and the paper's $\gamma = 100$ (A.4.1).
# Half of the chains begin at $w_0$ and half about it, as the spring alone would spread them. Beside them run chains of
# twice the step, on the same noise, and one without noise: from these come the bias of the step, which is part of the
# error, and the share of slope (A.7), which says whether $w_0$ is a minimum. They cost half as much again, with few
# chains as much (`health=False` leaves them out).
#
# "Set by the spring" stands there because most directions of this net are softer than the spring: $\gamma$ holds them,
# and the loss does not. By the draws' own covariance of the loss and $|w - w_0|^2$ a smaller $\gamma$ would give much
# more. So this number is one of the model *and* of $\gamma$. Checkpoints can be compared at one $\gamma$; as a count of
# what the model uses it is too small.
#
# Without `eps` a step is chosen from the largest curvature: a cautious one. In a quarter of the draws its chains still
# remember where they began. Then the line says "two regimes", gives both estimates, and says what was not reached.
# Such an answer is no measurement yet. A larger step, as above, makes chains forget sooner; its bias is larger too, and
# is part of the error that is printed. More draws do it as well.

# %% tags=["show-input"]
shorter = devlib.measure(
    net,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=64,
    precision=0.1,
    cap_draws=400,
    seed=seed,
)
print(shorter)

# %% [markdown]
# The model is in eval mode while it is measured. Afterwards all is as it was: weights, running means, modes.

# %% tags=["show-input"]
assert net.training and all(
    torch.equal(before[name], value) for name, value in net.state_dict().items()
)
sampler = shorter.draws.sampler
print(f"chosen: eps {sampler.eps:g}, nbeta {sampler.nbeta:.2f}, "
      f"gamma {sampler.gamma:g}")

# %% tags=["summary", "remove-input"]
summary(
    "The LLC can be estimated for any model with a differentiable loss, by SGLD chains "
    "(Section 4, A.3).",
    [
        "One call measures a module, its data and its loss, and prints one line with "
        "the estimate, its error and its health.",
        f"A small convolutional net, precision 10 % asked for: {found}.",
    ],
)

# %% [markdown]
# ## What may be given
#
# | | taken | what happens |
# |---|---|---|
# | data | tensors, numpy arrays, a tuple or dictionary of them | indexed as they are |
# | | memory-mapped arrays | only drawn rows are read |
# | | a `Dataset`, a `DataLoader`, a Hugging Face dataset | below 256 MB read once, above it batch by batch; of a loader the dataset and `collate_fn` are taken, batches are drawn here |
# | loss | `loss(model, batch)`, one value a sample | `batch` has the form of the data; all of the model may be used |
# | | one of torch's, such as `nn.CrossEntropyLoss()` | applied as `loss(model(x), y)`, without its reduction |
# | | `devlib.next_token` | mean cross-entropy of each sequence; padding by `attention_mask` |
# | `only` | `"blocks.1.attn.*"`, a list of such | these parameters move, the rest stay at $w_0$ |
# | | `"l0h1"` | head 1 of layer 0, where heads have weights of their own: `*.0.attn.W_Q` of shape (heads, ...) |
#
# Parameters with `requires_grad=False` stay, tied ones move as one. What would give a wrong number without a word is
# refused in one line before the first draw:


# %% tags=["show-input"]
def of_output(function):
    return lambda model, batch: function(model(batch[0]), batch[1])


cross_entropy = torch.nn.functional.cross_entropy
wrong = {
    "a mean": of_output(cross_entropy),
    "a loss of the batch": of_output(
        lambda out, y: cross_entropy(out - out.mean(0), y, reduction="none")
    ),
    "a random loss": of_output(
        lambda out, y: cross_entropy(
            torch.nn.functional.dropout(out), y, reduction="none"
        )
    ),
    "a constant": of_output(lambda out, y: out.detach()[:, 0]),
}
for name, loss in wrong.items():
    try:
        devlib.measure(net, (x, y), loss=loss)
        raise AssertionError(name)
    except UserError as error:
        print(f"{name}: {error}\n")

# %% [markdown]
# ## A GPT-2 of Hugging Face
#
# Random weights, tokens as a dictionary, and one block's attention alone. Its embedding is its unembedding too; both
# stay tied.

# %% tags=["show-input"]
def said(tried):
    """Whether it is a measurement, without the numbers of sixty draws."""
    return (
        f"the starts {'meet' if tried.starts.meet else 'do not meet'}, precision "
        f"{'reached' if tried.reached else 'not reached'}"
    )


gpt2, tokens = own_model.hugging_face(seed), own_model.texts(seed=seed)
if gpt2 is None:
    print("transformers is not installed here")
else:
    data = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    quick = {
        "loss": devlib.next_token,
        "batch_size": 32,
        "chains": 2,
        "cap_draws": 60,
        "vectorised": False,
        "seed": seed,
    }
    for only in (None, "transformer.h.1.attn.*"):
        tried = devlib.measure(gpt2, data, only=only, **quick)
        print(f"{only or 'all weights'}: {said(tried)}")
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight

# %% [markdown]
# Sixty draws show that it runs, and no more than that: an estimate of theirs is noise, and its last digits depend on
# how the processor rounds the random weights. So only the verdict is printed.
#
# ## A model of TransformerLens
#
# The bridges of TransformerLens 4 lend their parameters to modules of other names. All of them are the user's own
# afterwards.

# %% tags=["show-input"]
bridge = own_model.transformer_lens(seed)
if bridge is None:
    print("transformer_lens is not installed here")
else:
    own = dict(bridge.named_parameters(remove_duplicate=False))
    print(said(devlib.measure(bridge, tokens, **quick)))
    after = dict(bridge.named_parameters(remove_duplicate=False))
    assert own.keys() == after.keys() and all(own[name] is after[name] for name in own)
    print(f"{len(own)} names of parameters, each as it was")

# %% [markdown]
# ## Which sample moves which
#
# With `observables`, the loss of each sample of other data is kept at every tenth draw. Covariances of them over the
# draws are the Bayesian influence function: how the loss of one sample answers when another gets more weight. Each
# has its Monte Carlo error.

# %% tags=["show-input"]
images, columns = own_model.bars(samples=6, seed=seed + 1)
watched = devlib.measure(
    net,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=64,
    eps=3e-3,
    cap_draws=400,
    observables={"six": (images, columns)},
    every=5,
    seed=seed,
)
answer = influence(watched.observed["six"])
table = pd.DataFrame(
    [
        {
            "sample": i,
            "column": int(columns[i]),
            "influence on itself": answer.values[i, i],
            "error": answer.mcse[i, i],
        }
        for i in range(6)
    ]
)
print(table.to_string(index=False, float_format="{:.2g}".format))
assert (table["influence on itself"] < 0).all()

# %% [markdown]
# More weight on a sample lowers its own loss: minus a variance is negative. `devlib.llc.response.susceptibilities`
# does the same for an observable of your choice.
#
# ## Over training
#
# `llc_curve` takes checkpoints (step and state dict) and one sampler for all of them (A.5.2). Each row carries its
# health. `curve.stages()` cuts it into stages by the rule of [stage boundaries](02_stage_boundaries), where the
# checkpoints are dense enough to show any.

# %% tags=["show-input"]
curve = devlib.llc_curve(
    net,
    checkpoints,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=64,
    chains=2,
    eps=3e-3,
    cap_draws=100,
    seed=seed,
)
print(
    curve.table[["step", "loss", "llc", "mcse", "rhat", "meet", "reached", "health"]]
    .round(3)
    .to_string(index=False)
)
assert (curve.table.loss.diff().dropna() < 0).all()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    smoothed, boundaries, stages = curve.stages()
print("\nboundaries:", boundaries)
print(*(one.message for one in said), sep="\n")

# %% [markdown]
# These rows are too short to trust, as `reached` and `health` say, and the stages say which boundaries rest on
# them. Its other columns are the bias of the step and the share of slope. At weights that are at no minimum, as before training, an
# estimate may be zero or below.
#
# ## Sets too large to pass over, and chains to go on with
#
# The LLC needs the loss of $w_0$. Where the set has more samples than all chains will draw, no pass is made over it:
# the loss of $w_0$ is taken on each drawn batch, where it subtracts the batch's own noise as well, and its mean carries
# an error. `whole_set=False` asks for that.

# %% tags=["show-input"]
drawn = devlib.measure(
    net,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=16,
    eps=1e-3,
    cap_draws=60,
    whole_set=False,
    seed=seed,
)
print(f"loss of w0: {drawn.draws.init_loss:.4f} +- {drawn.draws.init_loss_se:.4f}")
whole = devlib.measure(
    net,
    (x, y),
    loss=torch.nn.CrossEntropyLoss(),
    batch_size=16,
    eps=1e-3,
    cap_draws=60,
    whole_set=True,
    seed=seed,
)
print(f"on the whole set: {whole.draws.init_loss:.4f}")
assert abs(drawn.draws.init_loss - whole.draws.init_loss) < 4 * drawn.draws.init_loss_se

# %% [markdown]
# Below this call, `devlib.sampling.Chains` can be saved and loaded: another process goes on with the same bits, and a
# file of another model, loss, data or sampler is refused. The pieces that `measure` is made of are on
# [the page on using the library](../book/use).
#
# ## Beside other libraries
#
# By their READMEs, docstrings and, where these are silent, sources in the release named, read in November 2026; *not found* means not found there, and
# is no test of their code. devinterp is the authors' own library.

# %% tags=["hide-input"]
own_model.comparison()

# %% [markdown]
# What they have and this library has not: devinterp 2 keeps losses a token and knows the parts of 85 and more model
# types, heads included; canonical-interp spreads the chains of one estimate over GPUs. What this one has for its part
# are errors, and the refusal to give a number that it cannot stand for.

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
