"""Matrix products against float64, whichever library computes them, and what is never compiled."""

import platform
import resource
import subprocess
import sys

import pytest
import torch

from companion import presets
from devlib import fast
from devlib.language.model import per_sample_loss
from devlib.sampling.model import flat_loss

ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def factors(dtype, *shapes):
    gen = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rows", [(7,), (2, 5)])
def test_products_are_those_of_float64(dtype, rows):
    x, weight, bias = factors(dtype, (*rows, 32), (48, 32), (48,))
    exact = x.double() @ weight.double().T
    for found, expected in ((fast.matmul(x, weight.T), exact),
                            (fast.matmul(x, weight.T, bias), exact + bias.double()),
                            (fast.linear(x, weight, bias), exact + bias.double())):
        assert found.dtype == dtype and found.shape == (*rows, 48)
        assert (found.double() - expected).norm() < ROUNDING[dtype] * expected.norm()


def test_factors_may_be_views_and_have_no_rows():
    """Transposes, every second row, and nothing at all."""
    a, b = factors(torch.float32, (64, 10), (64, 12))
    assert torch.allclose(fast.matmul(a.T, b), a.T @ b, atol=1e-5)
    assert torch.allclose(fast.matmul(a[::2].T, b[1::2]), a[::2].T @ b[1::2], atol=1e-5)
    assert fast.matmul(a.T[:0], b).shape == (0, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_torch(dtype):
    leaves = [x.requires_grad_() for x in factors(dtype, (2, 5, 32), (48, 32), (48,))]
    ours, torchs = (torch.autograd.grad(function(*leaves).square().sum(), leaves)
                    for function in (fast.linear, torch.nn.functional.linear))
    for found, expected in zip(ours, torchs, strict=True):
        assert (found - expected).norm() < ROUNDING[dtype] * expected.norm()


def test_products_given_to_onednn_keep_their_digits():
    """Every size that the regression model multiplies, and many at once; a product with its
    factors rounded to bfloat16 would be a thousand times further off. What torch was told before
    is told again, after an error too."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    for shapes in (((64, 64), (64, 1920)), ((192, 64), (64, 960)), ((64, 1920), (1920, 64)),
                   ((8, 64, 64), (8, 64, 240)), ((5, 5), (5, 1920)), ((1, 64), (64, 1024))):
        a, b = factors(torch.float32, *shapes)
        with fast.onednn():
            found = a @ b
        exact = a.double() @ b.double()
        assert (found.double() - exact).norm() < 1e-6 * exact.norm(), shapes
    with pytest.raises(ZeroDivisionError), fast.onednn():
        raise ZeroDivisionError
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_what_is_never_compiled(monkeypatch):
    """The language model's loss on a CPU, and the mean that chains make of it; a plain loss is."""
    asked = []
    monkeypatch.setattr(fast, "compiled", lambda function: asked.append(function) or function)
    monkeypatch.setenv("DEVLIB_DEVICE", "cpu")
    loss = flat_loss(per_sample_loss(presets.SMOKE.language.model), None, False)
    fast.mean_gradient(loss, None, True)
    assert isinstance(loss, fast.Uncompiled) and not asked

    def plain(w, batch):
        return (w * batch[0]).sum()

    gradient, value = fast.mean_gradient(plain, None, True)(torch.ones(1), (torch.ones(2),))
    assert len(asked) == 1 and (gradient, value) == (2.0, 2.0)
    assert fast.mean_gradient(fast.Uncompiled(plain), None, True)(
        torch.ones(1), (torch.ones(2),)) == (gradient, value)
    assert len(asked) == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's memory is asked")
def test_memory_of_a_step_serves_the_next():
    """Page faults of ten rounds of taking, filling and freeing 20 MB by the C library, each count
    in a process of its own."""
    rounds = """
import ctypes
import resource
from devlib import fast
{}
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
def step():
    blocks = [ctypes.c_void_p(c.malloc(1_000_000)) for _ in range(20)]
    for block in blocks:
        c.memset(block, 1, 1_000_000)
    for block in blocks:
        c.free(block)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", rounds.format(prepare)], check=True,
                           capture_output=True, text=True).stdout)
        for prepare in ("fast.keep_memory()", ""))
    pages = 10 * 20_000_000 // resource.getpagesize()
    assert kept < pages / 20 < pages / 2 < given_back
