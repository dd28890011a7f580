"""Every trick for speed that is not a model's own, each with what it gains.

Compiled and recorded gradients, a slice of the batch at a time; float32 products by the faster of
torch's two libraries; memory kept for the next step. None changes a number beyond rounding, and on
one machine each gives the same bits every time. Leave one out, and all goes on, more slowly.
"""

import ctypes
import functools
import shutil
import sys
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch.func import grad_and_value
from torch.nn import functional as F

from devlib.devices import device, is_gpu

COMPILE_FROM = 2_000  # steps, of all chains or of a training run: compiling takes half a minute
RECORD_AFTER = 200  # calls: recording takes a tenth of a second to one
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT, LARGEST_KEPT = 2**30, 2**25  # bytes in all, and of one array: glibc allows no more of that


# ------------------------------------------------------------------------------------- compiling


@functools.cache
def can_compile() -> bool:
    """Whether torch.compile can build its kernels: on a CPU it needs a C++ compiler."""
    return is_gpu(device()) or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))


def compiled(function):
    """The function, which returns a tuple of tensors, compiled for fixed shapes, or as it is where
    nothing can compile it. Both give the same numbers up to rounding; on one machine each gives
    the same bits every time."""
    if not can_compile():
        return function
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # else every process of a curve starts a pool of its own
    # torch.compile caches per code object, shared by all gradients; a copy gives each loss a cache
    # of its own (limit: 8 shapes), which also keeps the check before each call short
    own = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__,
                             function.__defaults__, function.__closure__)
    if is_gpu(device()):
        return _replayed(torch.compile(own, dynamic=False, mode="reduce-overhead"))
    # calls between kernels in C++ too: on a CPU 3 to 9 % of a step of the regression transformer
    return onednn()(torch.compile(own, dynamic=False, options={"cpp_wrapper": True}))


def _replayed(function):
    """A function whose kernels a GPU records at the second call and replays from then on, so that
    a step of many small ones does not wait for each to be started. Its results live where the next
    replay writes: they are copied out."""
    # float32 is meant, not TF32, as on a CPU
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")

    def call(*arguments):
        return tuple(part.clone() for part in function(*arguments))

    return call


def recorded(function):
    """The function, whose calls of torch's kernels are recorded at call RECORD_AFTER and replayed
    from then on, without what torch.func does in Python about each: the same kernels on the same
    numbers, hence the same bits, in a third of the time where tensors are small. For arguments
    whose shapes stay, and nothing else that changes. What cannot be recorded runs as it did."""
    calls, run = 0, function

    def call(*arguments):
        nonlocal calls, run
        calls += 1
        if calls == RECORD_AFTER:
            from torch.fx.experimental.proxy_tensor import make_fx  # a second, once

            with suppress(Exception), torch.no_grad():  # a loss may be anything
                run = make_fx(function)(*arguments).forward
        return run(*arguments)

    return call


def unguarded():
    """A context in which compiled functions skip the check that nothing they depend on has
    changed. For calls with arguments of the same shapes right after a checked one."""
    return torch.compiler.set_stance(skip_guard_eval_unsafe=True)


@dataclass(frozen=True)
class Uncompiled:
    """A loss that is never compiled, called as the `loss` in it: one of large products, which
    nothing can fuse, gains nothing by half a minute of compiling."""

    loss: Callable

    def __call__(self, *arguments):
        return self.loss(*arguments)


# --------------------------------------------------------------------------- a slice at a time


def cache_slice(size, where):
    """Samples to take a gradient of at once: `size` on a CPU, None (the whole batch) on a GPU."""
    return None if is_gpu(where) else size


@functools.lru_cache(maxsize=32)
def mean_gradient(mean_loss, microbatch, compile):
    """(w, ..., batch) -> (gradient with respect to w, mean loss), both of the whole batch.

    `mean_loss(w, ..., batch)` is a mean over samples and `batch` a tuple of tensors whose first
    dimension is the sample. With a `microbatch` below the batch's length it is taken in slices of
    that many samples: the same numbers up to rounding, in less memory, and on a CPU faster where
    a slice's activations fit the cache (the regression transformer at 1,024 contexts: half the
    time). Cached, so that one function is compiled once a process; an `Uncompiled` one is not.
    """
    gradient = grad_and_value(mean_loss)
    compile = compile and not isinstance(mean_loss, Uncompiled)
    if compile:
        gradient = compiled(gradient)
    keep_memory()

    def whole(*arguments):
        *fixed, batch = arguments
        samples = len(batch[0])
        if microbatch is None or samples <= microbatch:
            return gradient(*fixed, batch)
        total = value = 0
        for count, slices in enumerate(zip(*(part.split(microbatch) for part in batch),
                                           strict=True)):
            share = len(slices[0]) / samples
            same = compile and count and len(slices[0]) == microbatch  # as the slice before
            with unguarded() if same else nullcontext():
                slice_gradient, slice_value = gradient(*fixed, slices)
            total = slice_gradient.mul_(share).add_(total)
            value = value + share * slice_value
        return total, value

    return whole


@functools.cache
def keep_memory():
    """Asks glibc to keep what is freed, up to KEPT bytes, for the arrays to come. It would give the
    activations of a step back to the system and fetch empty pages for the next: 23 % of the time
    that training the regression transformer took. Elsewhere than on Linux with glibc, nothing."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
            mallopt(M_TRIM_THRESHOLD, KEPT)


class Ahead:
    """A function of the step, called for the next one by a thread of its own while a GPU is at
    work on this one."""

    def __init__(self, function):
        self.function, self.thread, self.found = function, ThreadPoolExecutor(1), {}

    def __call__(self, step):
        now = self.found.get(step) or self.thread.submit(self.function, step)
        self.found = {step + 1: self.thread.submit(self.function, step + 1)}
        return now.result()


# ------------------------------------------------------------------------------- matrix products
#
# For float32 on a CPU torch asks MKL, which on AMD processors leaves much of the vector units
# unused: 105 of the 235 GFLOP/s that oneDNN reaches on a core with AVX-512, and 105 of 123 with
# AVX2 alone (Intel's were not measured). torch itself takes oneDNN for bfloat16, and in compiled
# models through the operator used in `matmul`; both compute in full float32.


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
    functions and any derivative's too, in which `linear` has no place. An LLC of the regression
    model takes 0.8 of the CPU time.

    torch does so only with leave to round factors to bfloat16. oneDNN takes that leave where AMX
    computes such products; elsewhere they are as exact as MKL's (a test measures it). So it holds
    for processors with AVX-512 and without AMX, and is empty on others.
    """
    known = torch.cpu.get_capabilities()
    if not known.get("avx512_f") or known.get("amx_tile", True):
        yield
        return
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
