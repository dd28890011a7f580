"""Models that stand for a reader's own, and other libraries beside this one, for the page on
measuring them.

Everything is in float64, so that what the page prints is the same on every processor.
"""

import pandas as pd
import torch
from torch import nn

from companion.environment import quiet_imports

TOKENS, CONTEXT = 20, 8  # of the language models
TRAINING = 60  # updates of the convolutional net
KEPT = (0, 5, 10, 20, 40, TRAINING)  # its checkpoints


def bars(samples=256, seed=0):
    """Noisy images (n, 1, 6, 6) with a bright column, and which of the six it is (n,)."""
    gen = torch.Generator().manual_seed(seed)
    y = torch.randint(6, (samples,), generator=gen)
    x = 0.5 * torch.randn(samples, 1, 6, 6, generator=gen, dtype=torch.float64)
    x[torch.arange(samples), 0, :, y] += 1
    return x, y


def convolutional(seed=0) -> nn.Module:
    """Convolution, batch norm, dropout, and a linear layer: 150 parameters."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
                         nn.MaxPool2d((3, 2)), nn.Flatten(), nn.Dropout(0.1),
                         nn.Linear(18, 6)).double()


def trained(seed=0):
    """The convolutional net after training by Adam, and step -> state dict on the way there."""
    net, (x, y) = convolutional(seed), bars(seed=seed)
    adam, kept = torch.optim.Adam(net.parameters(), 0.02, foreach=False), {}
    for step in range(TRAINING + 1):
        if step in KEPT:
            kept[step] = {name: value.clone() for name, value in net.state_dict().items()}
        adam.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if step < TRAINING:
            adam.step()
    return net, kept


def texts(samples=128, seed=0) -> torch.Tensor:
    """Sequences (n, CONTEXT) in which each token is one more than the last, from a random one."""
    gen = torch.Generator().manual_seed(seed)
    start = torch.randint(TOKENS, (samples, 1), generator=gen)
    return (start + torch.arange(CONTEXT)) % TOKENS


def hugging_face(seed=0):
    """A small GPT-2 of random weights; None where transformers is not installed."""
    try:
        with quiet_imports():
            from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return None
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=TOKENS, n_positions=CONTEXT, n_embd=8, n_layer=2,
                                      n_head=2, bos_token_id=0, eos_token_id=0)).double()


def transformer_lens(seed=0):
    """A small model of TransformerLens, of random weights; None where that is not installed."""
    try:
        with quiet_imports():
            from transformer_lens import TransformerBridge, TransformerBridgeConfig
    except ImportError:
        return None
    return TransformerBridge.boot_native(TransformerBridgeConfig(
        n_layers=2, d_model=8, n_ctx=CONTEXT, d_head=4, n_heads=2, d_mlp=16, d_vocab=TOKENS,
        act_fn="gelu", seed=seed)).double()


# ---------------------------------------------------------------------------- other libraries

NF = "not found"  # in the library's documentation
COMPARED = "devlib", "devinterp 1.3.2", "devinterp 2.0.1", "canonical-interp 0.2.7"
FEATURES = (
    ("models", "any nn.Module", "any nn.Module", "language models", "any nn.Module"),
    ("data", "tensors, arrays, memory maps, loaders, datasets, dictionaries", "DataLoader",
     "Hugging Face dataset of tokens", "DataLoader; a function that unpacks a batch"),
    ("loss", "any, one value a sample", "any", "any, one value a token", "any mean"),
    ("loss tested before sampling", "yes", NF, "finite logits", NF),
    ("mode of the model", "eval, then as it was", "train", "train", "as it is"),
    ("step size", "from the curvature; calibrate", "given; a notebook", "given; a guide",
     "given; grid search"),
    ("error of the LLC", "MCSE and step bias", "sd over chains", "sd over chains",
     "sd over chains"),
    ("ESS and R-hat", "yes", NF, NF, NF),
    ("two starts compared", "yes", NF, NF, NF),
    ("test of the step", "its bias; Metropolis acceptance", "Metropolis acceptance", NF, NF),
    ("share of slope", "yes", NF, NF, NF),
    ("locality", "distance from w0, chain's loss, spring beside weights",
     "distance from w0; norms of weights, gradient, noise", NF, NF),
    ("runs to a precision", "yes", NF, NF, NF),
    ("baseline", "whole set, or drawn batches with error", "given, or some batches",
     "some batches", "a pass over the loader, or given"),
    ("part of a model", "names by pattern; heads kept apart", "masks by hand",
     "heads, layers, MLPs of 85+ model types", "whole parameters by name"),
    ("losses on other data", "a sample", "callbacks", "a token", NF),
    ("callbacks", "yes", "yes", NF, NF),
    ("susceptibilities, influence", "with MCSE", NF, "without error", NF),
    ("stopped chains go on", "bit by bit", NF, NF, NF),
    ("curve of checkpoints, stages", "yes", NF, NF, NF),
    ("16-bit arithmetic", "in the loss; not the chain", "autocast", "models in bfloat16",
     "autocast"),
    ("several devices for one estimate", "no", "TPU cores", NF, "chains over GPUs"),
    ("samplers", "SGLD, RMSprop, SGLD of smoothed noise", "SGLD, RMSprop, SGNHT, others",
     "SGLD, RMSprop", "SGLD"))


def comparison() -> pd.DataFrame:
    """What each library offers, one row a feature; of the others by their README and docstrings in
    the release named."""
    return pd.DataFrame([row[1:] for row in FEATURES], [row[0] for row in FEATURES],
                        list(COMPARED))
