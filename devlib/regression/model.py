"""The in-context linear regression transformer (F.2.1), 51,717 parameters at the paper's size.

Activations are kept feature-first, (features, tokens, contexts): every matrix product is then one
large one and everything else runs along the contexts, which is what makes a CPU fast at so narrow
a model. Two exact savings (tests hold them against a plain 16-token twin): the last token, which
nothing attends to, is never made, and the last block computes queries, output and MLP at the
x-tokens only, the ones that are read out.
"""


import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import pad

from devlib.regression.task import squared_errors
from devlib.rng import stream_seed
from devlib.settings import RegressionModel, RegressionSettings, RegressionTask

LAYER_NORM_EPS = 1e-5
MICROBATCH = 128  # contexts whose activations stay in a core's cache, at the paper's width


class Block(nn.Module):
    """Pre-LN attention and MLP, causal; with `residual="doubled"` it returns 2x + attn + mlp, as
    the released code does, else x + attn + mlp."""

    def __init__(self, model: RegressionModel):
        super().__init__()
        width = model.embed_dim
        self.heads = model.heads
        self.stream = {"doubled": 2.0, "standard": 1.0}[model.residual]
        self.ln1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.ln2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp_in = nn.Linear(width, model.mlp_dim)
        self.mlp_out = nn.Linear(model.mlp_dim, width)

    def forward(self, x, every):
        """x (E, T, B) -> (E, T', B) at every `every`-th token, and attention (H, T', T, B)."""
        width = len(x)
        h = layer_norm(self.ln1, x)
        k, v = linear(self.qkv.weight[width:], None, h).split(width)  # one product for both
        x = x[:, ::every]
        scale = (width // self.heads) ** -0.5  # on the weights: fewer than the queries
        q = linear(self.qkv.weight[:width] * scale, None, h[:, ::every])
        mixed, attention = attend(q, k, v, self.heads, every)
        attn = linear(self.out.weight, None, mixed)
        hidden = relu(linear(self.mlp_in.weight, self.mlp_in.bias, layer_norm(self.ln2, x + attn)))
        mlp = linear(self.mlp_out.weight, self.mlp_out.bias, hidden)
        return self.stream * x + attn + mlp, attention


class RegressionTransformer(nn.Module):
    """Predicts y_k from x_k and the pairs before it (eqs. 2, 25, 26)."""

    def __init__(self, model: RegressionModel = RegressionModel(),
                 task: RegressionTask = RegressionTask()):
        super().__init__()
        if model.embed_dim % model.heads:
            raise ValueError(f"{model.heads} heads do not divide a width of {model.embed_dim}")
        features = task.task_dim + 1
        self.embed = nn.Linear(features, model.embed_dim, bias=False)
        self.position = nn.Linear(2 * task.examples, model.embed_dim, bias=False)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.unembed_ln = nn.LayerNorm(model.embed_dim, eps=LAYER_NORM_EPS)
        self.unembed = nn.Linear(model.embed_dim, features)

    def forward(self, xs, ys):
        """xs (B, K, D), ys (B, K) -> predictions (B, K)."""
        x = self._embed(xs, ys)
        for block in self.blocks[:-1]:
            x, _ = block(x, every=1)
        x, _ = self.blocks[-1](x, every=2)
        x = layer_norm(self.unembed_ln, x)
        return linear(self.unembed.weight[:1], self.unembed.bias[:1], x)[0].T

    def attention(self, xs, ys):
        """Attention of every block over the 2K - 1 tokens that matter: (L, B, H, T, T), rows are
        queries (D.2.3)."""
        x, patterns = self._embed(xs, ys), []
        for block in self.blocks:
            x, pattern = block(x, every=1)
            patterns.append(pattern.permute(3, 0, 1, 2))
        return torch.stack(patterns)

    def _embed(self, xs, ys):
        """Tokens (0, x_1), (y_1, 0), ..., (0, x_K) plus positions: (E, 2K - 1, B). Feature-first
        twin of `tasks.encode_tokens`."""
        x, y = xs.permute(2, 1, 0), ys.T[None]  # (D, K, B), (1, K, B)
        x_tokens = torch.cat([torch.zeros_like(y), x])
        y_tokens = torch.cat([y, torch.zeros_like(x)])
        tokens = torch.stack([x_tokens, y_tokens], 2).flatten(1, 2)[:, :-1]
        positions = self.position.weight[:, :-1, None]
        return linear(self.embed.weight, None, tokens) + positions


def attend(q, k, v, heads, every):
    """Causal softmax(q k) v, heads side by side in the features; q comes scaled.

    q (E, T', B) stands at every `every`-th of the T tokens of k and v (E, T, B). Products are sums
    over broadcast arrays: with 16-token contexts that beats thousands of tiny matrix products. The
    first half of the queries looks at the first half of the tokens only. Returns (E, T', B) and
    the attention (H, T', T, B).
    """
    width, queries, size = q.shape
    tokens = k.shape[1]
    q = q.view(heads, -1, queries, 1, size)
    k, v = k.view(heads, -1, 1, tokens, size), v.view(heads, -1, 1, tokens, size)
    future = torch.full((tokens, tokens), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    half, mixed, attention = (queries + 1) // 2, [], []
    for begin, end in ((0, half), (half, queries)):
        seen = (end - 1) * every + 1  # tokens
        scores = (q[:, :, begin:end] * k[:, :, :, :seen]).sum(1)  # (H, T', T, B)
        scores = scores + future[::every, :, None][begin:end, :seen]
        # exp of a difference, not a quotient: the compiler stores an exp, and would divide again
        # for every feature
        weights = (scores - scores.logsumexp(2, keepdim=True)).exp()
        mixed.append((weights[:, None] * v[:, :, :, :seen]).sum(3))
        attention.append(pad(weights, (0, 0, 0, tokens - seen)))
    return torch.cat(mixed, 2).view(width, queries, size), torch.cat(attention, 1)


def linear(weight, bias, x):
    """weight (out, in) times x (in, T, B), plus bias: (out, T, B)."""
    y = weight @ x.flatten(1)
    if bias is not None:
        y = y + bias[:, None]
    return y.view(-1, *x.shape[1:])


def layer_norm(module, x):
    """LayerNorm over the features of x (E, T, B)."""
    centred = x - x.mean(0)
    scale = (centred.square().mean(0) + LAYER_NORM_EPS).rsqrt()
    return centred * scale * module.weight[:, None, None] + module.bias[:, None, None]


def relu(x):
    """max(x, 0), exactly. Written so that its gradient needs x itself and no mask of booleans,
    which the compiler stores one byte at a time: 3 ms of a 25 ms training step."""
    return 0.5 * (x + x.abs())


def parameter_table(module: nn.Module) -> list[tuple[str, tuple, int]]:
    """(name, shape, count) of each parameter: the table of F.2.1, from the model itself."""
    return [(name, tuple(p.shape), p.numel()) for name, p in module.named_parameters()]


def build_model(settings: RegressionSettings, seed) -> RegressionTransformer:
    """The untrained model of a seed: torch's default initialisation, from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init"))  # torch's layers take no generator
        return RegressionTransformer(settings.model, settings.task)


def per_sample_loss(model):
    """The model's loss as a function of parameters: loss(params, (xs, ys)) -> (B,), the squared
    error averaged over the K positions (eq. 2). What training and SGLD both descend."""
    def loss(params, batch):
        return squared_errors(functional_call(model, params, batch), batch[1]).mean(-1)
    return loss
