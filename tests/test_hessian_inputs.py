"""The Hessian of any loss: hand-written backwards, and kernels without a second derivative."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from companion.hooked import LanguageTransformer
from devlib.errors import UserError
from devlib.hessian import Hessian
from devlib.language.model import per_sample_loss
from devlib.language.parameters import initial_parameters
from devlib.sampling.model import Layout
from devlib.settings import LanguageModel

GRAPHS = pytest.mark.parametrize("keep_graph", [False, True])
SMALL = LanguageModel(layers=1, heads=1, embed_dim=4, head_dim=4, context=6, vocabulary=8)


def dense(operator):
    return operator @ np.eye(operator.shape[0])


def quotient(loss, params, data):
    """The Hessian by central differences of gradients, each by one plain backward."""
    layout = Layout.of(params)
    w, step = layout.flatten(params), 1e-5

    def slope(w):
        w = w.clone().requires_grad_()
        return torch.autograd.grad(loss(layout.unflatten(w), data).mean(), w)[0]

    return np.stack([((slope(w + step * unit) - slope(w - step * unit)) / (2 * step)).numpy()
                     for unit in torch.eye(len(w), dtype=w.dtype)])


# ----------------------------------------------------------------- hand-written backwards (case 1)


def language(dtype, free):
    """The language model at W_U = 0, b_U = 0; only the parameters `free` move."""
    params = {name: p.to(dtype) for name, p in initial_parameters(SMALL, 0).items()}
    params |= {name: torch.zeros_like(params[name]) for name in ("unembed.W_U", "unembed.b_U")}
    tokens = torch.randint(8, (5, 6), generator=torch.Generator().manual_seed(0))
    return params, {name: params[name] for name in free or params}, (tokens,)


@GRAPHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("free", [("unembed.b_U",), None])
def test_the_language_loss_names_the_hooked_model(dtype, free, keep_graph):
    fixed, params, data = language(dtype, free)
    fast = per_sample_loss(SMALL)
    with pytest.raises(UserError, match="a model in plain torch operations") as refused:
        Hessian(lambda p, b: fast({**fixed, **p}, b), params, data, keep_graph=keep_graph)
    assert "\n" not in str(refused.value)


@GRAPHS
def test_the_hooked_model_has_the_exact_trace(keep_graph):
    """Uniform over V = 8: the trace of diag(p) - p p' is 1 - 1/8."""
    fixed, params, data = language(torch.float64, ("unembed.b_U",))
    model = LanguageTransformer(SMALL, fixed)

    def loss(params, batch):
        logits = functional_call(model, params, batch)[:, :-1]
        return F.cross_entropy(logits.mT, batch[0][:, 1:], reduction="none").mean(1)

    found = np.trace(dense(Hessian(loss, params, data, keep_graph=keep_graph)))
    assert found == pytest.approx(7 / 8, rel=1e-12)


class Cube(torch.autograd.Function):
    """x^3. Its backward is right: twice as well."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, upstream):
        x, = ctx.saved_tensors
        return upstream * 3 * x**2


class CubeMadeAhead(Cube):
    """The gradient was made on the way forward and is a constant on the way back."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(3 * inputs[0].detach() ** 2)

    @staticmethod
    def backward(ctx, upstream):
        slope, = ctx.saved_tensors
        return upstream * slope


class CubeOnce(Cube):
    """It says so itself."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        x, = ctx.saved_tensors
        return upstream * 3 * x**2


class CubeOldStyle(torch.autograd.Function):
    """Written as before torch 2, which torch.func cannot take."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    backward = Cube.backward


def cubes(function, dtype=torch.float64):
    gen = torch.Generator().manual_seed(0)
    w, out, x = (torch.randn(*shape, generator=gen, dtype=torch.float64).to(dtype)
                 for shape in ((4, 3), (3,), (7, 4)))
    params = {"w": w, "out": out}

    def loss(params, batch):
        return (function(batch[0] @ params["w"]).relu() @ params["out"]).square()

    return loss, params, (x,)


@GRAPHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hand_written_backward_that_is_right(dtype, keep_graph):
    found = dense(Hessian(*cubes(Cube.apply, dtype), keep_graph=keep_graph))
    exact = dense(Hessian(*cubes(lambda x: x**3)))
    np.testing.assert_allclose(found, exact, atol=1e3 * torch.finfo(dtype).eps * abs(exact).max())


@GRAPHS
@pytest.mark.parametrize("function", [CubeMadeAhead, CubeOnce])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hand_written_backward_that_is_wrong(function, dtype, keep_graph):
    with pytest.raises(UserError, match=f"backward of {function.__name__} is right for gradients, "
                       "and wrong when it is differentiated: write it in torch's") as refused:
        Hessian(*cubes(function.apply, dtype), keep_graph=keep_graph)
    assert "\n" not in str(refused.value)


def test_a_function_that_torch_func_cannot_take():
    """Right with a kept graph; without one it is refused."""
    exact = dense(Hessian(*cubes(Cube.apply)))
    np.testing.assert_allclose(dense(Hessian(*cubes(CubeOldStyle.apply), keep_graph=True)), exact)
    with pytest.raises(UserError, match="keep_graph=True"):
        Hessian(*cubes(CubeOldStyle.apply))


# ------------------------------------------- kernels without a second derivative (case 2)


def encoder():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True).double().eval()
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    return (lambda p, b: functional_call(model, p, b).tanh().square().mean((1, 2)),
            dict(model.named_parameters()), (x,))


def attention():
    gen = torch.Generator().manual_seed(0)
    params = {name: torch.randn(4, 4, generator=gen, dtype=torch.float64) for name in "qkv"}
    x = torch.randn(6, 3, 4, generator=gen, dtype=torch.float64)

    def loss(params, batch):
        heads = (batch[0] @ params[name] for name in "qkv")
        return F.scaled_dot_product_attention(*heads, is_causal=True).square().mean((1, 2))

    return loss, params, (x,)


@GRAPHS
@pytest.mark.parametrize("problem", [encoder, attention])
def test_through_fused_attention(problem, keep_graph):
    found = dense(Hessian(*problem(), keep_graph=keep_graph, microbatch=4))
    exact = quotient(*problem())
    np.testing.assert_allclose(found, exact, atol=1e-7 * abs(exact).max())


@GRAPHS
def test_a_kernel_without_a_second_derivative(keep_graph):
    """CTC has none, by any way."""
    params = {"w": torch.randn(5, 4, generator=torch.Generator().manual_seed(0))}
    data = (torch.randn(6, 7, 5), torch.randint(1, 4, (6, 2)))

    def loss(params, batch):
        logits = (batch[0] @ params["w"]).log_softmax(-1).transpose(0, 1)
        size = len(batch[0])
        return F.ctc_loss(logits, batch[1], torch.full((size,), 7), torch.full((size,), 2),
                          reduction="none")

    with pytest.raises(UserError, match="the loss has no second derivative") as refused:
        Hessian(loss, params, data, keep_graph=keep_graph)
    assert "\n" not in str(refused.value)
