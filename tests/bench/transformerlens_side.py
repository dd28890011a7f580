"""TransformerLens 2.18's side of the benches. Run by peer.py in an environment of its own, with the
project's root on PYTHONPATH; of devlib it takes presets and random numbers, which need torch alone.
"""

import functools
import importlib.metadata

import torch
from safetensors.torch import load_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

from tests.bench.language_work import SETTINGS, batch
from tests.bench.measure import cpu, peak_memory
from tests.bench.serving import serve


def versions():
    return {name: importlib.metadata.version(name) for name in ("transformer-lens", "torch")}


def train(weights, updates):
    """CPU seconds of so many more updates of the model that began from `weights`, the losses
    before each, and the most memory in MB that this process has had resident."""
    trainer = _trainer(weights)
    losses, seconds = cpu(lambda: [trainer.update() for _ in range(updates)])
    return {"cpu": seconds, "losses": losses, "peak MB": peak_memory()}


class Trainer:
    """HookedTransformer and AdamW as their manuals show them: eager, float32."""

    def __init__(self, weights):
        model, training = SETTINGS.model, SETTINGS.training
        self.model = HookedTransformer(HookedTransformerConfig(
            n_layers=model.layers, n_heads=model.heads, d_model=model.embed_dim,
            d_head=model.head_dim, n_ctx=model.context, d_vocab=model.vocabulary, attn_only=True,
            positional_embedding_type="shortformer", normalization_type="LN", device="cpu"))
        self.model.load_state_dict(load_file(weights), strict=False)  # its masks are no weights
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=training.lr, betas=(training.beta1, training.beta2),
            weight_decay=training.weight_decay)
        self.step = 0

    def update(self):
        self.optimizer.zero_grad()
        loss = self.model(batch(self.step), return_type="loss")
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())


@functools.lru_cache(maxsize=1)
def _trainer(weights):
    return Trainer(weights)


if __name__ == "__main__":
    serve(versions, train)
