"""Matrix products, by the faster of the two libraries that torch has for them on a CPU.

For float32 torch asks MKL, which on AMD processors leaves much of the vector units unused: 105 of
the 235 GFLOP/s that oneDNN reaches on a core with AVX-512, and 105 of 123 with AVX2 alone (Intel's
were not measured). torch itself takes oneDNN for bfloat16, and in compiled models through the
operator used in `matmul`; both compute in full float32.
"""

from contextlib import contextmanager

import torch
from torch.nn import functional as F


def _by_onednn(*factors) -> bool:
    return (torch.backends.mkldnn.is_available()
            and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in factors)
            and all(x.numel() for x in factors))


def matmul(a, b, bias=None) -> torch.Tensor:
    """a (..., n) times b (n, m), plus bias (m,) if given: (..., m). Without gradients: `linear`
    has them."""
    if _by_onednn(a, b):
        return torch.ops.mkldnn._linear_pointwise(a, b.T, bias, "none", [], "")
    return a @ b if bias is None else F.linear(a, b.T, bias)


def linear(x, weight, bias) -> torch.Tensor:
    """F.linear: x (..., n), weight (m, n) and bias (m,) -> (..., m). On float32 of a CPU it has
    first derivatives only, and none of forward mode."""
    if _by_onednn(x, weight):
        return _Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, bias):
        return matmul(x, weight.T, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, upstream):
        x, weight = ctx.saved_tensors
        rows, upstream_rows = x.flatten(0, -2), upstream.flatten(0, -2)
        return (matmul(upstream, weight), matmul(upstream_rows.T, rows), upstream_rows.sum(0))


@contextmanager
def onednn():
    """While it lasts, torch gives float32 products of every kind to oneDNN: those of compiled
    functions and any derivative's too, in which `linear` has no place.

    torch does so only with leave to round factors to bfloat16. oneDNN takes that leave where AMX
    computes such products; elsewhere they are as exact as MKL's (a test measures it). So it holds
    for processors with AVX-512 and without AMX, and is empty on others.
    """
    known = torch.cpu.get_capabilities()
    if not known.get("avx512_f") or known.get("amx_tile", True):
        yield
        return
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
