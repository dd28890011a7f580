"""Matrix products, by the faster of the two libraries that torch has for them on a CPU.

For float32 torch asks MKL, which on AMD processors leaves much of the vector units unused: 105 of
the 235 GFLOP/s that oneDNN reaches on a core with AVX-512, and 105 of 123 with AVX2 alone (Intel's
were not measured). torch itself takes oneDNN for bfloat16, and in compiled models through the
operator used here; both compute in full float32.
"""

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
