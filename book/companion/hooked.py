"""The attention-only language model (F.1.1) with every activation in reach, on TransformerLens's
hooks: `run_with_cache`, `run_with_hooks` and the names that HookedTransformer gave its
activations. It imports TransformerLens, which takes seconds; training and SGLD go without it
(devlib.language.model).

Attention is written out, so that its patterns exist and second derivatives do.
"""

import torch
from torch import nn
from torch.nn import functional as F

from companion.environment import quiet_imports
from devlib.errors import UserError
from devlib.language.model import LAYER_NORM_EPS
from devlib.language.parameters import check_parameters, check_tokens
from devlib.settings import LanguageModel

with quiet_imports():
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint


class Part(nn.Module):
    """The parameters whose names begin with `prefix`, without it."""

    def __init__(self, params, prefix):
        super().__init__()
        for name, value in params.items():
            if name.startswith(prefix):
                self.register_parameter(name.removeprefix(prefix),
                                        nn.Parameter(value.detach().clone()))


class LayerNorm(Part):
    """Layer normalisation over the stream's components, with weight and bias."""

    def __init__(self, params, prefix):
        super().__init__(params, prefix)
        self.hook_scale = HookPoint()  # (B, T, 1)
        self.hook_normalized = HookPoint()  # (B, T, d)

    def forward(self, x):
        """(B, T, d) -> (B, T, d)."""
        x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.square().mean(-1, keepdim=True) + LAYER_NORM_EPS).sqrt())
        return self.hook_normalized(x / scale * self.w + self.b)


class Attention(Part):
    """H causal heads; positions are part of what queries and keys read, not of what values do."""

    def __init__(self, params, prefix):
        super().__init__(params, prefix)
        self.hook_q, self.hook_k = HookPoint(), HookPoint()  # (B, T, H, d_head)
        self.hook_v, self.hook_z = HookPoint(), HookPoint()  # (B, T, H, d_head)
        self.hook_attn_scores = HookPoint()  # (B, H, T, T): queries, keys
        self.hook_pattern = HookPoint()  # (B, H, T, T)

    def forward(self, placed, plain):
        """placed = stream + positions and plain = stream, both normalised (B, T, d)."""
        def heads(x, weight, bias):
            return torch.einsum("btd,hde->bthe", x, weight) + bias

        q = self.hook_q(heads(placed, self.W_Q, self.b_Q))
        k = self.hook_k(heads(placed, self.W_K, self.b_K))
        v = self.hook_v(heads(plain, self.W_V, self.b_V))
        scores = torch.einsum("bqhe,bkhe->bhqk", q / q.shape[-1] ** 0.5, k)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = self.hook_attn_scores(scores.masked_fill_(future, -torch.inf))
        pattern = self.hook_pattern(scores.softmax(-1))
        z = self.hook_z(torch.einsum("bhqk,bkhe->bqhe", pattern, v))
        return torch.einsum("bthe,hed->btd", z, self.W_O) + self.b_O


class Block(nn.Module):
    """x -> x + attention(LN(x)); there is no MLP."""

    def __init__(self, params, prefix):
        super().__init__()
        self.ln1 = LayerNorm(params, prefix + "ln1.")
        self.attn = Attention(params, prefix + "attn.")
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()  # (B, T, d)
        self.hook_attn_out = HookPoint()  # (B, T, d)

    def forward(self, x, positions):
        """Stream (B, T, d) and positions (T, d) -> the stream after the block."""
        x = self.hook_resid_pre(x)
        h = self.ln1(x)
        return self.hook_resid_post(x + self.hook_attn_out(self.attn(h + positions, h)))


class LanguageTransformer(HookedRootModule):
    """The model with given parameters (`initial_parameters`, a checkpoint, or a HookedTransformer's
    state dict read by companion.released). Raises UserError if they are another model's."""

    def __init__(self, model: LanguageModel, params: dict):
        super().__init__()
        check_parameters(params, model)
        self.settings = model
        self.embed, self.pos_embed = Part(params, "embed."), Part(params, "pos_embed.")
        self.hook_embed, self.hook_pos_embed = HookPoint(), HookPoint()  # (B, T, d)
        self.blocks = nn.ModuleList(Block(params, f"blocks.{layer}.")
                                    for layer in range(model.layers))
        self.ln_final = LayerNorm(params, "ln_final.")
        self.unembed = Part(params, "unembed.")
        self.setup()

    def forward(self, tokens, return_type="logits"):
        """tokens (B, T) -> logits (B, T, V), or with return_type=None nothing: the activations
        are made and the unembedding, most of the work, is not. Raises UserError for tokens out of
        range or too many."""
        check_tokens(tokens, self.settings)
        x = self.hook_embed(F.embedding(tokens.long(), self.embed.W_E))
        positions = self.hook_pos_embed(self.pos_embed.W_pos[:tokens.shape[1]].expand_as(x))
        for block in self.blocks:
            x = block(x, positions)
        x = self.ln_final(x)
        if return_type is None:
            return None
        return x @ self.unembed.W_U + self.unembed.b_U

    def activations(self, tokens, *names) -> dict[str, torch.Tensor]:
        """The named activations, such as "blocks.1.attn.hook_pattern", without gradients. Raises
        UserError for a name or layer that does not exist; `hook_dict` lists those that do."""
        for name in names:
            if name not in self.hook_dict:
                raise UserError(f"no activation {name!r} in this model of {len(self.blocks)} "
                                f"layers, counted from 0; its hook_dict lists the names")
        with torch.no_grad():
            return self.run_with_cache(tokens, names_filter=list(names), return_type=None)[1]
