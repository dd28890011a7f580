"""Gradients of a mean loss, a slice of the batch at a time."""

import functools
from contextlib import nullcontext

from torch.func import grad_and_value

from devlib.compiling import compiled, unguarded


@functools.lru_cache(maxsize=32)
def mean_gradient(mean_loss, microbatch, compile):
    """(w, ..., batch) -> (gradient with respect to w, mean loss), both of the whole batch.

    `mean_loss(w, ..., batch)` is a mean over samples and `batch` a tuple of tensors whose first
    dimension is the sample. With a `microbatch` below the batch's length it is taken in slices of
    that many samples: the same numbers up to rounding, in less memory, and on a CPU faster where
    a slice's activations fit the cache (the regression transformer at 1,024 contexts: half the
    time). Cached, so that one function is compiled once a process. A `mean_loss` that says
    `eager = True` is not compiled: it is made of large products that nothing can fuse.
    """
    gradient = grad_and_value(mean_loss)
    compile = compile and not getattr(mean_loss, "eager", False)
    if compile:
        gradient = compiled(gradient)

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
