"""torch.compile where a C++ compiler is at hand, plain torch where none is."""

import functools
import shutil
import types
import warnings

import torch

from devlib.devices import device, is_gpu
from devlib.products import onednn


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
    # torch files what it compiles under the code object, which all gradients share: a copy keeps
    # the check before each call short, and one loss from using up another's eight shapes
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


def unguarded():
    """A context in which compiled functions skip the check that nothing they depend on has
    changed. For calls with arguments of the same shapes right after a checked one."""
    return torch.compiler.set_stance(skip_guard_eval_unsafe=True)
