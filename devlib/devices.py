"""The one place of the library that names a device.

What is computed from a checkpoint or trained runs on `device()`: a GPU where torch finds one, else
the CPU, or what $DEVLIB_DEVICE names. Every other function follows what it is given: data goes
where the parameters are. Random numbers are drawn on the CPU and moved, so that every device gets
the same batches and the same noise; results differ by rounding. The small potentials of the primer
stay on the CPU.
"""

import contextlib
import os

import torch

from devlib.errors import UserError


def device(name="auto") -> torch.device:
    """The device of a name: "auto" is $DEVLIB_DEVICE, or else a GPU if there is one, or the CPU.
    Raises UserError for a device that torch does not know or this machine does not have."""
    if name == "auto":
        name = os.environ.get("DEVLIB_DEVICE") or "auto"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device {name!r}; set DEVLIB_DEVICE to auto, cpu or cuda") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no GPU here; set DEVLIB_DEVICE to auto, or install a torch "
                        "that was built for this GPU")
    return found


def move(value, where=None):
    """A tensor, or those in a tuple or dictionary, on the device `where` (default: `device()`).
    What is there already is not copied."""
    where = device() if where is None else where
    if isinstance(value, dict):
        return {name: move(part, where) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(move(part, where) for part in value)
    return value.to(where)


def of(params: dict) -> torch.device:
    """Where parameters are; without any, `device()`."""
    return next((tensor.device for tensor in params.values()), None) or device()


def to_numpy(tensor):
    """The numbers as a NumPy array: a view where they are on the CPU."""
    return tensor.detach().cpu().numpy()


def is_gpu(where) -> bool:
    """Whether a device is a GPU, which is fast only with much to do at once: it takes whole batches
    and all chains together, where a CPU takes slices that fit its cache, one chain after another.
    """
    return where.type != "cpu"


def fast_bfloat16(where) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: GPUs from the A100's generation
    on, CPUs with AMX or AVX512-BF16. Elsewhere it is emulated, at a quarter of the speed."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where) >= (8, 0)
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))


def gpu_name():
    """The GPU that this process has computed on, by its maker's name, or None."""
    return torch.cuda.get_device_name() if torch.cuda.is_initialized() else None


@contextlib.contextmanager
def one_thread():
    """torch on one thread until the block ends."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def random_states() -> list[torch.Tensor]:
    """The states of torch's own generators: the CPU's, and each GPU's where one is in use."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *gpus]


def set_random_states(states):
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])
