"""The feature-first model with its two savings equals the plain 16-token transformer."""

import itertools

import pytest
import torch
from torch.func import functional_call, grad

from devlib.regression.model import (
    RegressionTransformer,
    attend,
    build_model,
    layer_norm,
    linear,
    per_sample_loss,
    relu,
)
from devlib.regression.task import encode_tokens, sample_contexts
from devlib.rng import generator
from devlib.settings import RegressionModel, RegressionTask
from tests.plain_twin import PlainTransformer

MODELS = {
    "paper": RegressionModel(),
    "standard residual": RegressionModel(residual="standard"),
    "three layers": RegressionModel(layers=3, heads=2, embed_dim=16, mlp_dim=24),
    "one layer, one head": RegressionModel(layers=1, heads=1, embed_dim=8, mlp_dim=4),
}


@pytest.fixture(params=MODELS)
def pair(request):
    """(model, twin, xs, ys) in float64, weights equal and away from their initialisation."""
    return make_pair(MODELS[request.param])


def make_pair(settings, task=RegressionTask()):
    torch.manual_seed(0)
    model, twin = RegressionTransformer(settings, task), PlainTransformer(settings, task)
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    twin.load_state_dict(model.state_dict())  # same names, same shapes
    xs, ys = sample_contexts(generator(0, "tests"), 12, task)
    return model.double(), twin.double(), xs.double(), ys.double()


def near(a, b, units):
    """Equal within `units` roundings, in a's precision, of the largest entry of b."""
    assert a.shape == b.shape
    rounding = torch.finfo(a.dtype).eps * b.detach().abs().max().double()
    off = (a.detach().double() - b.detach().double()).abs().max() / rounding
    assert off <= units, f"off by {off:.3g} roundings"


def test_outputs(pair):
    model, twin, xs, ys = pair
    near(model(xs, ys), twin(xs, ys), 50)


def test_gradients(pair):
    model, twin, xs, ys = pair
    for module in (model, twin):
        (module(xs, ys) - ys).square().mean().backward()
    fast = dict(model.named_parameters())
    for name, p in twin.named_parameters():
        assert p.grad.abs().max() > 0, name
        near(fast[name].grad, p.grad, 400)


def test_gradients_through_the_loss_that_training_uses(pair):
    model, twin, xs, ys = pair
    params = {name: p.detach() for name, p in model.named_parameters()}
    loss = per_sample_loss(model)
    fast = grad(lambda p: loss(p, (xs, ys)).mean())(params)
    slow = grad(lambda p: (functional_call(twin, p, (xs, ys)) - ys).square().mean())(params)
    assert loss(params, (xs, ys)).shape == (len(xs),)
    for name, value in slow.items():
        near(fast[name], value, 400)


def test_attention_patterns(pair):
    """Rows are queries; the last token, which nothing attends to, is left out."""
    model, twin, xs, ys = pair
    patterns, (_, expected) = model.attention(xs, ys), twin.everything(xs, ys)
    tokens = 2 * xs.shape[1] - 1
    assert patterns.shape == (*expected.shape[:3], tokens, tokens)
    near(patterns, expected[..., :-1, :-1], 400)
    assert (patterns.sum(-1) - 1).abs().max() < 1e-14
    assert patterns.triu(1).eq(0).all()


def test_single_precision():
    """Training runs in float32: the model's rounding error is at most a few times the plain
    twin's own, both against float64."""
    model, twin, xs, ys = make_pair(MODELS["paper"])
    exact = twin(xs, ys)
    single = [module.float()(xs.float(), ys.float()).double() for module in (model, twin)]
    mine, plain = ((s - exact).abs().max() for s in single)
    assert mine < 4 * plain
    near(single[0].float(), exact, 50)


def test_a_batch_is_its_contexts_one_by_one():
    model, _, xs, ys = make_pair(MODELS["paper"])
    together = model(xs, ys)
    for i in range(3):
        near(model(xs[i:i + 1], ys[i:i + 1])[0], together[i], 50)


def test_other_context_lengths_and_dimensions():
    task = RegressionTask(task_dim=2, examples=3)
    model, twin, xs, ys = make_pair(RegressionModel(embed_dim=8, mlp_dim=8), task)
    assert model(xs, ys).shape == (12, 3)
    near(model(xs, ys), twin(xs, ys), 50)


def test_causality():
    """Prediction k is untouched, bit for bit, by anything after x_k; y_k itself comes after it."""
    model, _, xs, ys = make_pair(MODELS["paper"])
    before = model(xs, ys)
    for k in range(8):
        later_xs, later_ys = xs.clone(), ys.clone()
        later_xs[:, k + 1:] += 1
        later_ys[:, k:] -= 1
        after = model(later_xs, later_ys)
        assert after[:, :k + 1].equal(before[:, :k + 1])
        assert (after[:, k + 1:] != before[:, k + 1:]).all()


def test_the_last_y_has_no_influence():
    model, twin, xs, ys = make_pair(MODELS["paper"])
    other = ys.clone()
    other[:, -1] = 1e6
    assert model(xs, ys).equal(model(xs, other))
    assert twin(xs, ys).equal(twin(xs, other))  # so leaving it out is exact
    ys.requires_grad_()
    model(xs, ys).sum().backward()
    assert ys.grad[:, -1].eq(0).all() and ys.grad[:, :-1].ne(0).all()


def test_tokens_are_those_of_the_tasks_module():
    model, _, xs, ys = make_pair(MODELS["paper"])
    expected = model.embed(encode_tokens(xs, ys)) + model.position.weight.T  # (B, 2K, E)
    near(model._embed(xs, ys), expected.permute(2, 1, 0)[:, :-1], 50)


def test_doubled_residual_doubles_the_stream():
    """With every weight of the blocks at 0, L blocks multiply the stream by 2^L, or leave it."""
    for residual, factor in (("doubled", 4.0), ("standard", 1.0)):
        model, _, xs, ys = make_pair(RegressionModel(residual=residual))
        for p in model.blocks.parameters():
            p.data.zero_()
        stream = model._embed(xs, ys)
        x = stream
        for block in model.blocks:
            x, _ = block(x, every=1)
        assert x.equal(factor * stream)


def test_relu_is_exact():
    specials = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e37, -3.4e38, torch.inf])
    x = torch.cat([specials, torch.randn(10_000, generator=generator(0, "relu"))])
    assert relu(x).equal(torch.relu(x))
    x = x[1000:].requires_grad_()  # away from 0 the slopes agree as well
    assert grad(lambda x: relu(x).sum())(x).equal((x > 0).float())


def test_layer_norm_and_linear_are_torchs():
    x = torch.randn(16, 3, 5, dtype=torch.float64, generator=generator(0, "x"))
    norm = torch.nn.LayerNorm(16).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    near(layer_norm(norm, x), norm(x.permute(1, 2, 0)).permute(2, 0, 1), 50)
    dense = torch.nn.Linear(16, 7).double()
    near(linear(dense.weight, dense.bias, x), dense(x.permute(1, 2, 0)).permute(2, 0, 1), 50)


@pytest.mark.parametrize("every", [1, 2])
def test_attend_by_loops(every):
    heads, head, tokens, size = 2, 3, 5, 2
    q, k, v = torch.randn(3, heads * head, tokens, size, dtype=torch.float64,
                          generator=generator(0, "qkv"))
    mixed, attention = attend(q[:, ::every], k, v, heads, every)
    for h, b, t in itertools.product(range(heads), range(size), range(0, tokens, every)):
        rows = slice(h * head, (h + 1) * head)
        scores = torch.stack([q[rows, t, b] @ k[rows, s, b] for s in range(t + 1)])
        weights = scores.exp() / scores.exp().sum()
        near(attention[h, t // every, :t + 1, b], weights, 50)
        near(mixed[rows, t // every, b], v[rows, :t + 1, b] @ weights, 50)


def test_large_scores_do_not_overflow():
    q = torch.full((4, 3, 1), 1e4)
    _, attention = attend(q, q, q, 1, 1)
    assert attention.isfinite().all()


@pytest.mark.parametrize("heads", [3, 5, 128])
def test_heads_that_do_not_divide_the_width(heads):
    with pytest.raises(ValueError, match=f"{heads} heads do not divide a width of 64"):
        RegressionTransformer(RegressionModel(heads=heads))


def test_building_a_model_leaves_the_global_generator_alone():
    from companion.presets import SMOKE

    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    build_model(SMOKE.regression, 0)
    assert torch.randn(3).equal(expected)
