"""The regression transformer as a reader of F.2.1 would write it: all 16 tokens, every block in
full, torch's own layers, (contexts, tokens, features). The slow twin of devlib.regression.model,
for tests and for the speed benchmark."""

import torch
from torch import nn
from torch.nn import functional as F

from devlib.settings import RegressionModel, RegressionTask


class PlainBlock(nn.Module):
    def __init__(self, model):
        super().__init__()
        width = model.embed_dim
        self.heads, self.doubled = model.heads, model.residual == "doubled"
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, model.mlp_dim)
        self.mlp_out = nn.Linear(model.mlp_dim, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.qkv(self.ln1(x)).chunk(3, -1))  # (B, H, T, E / H)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        tokens = x.shape[1]
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        attention = scores.masked_fill(future, -torch.inf).softmax(-1)
        block = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        block = block + self.mlp_out(F.relu(self.mlp_in(self.ln2(block))))
        return (x + block if self.doubled else block), attention


class PlainTransformer(nn.Module):
    """Same parameter names and shapes as RegressionTransformer, so a state dict fits both."""

    def __init__(self, model: RegressionModel, task: RegressionTask):
        super().__init__()
        features, width = task.task_dim + 1, model.embed_dim
        self.embed = nn.Linear(features, width, bias=False)
        self.position = nn.Linear(2 * task.examples, width, bias=False)
        self.blocks = nn.ModuleList(PlainBlock(model) for _ in range(model.layers))
        self.unembed_ln = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, features)

    def everything(self, xs, ys):
        """The output at every token (B, 2K, D + 1), and the attention (L, B, H, 2K, 2K)."""
        size, examples, dim = xs.shape
        x_tokens = torch.cat([torch.zeros(size, examples, 1, dtype=xs.dtype), xs], 2)
        y_tokens = torch.cat([ys[..., None], torch.zeros(size, examples, dim, dtype=xs.dtype)], 2)
        tokens = torch.stack([x_tokens, y_tokens], 2).reshape(size, 2 * examples, dim + 1)
        x, patterns = self.embed(tokens) + self.position.weight.T, []
        for block in self.blocks:
            x, attention = block(x)
            patterns.append(attention)
        return self.unembed(self.unembed_ln(x)), torch.stack(patterns)

    def forward(self, xs, ys):
        return self.everything(xs, ys)[0][:, ::2, 0]
