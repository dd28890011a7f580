"""Parts of a model by the names of its parameters."""

import re
from fnmatch import fnmatchcase

import torch

from devlib.errors import UserError

HEAD = re.compile(r"l(\d+)h(\d+)")
OF_A_HEAD = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")  # the head first, (H, ...)


def mask_of(model, only) -> dict | None:
    """The mask (Layout.indices) that leaves free what `only` names, and None for None.

    `only` is one pattern or a list of them: a glob over parameter names ("blocks.1.attn.*"; a tied
    parameter by any of its names), or "l0h1", head 1 of layer 0, of a model that keeps its heads'
    weights along the first dimension of *.0.attn.W_Q, W_K, W_V, W_O and of the biases b_Q, b_K,
    b_V, as TransformerLens does. A dictionary is such a mask already. Parameters with
    requires_grad=False stay held. Raises UserError for a pattern that frees nothing.
    """
    if only is None or isinstance(only, dict):
        return only
    patterns = list(only) if isinstance(only, list | tuple) else [only]
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError("only must be a pattern of parameter names, or a list of them, not "
                        f"{only!r}")
    first = {id(p): name for name, p in model.named_parameters()}
    named = [(name, p) for name, p in model.named_parameters(remove_duplicate=False)
             if p.requires_grad]
    mask = {}
    for pattern in patterns:
        head = HEAD.fullmatch(pattern)
        found = _head(named, *map(int, head.groups())) if head else {
            name: torch.ones(p.shape, dtype=torch.bool) for name, p in named
            if fnmatchcase(name, pattern)}
        if not found:
            raise UserError(
                f"only={pattern!r}: " + ("no weights of single heads, as *.attn.W_Q (heads, ...) "
                                         "holds them, in that layer" if head else
                                         "no parameter that may move has such a name; there are "
                                         f"{', '.join(list(first.values())[:4])}, ..."))
        for name, part in found.items():
            own = first[id(dict(named)[name])]
            mask[own] = mask[own] | part if own in mask else part
    return mask


def _head(named, layer, head):
    found = {}
    for name, p in named:
        if not re.search(rf"(^|\.){layer}\.attn\.({'|'.join(OF_A_HEAD)})$", name):
            continue
        if head >= len(p):
            raise UserError(f"only='l{layer}h{head}': {name} has heads 0 to {len(p) - 1}")
        part = torch.zeros(p.shape, dtype=torch.bool)
        part[head] = True
        found[name] = part
    return found
