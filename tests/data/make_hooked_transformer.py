"""Makes hooked_transformer.safetensors: small random weights, tokens, and what TransformerLens
2.18's HookedTransformer computes from them. Run once, in an environment of its own (that release
needs pyarrow below 21):

    python -m venv tl && tl/bin/pip install transformer-lens==2.18.0 "pyarrow<21"
    tl/bin/python tests/data/make_hooked_transformer.py
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

OUT = Path(__file__).with_name("hooked_transformer.safetensors")
ACTIVATIONS = ["hook_embed", "hook_pos_embed", "blocks.0.ln1.hook_scale",
               "blocks.0.attn.hook_pattern", "blocks.1.attn.hook_q", "blocks.1.attn.hook_v",
               "blocks.1.attn.hook_z", "blocks.0.hook_resid_post", "blocks.1.hook_attn_out",
               "ln_final.hook_normalized"]


def main():
    torch.manual_seed(0)
    model = HookedTransformer(HookedTransformerConfig(
        n_layers=2, d_model=12, n_ctx=10, d_head=5, n_heads=3, d_vocab=29, attn_only=True,
        positional_embedding_type="shortformer", normalization_type="LN", device="cpu"))
    for name, value in model.named_parameters():  # so that attention is far from even
        scale = 0.2 if name.split(".")[-1].startswith("b") else 0.4
        value.data += scale * torch.randn_like(value)
    tokens = torch.randint(29, (3, 8))
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        losses = model(tokens, return_type="loss", loss_per_token=True)
    save_file({"tokens": tokens, "logits": logits, "losses": losses.contiguous(),
               **{f"weights/{name}": value.contiguous()
                  for name, value in model.state_dict().items()},
               **{f"activations/{name}": cache[name].contiguous() for name in ACTIVATIONS}}, OUT)


if __name__ == "__main__":
    main()
