"""torch.compile where a C++ compiler is at hand, plain torch where none is."""

import functools
import shutil

import torch


@functools.cache
def can_compile() -> bool:
    """Whether torch.compile can build its kernels: on a CPU it needs a C++ compiler."""
    return torch.cuda.is_available() or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))


def compiled(function):
    """The function compiled for fixed shapes, or as it is where nothing can compile it. Both give
    the same numbers up to rounding; on one machine each gives the same bits every time."""
    if not can_compile():
        return function
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # else every process of a curve starts a pool of its own
    return torch.compile(function, dynamic=False)
