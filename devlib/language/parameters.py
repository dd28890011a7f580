"""The language model's parameters, named and shaped as TransformerLens's HookedTransformer has
them, and what can be wrong with a model's settings, its parameters or its tokens."""

import torch

from devlib.checks import check_count, check_number
from devlib.errors import UserError
from devlib.rng import generator
from devlib.settings import LanguageModel


def check_model(model: LanguageModel):
    """Raises UserError for settings that make no model."""
    for name in ("layers", "heads", "embed_dim", "head_dim", "context", "vocabulary"):
        check_count(name, getattr(model, name))
    check_number("init_sd", model.init_sd, above=0)


def parameter_shapes(model: LanguageModel) -> dict[str, tuple]:
    """Name and shape of each parameter: the table of F.1.1. Raises UserError for settings that
    make no model."""
    check_model(model)
    width, heads, head = model.embed_dim, model.heads, model.head_dim
    shapes = {"embed.W_E": (model.vocabulary, width), "pos_embed.W_pos": (model.context, width)}
    for layer in range(model.layers):
        block = f"blocks.{layer}."
        shapes |= {block + "ln1.w": (width,), block + "ln1.b": (width,)}
        shapes |= {block + f"attn.W_{name}": (heads, width, head) for name in "QKV"}
        shapes |= {block + f"attn.b_{name}": (heads, head) for name in "QKV"}
        shapes |= {block + "attn.W_O": (heads, head, width), block + "attn.b_O": (width,)}
    return shapes | {"ln_final.w": (width,), "ln_final.b": (width,),
                     "unembed.W_U": (width, model.vocabulary), "unembed.b_U": (model.vocabulary,)}


def initial_parameters(model: LanguageModel, seed) -> dict[str, torch.Tensor]:
    """The untrained parameters of a seed: weights N(0, init_sd^2), biases 0, LayerNorms the
    identity. Each weight has a stream of its own."""
    def make(name, shape):
        kind = name.split(".")[-1]
        if kind.startswith("W_"):
            gen = generator(seed, "init", name)
            return model.init_sd * torch.randn(shape, generator=gen)
        return torch.ones(shape) if kind == "w" else torch.zeros(shape)

    return {name: make(name, shape) for name, shape in parameter_shapes(model).items()}


def check_parameters(params, model: LanguageModel):
    """Raises UserError, naming the first difference, unless these are parameters of the model."""
    shapes = parameter_shapes(model)
    for name in sorted(shapes.keys() | params.keys()):
        found = tuple(params[name].shape) if name in params else "missing"
        wanted = shapes.get(name, "no parameter of it")
        if found != wanted:
            raise UserError(f"these are not parameters of a model of {model.layers} layers, "
                            f"{model.heads} heads and {model.vocabulary} tokens: {name} is "
                            f"{found}, expected {wanted}")


def check_tokens(tokens, model: LanguageModel):
    """Raises UserError unless `tokens` is (contexts, tokens) of ids that the model knows, no
    longer than its context."""
    if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        raise UserError("tokens must be whole numbers of shape (contexts, tokens), not "
                        f"{tokens.dtype} of shape {tuple(tokens.shape)}")
    if tokens.shape[1] > model.context:
        raise UserError(f"contexts of {tokens.shape[1]} tokens are longer than the model's "
                        f"{model.context}")
    if torch.compiler.is_compiling():
        return  # no code that is compiled once can depend on the ids
    low, high = tokens.aminmax()
    if low < 0 or high >= model.vocabulary:
        raise UserError(f"token id {int(low if low < 0 else high)} is out of range; the model "
                        f"knows 0 to {model.vocabulary - 1}")
