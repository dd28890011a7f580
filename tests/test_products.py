"""Matrix products against float64, whichever library computes them."""

import pytest
import torch

from devlib import products

ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def factors(dtype, *shapes):
    gen = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rows", [(7,), (2, 5)])
def test_products_are_those_of_float64(dtype, rows):
    x, weight, bias = factors(dtype, (*rows, 32), (48, 32), (48,))
    exact = x.double() @ weight.double().T
    for found, expected in ((products.matmul(x, weight.T), exact),
                            (products.matmul(x, weight.T, bias), exact + bias.double()),
                            (products.linear(x, weight, bias), exact + bias.double())):
        assert found.dtype == dtype and found.shape == (*rows, 48)
        assert (found.double() - expected).norm() < ROUNDING[dtype] * expected.norm()


def test_factors_may_be_views_and_have_no_rows():
    """Transposes, every second row, and nothing at all."""
    a, b = factors(torch.float32, (64, 10), (64, 12))
    assert torch.allclose(products.matmul(a.T, b), a.T @ b, atol=1e-5)
    assert torch.allclose(products.matmul(a[::2].T, b[1::2]), a[::2].T @ b[1::2], atol=1e-5)
    assert products.matmul(a.T[:0], b).shape == (0, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_torch(dtype):
    leaves = [x.requires_grad_() for x in factors(dtype, (2, 5, 32), (48, 32), (48,))]
    ours, torchs = (torch.autograd.grad(function(*leaves).square().sum(), leaves)
                    for function in (products.linear, torch.nn.functional.linear))
    for found, expected in zip(ours, torchs, strict=True):
        assert (found - expected).norm() < ROUNDING[dtype] * expected.norm()
