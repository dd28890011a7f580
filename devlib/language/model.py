"""The language model's loss, fast: what training and SGLD descend. No hooks, no TransformerLens:
the tests' plain twin, on its hooks, computes the same numbers with every activation in reach.

Attention is torch's fused kernel, which has no second derivative on a CPU. The unembedding and the
cross-entropy are one function over tiles of a few hundred tokens: logits, and the gradient of the
tile while its logits are still in the cache, so that the (tokens, vocabulary) array never exists.
All of it is a handful of large products; on a CPU torch.compile gains nothing over it (measured:
0.53 s against 0.54 s for 4,096 tokens), and takes half a minute. On a GPU the many kernels of a
small batch wait for one another to be started, and compiled training replays them instead
(devlib.fast), with a cross-entropy that the compiler fuses.
"""

import torch
from torch.nn import functional as F

from devlib.devices import device, fast_bfloat16, is_gpu
from devlib.errors import UserError
from devlib.fast import Uncompiled, linear, matmul
from devlib.language.parameters import check_tokens
from devlib.settings import LanguageModel

LAYER_NORM_EPS = 1e-5
TILE, GPU_TILE = 512, 2**13  # tokens whose logits exist at once, on a CPU and on a GPU
SLICE, GPU_SLICE = 2**13, 2**15  # tokens whose activations exist at once
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
    return max(1, (GPU_SLICE if is_gpu(where) else SLICE) // max(1, tokens))


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
        _check_contexts(tokens, model)
        tokens = tokens.long()
        # the last token, which has no successor, runs along: a kernel likes 256 better than 255
        stream, targets = final_stream(params, tokens, model, dtype)[:, :-1], tokens[:, 1:]
        unembedding = params["unembed.W_U"], params["unembed.b_U"]
        if torch.compiler.is_compiling():
            return plain_cross_entropy(stream, *unembedding, targets, dtype)
        return LinearCrossEntropy.apply(stream, *unembedding, targets, dtype)[0]

    return loss if is_gpu(device()) else Uncompiled(loss)


def token_losses(params, tokens, model: LanguageModel, precision="float32") -> torch.Tensor:
    """-log p(s_k | s_<k) of every token but the first, (B, T - 1), without gradients, a slice of
    the contexts at a time. Errors as for `per_sample_loss`."""
    return losses_and_stream(params, tokens, model, tokens.new_empty(0, 0, dtype=torch.long),
                             precision)[0]


def losses_and_stream(params, tokens, model: LanguageModel, places, precision="float32"):
    """The `token_losses` and, of the same pass, the `stream_at` places."""
    _check_contexts(tokens, model)
    dtype, losses, streams = _factors(params, precision), [], []
    for contexts, at, stream in _slices(params, tokens, model, places, dtype):
        targets = contexts[:, 1:]
        found, *_ = cross_entropy(stream[:, :-1].flatten(0, 1), params["unembed.W_U"].detach(),
                                  params["unembed.b_U"].detach(), targets.flatten(), dtype)
        losses.append(found.view_as(targets))
        streams.append(_take(stream, at))
    return torch.cat(losses), torch.cat(streams)


def stream_at(params, tokens, model: LanguageModel, places) -> torch.Tensor:
    """The `final_stream` after `places` (M, P), counted from 0, of the first M contexts, without
    gradients: (M, P, d). Raises UserError for tokens that the model cannot take."""
    check_tokens(tokens, model)
    dtype = _factors(params, "float32")
    return torch.cat([_take(stream, at) for _, at, stream in
                      _slices(params, tokens[:len(places)], model, places, dtype)])


def _slices(params, tokens, model, places, dtype):
    """Slices of contexts and places, few enough for `microbatch`, with the stream."""
    tokens, at_once = tokens.long(), microbatch(tokens.shape[1], tokens.device)
    for begin in range(0, len(tokens), at_once):
        rows = slice(begin, begin + at_once)
        with torch.no_grad():
            stream = final_stream(params, tokens[rows], model, dtype)
        yield tokens[rows], places[rows], stream


def _take(stream, at):
    return stream[torch.arange(len(at))[:, None], at]


def _factors(params, precision):
    """The type of what goes into the matrix products."""
    return torch.bfloat16 if precision == "bfloat16" else params["embed.W_E"].dtype


def _check_contexts(tokens, model):
    """Raises UserError for tokens that the model cannot take, or without a next one."""
    check_tokens(tokens, model)
    if tokens.shape[1] < 2:
        raise UserError("contexts of 1 token have no next token; give at least 2")


def final_stream(params, tokens, model: LanguageModel, dtype) -> torch.Tensor:
    """The residual stream after the last LayerNorm, (B, T, d), with matrix products of factors of
    type `dtype`; TransformerLens's `ln_final.hook_normalized`."""
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
    placed, plain = (h + positions).to(dtype), h.to(dtype)
    q, k, v = (_heads(x, params, name, letter).to(h.dtype)
               for x, letter in ((placed, "Q"), (placed, "K"), (plain, "V")))
    z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    z = z.transpose(1, 2).flatten(2).to(dtype)  # (B, T, H d_head)
    return linear(z, params[f"{name}.W_O"].flatten(0, 1).T.to(dtype),
                  params[f"{name}.b_O"].to(dtype))


def _heads(x, params, name, letter):
    """The queries, keys or values ("Q", "K", "V") of x (B, T, d), (B, H, T, d_head)."""
    weight, bias = params[f"{name}.W_{letter}"], params[f"{name}.b_{letter}"]
    weight = weight.transpose(1, 2).flatten(0, 1)  # (H d_head, d)
    y = linear(x, weight.to(x.dtype), bias.flatten().to(x.dtype))
    return y.unflatten(-1, bias.shape).transpose(1, 2)


def attention_rows(params, tokens, queries, model: LanguageModel) -> torch.Tensor:
    """What token queries[i] of sequence i attends to, (L, H, B, T), without gradients: one row of
    each pattern, and no more of the last layer than that needs. tokens (B, T), queries (B,)
    counted from 0. Raises UserError for tokens that the model cannot take."""
    check_tokens(tokens, model)
    positions = params["pos_embed.W_pos"][:tokens.shape[1]]
    sequence, token = torch.arange(len(tokens)), torch.arange(tokens.shape[1]).to(tokens.device)
    future = token > queries[:, None]
    rows = []
    with torch.no_grad():
        x = F.embedding(tokens.long(), params["embed.W_E"])
        for layer in range(model.layers):
            block = f"blocks.{layer}."
            h = _layer_norm(x, params, block + "ln1")
            placed = h + positions
            q = _heads(placed[sequence, queries][:, None], params, block + "attn", "Q")
            k = _heads(placed, params, block + "attn", "K")
            scores = (q @ k.mT)[:, :, 0] / k.shape[-1]**0.5  # (B, H, T)
            pattern = scores.masked_fill(future[:, None], -torch.inf).softmax(-1)
            rows.append(pattern.transpose(0, 1))
            if layer + 1 < model.layers:
                x = x + _attention(h, positions, params, block + "attn", x.dtype)
    return torch.stack(rows)


class LinearCrossEntropy(torch.autograd.Function):
    """(h (B, T, d), W (d, V), b (V,), targets (B, T)) -> mean cross-entropy of each context (B,),
    and the gradient of their sum with respect to h, W and b.

    The gradient is made on the way forward and only scaled on the way back, which is right where
    all contexts weigh the same, as in a mean; else it is computed again. It has no second
    derivative.
    """

    instead = ("take the logits of a model in plain torch operations by torch.func."
               "functional_call, and torch's cross_entropy")

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


def plain_cross_entropy(h, w, b, targets, dtype):
    """What `LinearCrossEntropy` gives first, in a form for torch.compile."""
    logits = (h.to(dtype) @ w.to(dtype)).to(b.dtype) + b
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets).mean(1)


def cross_entropy(h, w, b, targets, dtype, weight=None):
    """Cross-entropy of softmax(h w + b) at the targets, a tile at a time.

    h (N, d), w (d, V), b (V,), targets (N,); matrix products take factors of type `dtype`.
    Returns the losses (N,) and, with a `weight` (N,), the gradient of sum(weight * losses) with
    respect to h, w and b.
    """
    losses, product = h.new_empty(len(h)), w.to(dtype)
    if weight is not None:
        dh, dw, db = torch.empty_like(h), torch.zeros_like(w), torch.zeros_like(b)
    tile = GPU_TILE if is_gpu(h.device) else TILE
    for begin in range(0, len(h), tile):
        rows = slice(begin, begin + tile)
        target = targets[rows, None]
        if dtype == b.dtype:
            logits = matmul(h[rows], product, b)
        else:
            logits = matmul(h[rows].to(dtype), product).to(b.dtype).add_(b)
        p = logits.softmax(1)
        losses[rows] = _minus_log(p, logits, target)
        if weight is None:
            continue
        # softmax minus one at the target; weights go to the narrow factors, not to the logits
        p.scatter_add_(1, target, -torch.ones_like(target, dtype=p.dtype))
        scale = weight[rows]
        db.add_(scale @ p)
        p, narrow = p.to(dtype), (h[rows] * scale[:, None]).to(dtype)
        dh[rows] = matmul(p, product.T) * scale[:, None]
        dw.add_(matmul(narrow.T, p))  # the sum over tiles keeps all its bits
    return (losses,) if weight is None else (losses, dh, dw, db)


def _minus_log(p, logits, target):
    """-log p at the target, (N,): of p = softmax(logits), which is there anyway, except where it
    underflows."""
    chosen = p.gather(1, target)[:, 0]
    losses = -chosen.log()
    lost = chosen < torch.finfo(p.dtype).tiny
    if lost.any():
        losses[lost] = -logits[lost].log_softmax(1).gather(1, target[lost])[:, 0]
    return losses
