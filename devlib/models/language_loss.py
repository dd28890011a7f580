"""The language model's loss, fast: what training and SGLD descend. No hooks, no TransformerLens;
devlib.models.language computes the same numbers with every activation in reach.

Attention is torch's fused kernel, which has no second derivative on a CPU. The unembedding and the
cross-entropy are one function over tiles of a few hundred tokens: logits, and the gradient of the
tile while its logits are still in the cache, so that the (tokens, vocabulary) array never exists.
All of it is a handful of large products; torch.compile gains nothing over it (measured: 0.53 s
against 0.54 s for 4,096 tokens), and takes half a minute.
"""

import torch
from torch.nn import functional as F

from devlib.devices import device, fast_bfloat16, wide
from devlib.errors import UserError
from devlib.models.language_parameters import check_tokens
from devlib.presets import LanguageModel

LAYER_NORM_EPS = 1e-5
TILE, WIDE_TILE = 512, 2**13  # tokens whose logits exist at once, on a CPU and on a GPU
SLICE, WIDE_SLICE = 2**13, 2**15  # tokens whose activations exist at once
PRECISIONS = ("float32", "bfloat16")


def fast_precision(where=None) -> str:
    """"bfloat16" where a device (default: the one that computes) multiplies it natively, else
    "float32"."""
    return "bfloat16" if fast_bfloat16(device() if where is None else where) else "float32"


def check_precision(name):
    """Raises UserError for a precision that there is not."""
    if name not in PRECISIONS:
        raise UserError(f"precision must be {' or '.join(PRECISIONS)}, not {name!r}")


def microbatch(tokens, where) -> int:
    """How many contexts of that many tokens to take a gradient of at once, so that activations
    stay in a few hundred MB on a CPU, and in a few GB on a GPU."""
    return max(1, (WIDE_SLICE if wide(where) else SLICE) // max(1, tokens))


def per_sample_loss(model: LanguageModel, precision="float32"):
    """The loss as a function of parameters: loss(params, (tokens,)) -> (B,), the cross-entropy of
    the next token averaged over the T - 1 that have one (eq. 1). `tokens` is (B, T).

    With "bfloat16" the matrix products take factors of that type; residual stream, LayerNorms,
    attention and the loss keep the parameters' own, as everything does with "float32". Raises
    UserError for tokens that the model cannot take.
    """
    check_precision(precision)

    def loss(params, batch):
        (tokens,) = batch
        if not torch.is_grad_enabled() or not any(p.requires_grad for p in params.values()):
            return token_losses(params, tokens, model, precision).mean(1)
        dtype = _factors(params, precision)
        stream, targets = _stream_and_targets(params, tokens, model, dtype)
        return LinearCrossEntropy.apply(stream, params["unembed.W_U"], params["unembed.b_U"],
                                        targets, dtype)[0]

    loss.eager = True  # devlib.gradients: not worth compiling
    return loss


def token_losses(params, tokens, model: LanguageModel, precision="float32") -> torch.Tensor:
    """-log p(s_k | s_<k) of every token but the first, (B, T - 1), without gradients, a slice of
    the contexts at a time. Errors as for `per_sample_loss`."""
    dtype, parts = _factors(params, precision), []
    with torch.no_grad():
        for contexts in tokens.split(microbatch(tokens.shape[-1], tokens.device)):
            stream, targets = _stream_and_targets(params, contexts, model, dtype)
            losses, *_ = cross_entropy(stream.flatten(0, 1), params["unembed.W_U"],
                                       params["unembed.b_U"], targets.flatten(), dtype)
            parts.append(losses.view_as(targets))
    return torch.cat(parts)


def _factors(params, precision):
    """The type of what goes into the matrix products."""
    return torch.bfloat16 if precision == "bfloat16" else params["embed.W_E"].dtype


def _stream_and_targets(params, tokens, model, dtype):
    """(B, T - 1, d), what the unembedding sees, and the token that follows each, (B, T - 1).

    The last token, which has no successor, runs along: a kernel likes 256 better than 255.
    """
    check_tokens(tokens, model)
    if tokens.shape[1] < 2:
        raise UserError("contexts of 1 token have no next token; give at least 2")
    tokens = tokens.long()
    return final_stream(params, tokens, model, dtype)[:, :-1], tokens[:, 1:]


def final_stream(params, tokens, model: LanguageModel, dtype) -> torch.Tensor:
    """The residual stream after the last LayerNorm, (B, T, d), with matrix products of factors of
    type `dtype`; the hooked model's `ln_final.hook_normalized`."""
    positions = params["pos_embed.W_pos"][:tokens.shape[1]]
    x = F.embedding(tokens, params["embed.W_E"])
    for layer in range(model.layers):
        block = f"blocks.{layer}."
        h = _layer_norm(x, params, block + "ln1")
        x = x + _attention(h, positions, params, block + "attn", dtype)
    return _layer_norm(x, params, "ln_final")


def _layer_norm(x, params, name):
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.w"], params[f"{name}.b"], LAYER_NORM_EPS)


def _attention(h, positions, params, name, dtype):
    """h (B, T, d) -> what the layer writes, (B, T, d). Positions go to queries and keys only
    (Press et al., 2021)."""
    def heads(x, letter):  # (B, H, T, d_head)
        weight, bias = params[f"{name}.W_{letter}"], params[f"{name}.b_{letter}"]
        weight = weight.transpose(1, 2).flatten(0, 1)  # (H d_head, d)
        y = F.linear(x, weight.to(dtype), bias.flatten().to(dtype))
        return y.unflatten(-1, bias.shape).transpose(1, 2).to(h.dtype)

    placed, plain = (h + positions).to(dtype), h.to(dtype)
    z = F.scaled_dot_product_attention(heads(placed, "Q"), heads(placed, "K"), heads(plain, "V"),
                                       is_causal=True)
    z = z.transpose(1, 2).flatten(2).to(dtype)  # (B, T, H d_head)
    return F.linear(z, params[f"{name}.W_O"].flatten(0, 1).T.to(dtype),
                    params[f"{name}.b_O"].to(dtype))


class LinearCrossEntropy(torch.autograd.Function):
    """(h (B, T, d), W (d, V), b (V,), targets (B, T)) -> mean cross-entropy of each context (B,),
    and the gradient of their sum with respect to h, W and b.

    The gradient is made on the way forward and only scaled on the way back, which is right where
    all contexts weigh the same, as in a mean; else it is computed again.
    """

    @staticmethod
    def forward(h, w, b, targets, dtype):
        """The losses (B,), then the gradients of their sum."""
        weight = h.new_full((targets.numel(),), 1 / targets.shape[1])
        losses, *gradients = cross_entropy(h.flatten(0, 1), w, b, targets.flatten(), dtype, weight)
        return losses.view_as(targets).mean(1), *gradients

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keeps the gradients for `backward`."""
        *tensors, ctx.dtype = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx, upstream, *_):
        """The gradients with respect to h, W and b, scaled by `upstream` (B,)."""
        h, w, b, targets, *gradients = ctx.saved_tensors
        scale = upstream[0]
        if (upstream != scale).any():
            weight = upstream.repeat_interleave(targets.shape[1]) / targets.shape[1]
            _, *gradients = cross_entropy(h.flatten(0, 1), w, b, targets.flatten(), ctx.dtype,
                                          weight)
            scale = 1
        dh, dw, db = gradients
        return scale * dh.view_as(h), scale * dw, scale * db, None, None


def cross_entropy(h, w, b, targets, dtype, weight=None):
    """Cross-entropy of softmax(h w + b) at the targets, a tile at a time.

    h (N, d), w (d, V), b (V,), targets (N,); matrix products take factors of type `dtype`.
    Returns the losses (N,) and, with a `weight` (N,), the gradient of sum(weight * losses) with
    respect to h, w and b.
    """
    losses, product = h.new_empty(len(h)), w.to(dtype)
    if weight is not None:
        dh, dw, db = torch.empty_like(h), torch.zeros_like(w), torch.zeros_like(b)
    tile = WIDE_TILE if wide(h.device) else TILE
    for begin in range(0, len(h), tile):
        rows = slice(begin, begin + tile)
        target = targets[rows, None]
        p = (h[rows].to(dtype) @ product).to(b.dtype).add_(b).log_softmax(1)
        losses[rows] = -p.gather(1, target)[:, 0]
        if weight is None:
            continue
        # softmax minus one at the target; weights go to the narrow factors, not to the logits
        p.exp_().scatter_add_(1, target, -torch.ones_like(target, dtype=p.dtype))
        scale = weight[rows]
        db.add_(scale @ p)
        p, narrow = p.to(dtype), (h[rows] * scale[:, None]).to(dtype)
        dh[rows] = (p @ product.T) * scale[:, None]
        if dtype == dw.dtype:
            dw.addmm_(narrow.T, p)
        else:
            dw.add_(narrow.T @ p)  # the sum over tiles keeps all its bits
    return (losses,) if weight is None else (losses, dh, dw, db)
