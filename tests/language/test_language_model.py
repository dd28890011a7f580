"""The language model: TransformerLens's numbers, the fast loss against the hooked model and plain
autograd, and the authors' files."""

import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call, grad, grad_and_value
from torch.nn import functional as F

from companion import presets, released
from companion.hooked import LanguageTransformer
from devlib.errors import CheckpointError, UserError
from devlib.language import model as language_loss
from devlib.language.model import (
    LinearCrossEntropy,
    cross_entropy,
    fast_precision,
    final_stream,
    per_sample_loss,
    token_losses,
)
from devlib.language.parameters import check_tokens, initial_parameters, parameter_shapes
from devlib.regression.model import parameter_table
from devlib.rng import generator
from devlib.sampling import SGLD, sample_chains
from devlib.settings import LanguageModel, replace

SMALL = LanguageModel(heads=3, embed_dim=12, head_dim=5, context=10, vocabulary=29)
STORED = load_file(Path(__file__).parents[1] / "data" / "hooked_transformer.safetensors")


def stored(prefix):
    """The stored tensors whose names begin with it, without it."""
    return {name.removeprefix(prefix): value for name, value in STORED.items()
            if name.startswith(prefix)}


def weights():
    return {name: value for name, value in stored("weights/").items()
            if name.split(".")[-1] not in released.BUFFERS}


def doubles(params):
    return {name: value.double() for name, value in params.items()}


def plain_loss(params, tokens, model=SMALL):
    """The loss as eq. 1 says it: logits of the hooked model, torch's cross-entropy, an average."""
    logits = functional_call(LanguageTransformer(model, params), params, (tokens,))
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return losses.mean(1)


def near(found, expected, roundings=100):
    """Equal within so many roundings of the largest entry, in `found`'s precision."""
    found, expected = found.detach(), expected.detach()
    scale = float(expected.abs().max()) * torch.finfo(found.dtype).eps
    assert found.shape == expected.shape
    off = (found.double() - expected.double()).abs().max() / scale
    assert off <= roundings, f"off by {off:.3g} roundings"


# --------------------------------------------------------------- TransformerLens's own numbers


def test_logits_are_hooked_transformers():
    logits = LanguageTransformer(SMALL, weights())(STORED["tokens"])
    assert (logits - STORED["logits"]).abs().max() < 1e-5
    assert STORED["logits"].std() > 1  # the bar is small beside them


@pytest.mark.parametrize("name", stored("activations/"))
def test_activations_are_hooked_transformers(name):
    found = LanguageTransformer(SMALL, weights()).activations(STORED["tokens"], name)
    assert list(found) == [name]
    expected = STORED[f"activations/{name}"]
    assert found[name].shape == expected.shape
    assert (found[name] - expected).abs().max() < 1e-5


def test_losses_are_hooked_transformers():
    found = token_losses(weights(), STORED["tokens"], SMALL)
    assert (found - STORED["losses"]).abs().max() < 1e-5


def test_run_with_cache_and_with_hooks():
    model = LanguageTransformer(SMALL, weights())
    logits, cache = model.run_with_cache(STORED["tokens"])
    assert logits.equal(model(STORED["tokens"])) and set(cache) == set(model.hook_dict)
    assert cache["blocks.1.hook_resid_pre"].equal(cache["blocks.0.hook_resid_post"])

    def no_attention(value, hook):
        return torch.zeros_like(value)

    names = [f"blocks.{layer}.hook_attn_out" for layer in range(SMALL.layers)]
    changed = model.run_with_hooks(STORED["tokens"],
                                   fwd_hooks=[(name, no_attention) for name in names])
    zero = weights() | {name: torch.zeros_like(value) for name, value in weights().items()
                        if name.split(".")[-1] in ("W_O", "b_O")}
    near(changed, LanguageTransformer(SMALL, zero)(STORED["tokens"]))


def test_a_state_dict_goes_either_way():
    """Names and shapes are HookedTransformer's, which has two constant buffers besides."""
    model = LanguageTransformer(SMALL, weights())
    state = model.state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in weights().items()}
    assert all(state[name].equal(value) for name, value in weights().items())
    model.load_state_dict(initial_parameters(SMALL, 0))


# ---------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("layers, total", [(1, 3_091_336), (2, 3_355_016)])
def test_parameter_table_of_f1(layers, total):
    model = replace(presets.PAPER.language.model, layers=layers)
    table = parameter_table(LanguageTransformer(model, initial_parameters(model, 0)))
    assert {name: shape for name, shape, _ in table} == parameter_shapes(model)
    assert sum(count for *_, count in table) == total
    groups = {}
    for name, shape, count in table:
        assert count == math.prod(shape)
        group = ".".join(name.split(".")[:2 if name.startswith("blocks") else 1])
        groups[group] = groups.get(group, 0) + count
    blocks = {f"blocks.{layer}": 263_680 for layer in range(layers)}
    assert groups == {"embed": 1_280_000, "pos_embed": 262_144, "ln_final": 512,
                      "unembed": 1_285_000} | blocks


def test_initialisation():
    model = presets.PAPER.language.model
    one, again, other = (initial_parameters(model, seed) for seed in (1, 1, 2))
    assert all(one[name].equal(again[name]) for name in one)
    for name, value in one.items():
        kind = name.split(".")[-1]
        if kind.startswith("W_"):
            assert not value.equal(other[name])
            error = 4 * model.init_sd / (2 * value.numel()) ** 0.5
            assert abs(value.std() - model.init_sd) < error and abs(value.mean()) < 2 * error
        else:
            assert value.eq(1 if kind == "w" else 0).all()
    assert not one["blocks.0.attn.W_Q"].equal(one["blocks.0.attn.W_K"])


def test_initialisation_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    initial_parameters(SMALL, 0)
    assert torch.randn(3).equal(expected)


# ------------------------------------------------------------------------- what the model is


def test_causality():
    """Logits at a token are untouched, bit for bit, by later tokens."""
    model, tokens = LanguageTransformer(SMALL, weights()), STORED["tokens"]
    before = model(tokens)
    for place in range(tokens.shape[1] - 1):
        later = tokens.clone()
        later[:, place + 1:] = (later[:, place + 1:] + 1) % SMALL.vocabulary
        after = model(later)
        assert after[:, :place + 1].equal(before[:, :place + 1])
        assert (after[:, place + 1:] != before[:, place + 1:]).any(-1).all()


def test_positions_reach_queries_and_keys_only():
    moved = weights() | {"pos_embed.W_pos": weights()["pos_embed.W_pos"] + 1.0}
    names = ["blocks.0.hook_resid_pre", *(f"blocks.0.attn.hook_{kind}" for kind in "qkv")]
    before, after = (LanguageTransformer(SMALL, params).activations(STORED["tokens"], *names)
                     for params in (weights(), moved))
    same = {name.split("_")[-1] for name in names if before[name].equal(after[name])}
    assert same == {"pre", "v"}


def test_without_positions_one_layer_sees_no_order():
    """The last token then attends to a set. (A second layer would see which token saw which.)"""
    one, tokens = replace(SMALL, layers=1), STORED["tokens"]
    params = {name: value for name, value in weights().items() if "blocks.1" not in name}
    nowhere = {"pos_embed.W_pos": torch.zeros(SMALL.context, SMALL.embed_dim)}
    shuffled = tokens[:, [2, 0, 4, 1, 3, 6, 5, 7]]
    before, after = (LanguageTransformer(one, params | nowhere)(order)[:, -1]
                     for order in (tokens, shuffled))
    near(after, before)
    assert not LanguageTransformer(one, params)(shuffled)[:, -1].allclose(before, atol=0.1)


def test_no_logits_where_none_are_wanted():
    assert LanguageTransformer(SMALL, weights())(STORED["tokens"], return_type=None) is None


# --------------------------------------------------------------------------- the fast path


@pytest.mark.parametrize("tile", [1, 5, 512])
def test_fast_loss_and_gradient_are_the_plain_ones(monkeypatch, tile):
    monkeypatch.setattr(language_loss, "TILE", tile)
    params, tokens, loss = doubles(weights()), STORED["tokens"], per_sample_loss(SMALL)
    expected, value = grad_and_value(lambda p: plain_loss(p, tokens).mean())(params)
    found, mean = grad_and_value(lambda p: loss(p, (tokens,)).mean())(params)
    near(mean, value)
    assert found.keys() == params.keys()
    for name in params:
        assert expected[name].abs().max() > 0, name
        if name.endswith("b_K"):  # moves all scores of a query alike: 0 up to rounding
            assert found[name].abs().max() < 1e-14
        else:
            near(found[name], expected[name], 1_000)


def test_single_precision_is_as_good_as_plain_single_precision():
    tokens, loss = STORED["tokens"], per_sample_loss(SMALL)
    exact = plain_loss(doubles(weights()), tokens)
    off = [float((f - exact).abs().max())
           for f in (loss(weights(), (tokens,)), plain_loss(weights(), tokens))]
    assert off[0] < 4 * off[1] + 1e-6


def test_contexts_may_weigh_differently():
    """Then the gradient of the way forward cannot be used."""
    params, tokens, loss = doubles(weights()), STORED["tokens"], per_sample_loss(SMALL)
    weigh = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    expected = grad(lambda p: (weigh * plain_loss(p, tokens)).sum())(params)
    found = grad(lambda p: (weigh * loss(p, (tokens,))).sum())(params)
    near(found["unembed.W_U"], expected["unembed.W_U"], 1_000)
    near(found["embed.W_E"], expected["embed.W_E"], 1_000)


def test_plain_autograd_gives_the_same():
    tokens, loss = STORED["tokens"], per_sample_loss(SMALL)
    leaves = {name: value.requires_grad_() for name, value in doubles(weights()).items()}
    loss(leaves, (tokens,)).mean().backward()
    expected = grad(lambda p: loss(p, (tokens,)).mean())(
        {name: value.detach() for name, value in leaves.items()})
    assert all(leaves[name].grad.equal(expected[name]) for name in leaves)


def test_without_gradients_in_slices_the_losses_are_the_same(monkeypatch):
    monkeypatch.setattr(language_loss, "SLICE", 1)
    tokens, loss = STORED["tokens"], per_sample_loss(SMALL)
    params = {name: value.requires_grad_() for name, value in doubles(weights()).items()}
    wanted = loss(params, (tokens,))
    with torch.no_grad():
        found = loss(params, (tokens,))
    assert wanted.requires_grad and not found.requires_grad
    near(found, wanted.detach())
    near(token_losses(params, tokens, SMALL).mean(1), found)


def test_the_stream_is_the_hooked_models():
    params, tokens = doubles(weights()), STORED["tokens"]
    name = "ln_final.hook_normalized"
    near(final_stream(params, tokens, SMALL, torch.float64),
         LanguageTransformer(SMALL, params).activations(tokens, name)[name], 1_000)


def test_the_hooked_model_has_second_derivatives_and_the_fast_one_refuses():
    params, tokens = doubles(weights()), STORED["tokens"]
    loss = per_sample_loss(SMALL)

    def slope(loss):
        def along(t):
            moved = params | {"blocks.0.attn.W_Q": params["blocks.0.attn.W_Q"] * (1 + t)}
            return loss(moved).mean()
        return grad(along)

    zero, step = torch.tensor(0.0, dtype=torch.float64), 1e-4
    second = grad(slope(lambda p: plain_loss(p, tokens)))(zero)
    beside = [slope(lambda p: loss(p, (tokens,)))(zero + sign * step) for sign in (1, -1)]
    # a central difference is off by step^2 times a third of the fourth derivative
    assert second == pytest.approx(float(beside[0] - beside[1]) / (2 * step), rel=1e-5)
    with pytest.raises(RuntimeError):
        grad(slope(lambda p: loss(p, (tokens,))))(zero)


def test_loss_is_gradcheckable():
    gen = generator(0, "tests")
    h, w, b = (torch.randn(shape, generator=gen, dtype=torch.float64).requires_grad_()
               for shape in ((2, 3, 4), (4, 6), (6,)))
    targets = torch.randint(6, (2, 3), generator=gen)
    torch.autograd.gradcheck(
        lambda *arguments: LinearCrossEntropy.apply(*arguments, targets, torch.float64)[0],
        (h, w, b))


def test_large_logits_do_not_overflow():
    h, w = torch.full((2, 4), 1e4), torch.eye(4)[:, :3]
    losses, *gradients = cross_entropy(h * torch.tensor([1.0, -1.0, 0, 0]), w, torch.zeros(3),
                                       torch.tensor([0, 1]), torch.float32, torch.ones(2))
    assert losses.tolist() == [0.0, 2e4]
    assert all(part.isfinite().all() for part in gradients)


def test_bfloat16_is_near_and_keeps_the_types():
    """Its factors have 8 bits, so products are off by parts in 2^8."""
    tokens = STORED["tokens"]
    loss = per_sample_loss(SMALL, "bfloat16")
    exact, value = grad_and_value(lambda p: per_sample_loss(SMALL)(p, (tokens,)).mean())(weights())
    found, mean = grad_and_value(lambda p: loss(p, (tokens,)).mean())(weights())
    assert mean.dtype == torch.float32 and abs(mean / value - 1) < 0.02
    whole = torch.cat([exact[name].flatten() for name in exact])
    off = torch.cat([(found[name] - exact[name]).flatten() for name in exact])
    assert all(part.dtype == torch.float32 for part in found.values())
    assert 1e-4 < off.norm() / whole.norm() < 0.05


def test_precision_of_this_processor(monkeypatch):
    for capabilities, expected in (({"amx_bf16": True}, "bfloat16"), ({}, "float32"),
                                   ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
                                   ({"avx512_f": True, "avx512_bf16": False}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found,
                            raising=False)
        assert fast_precision() == expected


def test_logits_of_all_tokens_never_exist():
    """The largest array in forward and backward is a tile's, whatever the number of tokens."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple | list) else [result]:
                if isinstance(value, torch.Tensor):
                    self.elements = max(self.elements, value.numel())
            return result

    model = replace(SMALL, vocabulary=2_000, context=128)
    tokens = torch.randint(2_000, (16, 128), generator=generator(0, "tokens"))
    params = {name: value.requires_grad_() for name, value in initial_parameters(model, 0).items()}
    with Largest() as seen:
        per_sample_loss(model)(params, (tokens,)).mean().backward()
    assert seen.elements == language_loss.TILE * 2_000 < tokens.numel() * 2_000 / 3


# -------------------------------------------------------------------------------- the sampler


def test_chains_run_on_it():
    """As on any loss: the draws are those of the plain loss, and asking for a compiled step
    changes nothing."""
    tokens = torch.randint(SMALL.vocabulary, (12, 8), generator=generator(0, "tokens"))
    sampler = SGLD(1e-4, 10.0, 50.0)
    settings = {"chains": 2, "draws": 5, "burn_in": 0, "batch_size": 4, "vectorised": False}
    fast = sample_chains(per_sample_loss(SMALL), doubles(weights()), (tokens,), sampler,
                         compile=True, microbatch=3, **settings)
    plain = sample_chains(lambda p, batch: plain_loss(p, batch[0]), doubles(weights()), (tokens,),
                          sampler, compile=False, **settings)
    assert fast.losses.std() > 1e-3
    assert abs(fast.losses - plain.losses).max() < 1e-10
    assert fast.init_loss == pytest.approx(plain.init_loss, rel=1e-12)


def test_narrow_integers_are_tokens_too():
    """A set of a million contexts takes a quarter of the memory."""
    loss, tokens = per_sample_loss(SMALL), STORED["tokens"]
    assert loss(weights(), (tokens.short(),)).equal(loss(weights(), (tokens,)))
    model = LanguageTransformer(SMALL, weights())
    assert model(tokens.short()).equal(model(tokens))


# -------------------------------------------------------------------------------- bad input


BAD_TOKENS = {
    "too large": (torch.tensor([[1, 29]]), "token id 29 is out of range; the model knows 0 to 28"),
    "negative": (torch.tensor([[-1, 3]]), "token id -1 is out of range"),
    "too long": (torch.zeros(1, 11).long(), "contexts of 11 tokens are longer than the model's 10"),
    "one context": (torch.zeros(5).long(), r"tokens must be whole numbers of shape"),
    "not whole": (torch.zeros(2, 5), r"tokens must be whole numbers of shape"),
    "none": (torch.zeros(0, 5).long(), r"tokens must be whole numbers of shape"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_bad_tokens(case):
    tokens, message = BAD_TOKENS[case]
    model, loss = LanguageTransformer(SMALL, weights()), per_sample_loss(SMALL)
    for use in (lambda: check_tokens(tokens, SMALL), lambda: model(tokens),
                lambda: loss(weights(), (tokens,)),
                lambda: grad(lambda p: loss(p, (tokens,)).mean())(weights())):
        with pytest.raises(UserError, match=message) as error:
            use()
        assert "\n" not in str(error.value)


def test_a_context_of_one_token_has_no_loss():
    with pytest.raises(UserError, match="contexts of 1 token have no next token"):
        per_sample_loss(SMALL)(weights(), (torch.zeros(2, 1).long(),))


@pytest.mark.parametrize("change", [
    {"layers": 0}, {"heads": 0}, {"head_dim": -1}, {"embed_dim": 1.5}, {"vocabulary": 0},
    {"context": None}, {"init_sd": 0.0}])
def test_settings_that_make_no_model(change):
    with pytest.raises(UserError, match=next(iter(change))):
        initial_parameters(replace(SMALL, **change), 0)


@pytest.mark.parametrize("change, name", [
    ({"layers": 3}, "blocks.2.attn.W_K"), ({"layers": 1}, "blocks.1.attn.W_K"),
    ({"heads": 2}, "blocks.0.attn.W_K"), ({"context": 11}, "pos_embed.W_pos"),
    ({"vocabulary": 30}, "embed.W_E")])
def test_parameters_of_another_architecture(change, name):
    with pytest.raises(UserError, match="these are not parameters of a model of") as error:
        LanguageTransformer(replace(SMALL, **change), weights())
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["blocks.2.attn.hook_pattern", "blocks.0.attn.hook_patern", ""])
def test_a_layer_or_activation_that_does_not_exist(name):
    with pytest.raises(UserError, match=f"no activation '{name}' in this model of 2 layers"):
        LanguageTransformer(SMALL, weights()).activations(STORED["tokens"], name)


def test_precisions_there_are():
    with pytest.raises(UserError, match="precision must be float32 or bfloat16, not 'float16'"):
        per_sample_loss(SMALL, "float16")


# ------------------------------------------------------------------- the authors' own files


def write(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", ["alone", "with optimizer", "half precision", "no buffers"])
def test_a_released_file(tmp_path, layout):
    state = OrderedDict(stored("weights/"))
    content = {"alone": state, "no buffers": OrderedDict(weights()),
               "half precision": OrderedDict((name, value.half()) for name, value in state.items()),
               "with optimizer": {"model": state, "optimizer": {"state": {}, "param_groups": []},
                                  "rng_state": torch.get_rng_state()}}[layout]
    params = released.load_released(write(content, tmp_path / "checkpoint_0000100.pth"), SMALL)
    assert params.keys() == parameter_shapes(SMALL).keys()
    logits = LanguageTransformer(SMALL, params)(STORED["tokens"])
    assert (logits - STORED["logits"]).abs().max() < (0.1 if layout == "half precision" else 1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_released_file_of_the_papers_size_says_its_layers(tmp_path, layers):
    params = initial_parameters(replace(LanguageModel(), layers=layers), 0)
    found = released.load_released(write(params, tmp_path / "checkpoint_0000000.pth"))
    assert found.keys() == params.keys()


def test_a_released_file_of_another_architecture(tmp_path):
    path = write(stored("weights/"), tmp_path / "checkpoint.pth")
    for model in (None, replace(SMALL, layers=1), replace(SMALL, heads=5)):
        with pytest.raises(CheckpointError, match="not parameters of a model") as error:
            released.load_released(path, model)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


class Payload:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return Path.mkdir, (Path(self.trace),)


def test_a_strangers_file_runs_no_code(tmp_path):
    trace = tmp_path / "trace"
    path = write({"embed.W_E": Payload(trace)}, tmp_path / "checkpoint.pth")
    with pytest.raises(CheckpointError, match="without running code") as error:
        released.load_released(path)
    assert str(path) in str(error.value) and not trace.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert trace.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02}q\x00."])
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    for path in (tmp_path / "x.pth", tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)) as error:
            released.load_released(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"a": {"b": torch.zeros(1)}}])
def test_a_file_without_a_state_dict(tmp_path, content):
    with pytest.raises(CheckpointError, match="holds no state dict"):
        released.load_released(write(content, tmp_path / "x.pth"))


def test_downloading_asks_the_hub_for_the_file(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download",
                        lambda *arguments: asked.append(arguments) or str(tmp_path))
    assert released.download(2, 900) == tmp_path
    assert asked == [("georgeyw/L2W256-3m-rr", "checkpoints/checkpoint_0000900.pth")]
    with pytest.raises(UserError, match="models of 1 and 2 layers are released, not of 3"):
        released.download(3, 900)


def test_a_hub_out_of_reach(monkeypatch):
    import huggingface_hub

    def unreachable(*arguments):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nretrying")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(CheckpointError, match=r"cannot fetch .* out of reach") as error:
        released.download(1, 0)
    assert "\n" not in str(error.value)
