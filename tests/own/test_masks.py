"""Parts of a model by name."""

import pytest
import torch
from torch import nn

from devlib.errors import UserError
from devlib.own.masks import mask_of


class Attention(nn.Module):
    """Heads along the first dimension, as TransformerLens keeps them."""

    def __init__(self):
        super().__init__()
        for name, shape in {"W_Q": (3, 4, 2), "W_O": (3, 2, 4), "b_Q": (3, 2), "b_O": (4,)}.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.unembed = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.unembed.weight = self.embed.weight
        self.blocks = nn.ModuleList([nn.ModuleDict({"attn": Attention()}) for _ in range(2)])
        self.blocks[1]["attn"].b_O.requires_grad_(False)


def free(only):
    return {name: int(part.sum()) for name, part in mask_of(Model(), only).items()}


@pytest.mark.parametrize("only, expected", [
    ("blocks.1.attn.*", {"blocks.1.attn.W_Q": 24, "blocks.1.attn.W_O": 24, "blocks.1.attn.b_Q": 6}),
    ("unembed.weight", {"embed.weight": 20}),  # tied
    (["*.0.attn.b_*", "embed*"], {"embed.weight": 20, "blocks.0.attn.b_Q": 6,
                                  "blocks.0.attn.b_O": 4}),
    ("l0h2", {"blocks.0.attn.W_Q": 8, "blocks.0.attn.W_O": 8, "blocks.0.attn.b_Q": 2}),
    (["l0h0", "l0h2"], {"blocks.0.attn.W_Q": 16, "blocks.0.attn.W_O": 16,
                        "blocks.0.attn.b_Q": 4})])
def test_what_a_pattern_frees(only, expected):
    assert free(only) == expected


def test_a_head_is_its_place_in_the_first_dimension():
    mask = mask_of(Model(), "l1h1")["blocks.1.attn.W_Q"]
    assert mask[1].all() and not mask[[0, 2]].any()


def test_none_and_a_mask_pass_through():
    assert mask_of(Model(), None) is None
    assert mask_of(Model(), {"embed.weight": True}) == {"embed.weight": True}


@pytest.mark.parametrize("only, match", [
    ("blocks.7.*", "no parameter that may move has such a name; there are embed.weight"),
    ("blocks.1.attn.b_O", "no parameter that may move"),  # it has requires_grad=False
    ("l5h0", "no weights of single heads"), ("l0h3", "has heads 0 to 2"), ([], "must be a pattern"),
    (3, "must be a pattern")])
def test_patterns_that_free_nothing(only, match):
    with pytest.raises(UserError, match=match):
        mask_of(Model(), only)
