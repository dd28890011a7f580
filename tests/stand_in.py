"""A stand-in for a GPU: the device "meta" with numbers in it.

Inside `gpu()` a tensor moved to "meta" says that it is there and holds a CPU tensor inside, on
which every operation is carried out. As on a GPU, an operation on tensors of two devices raises,
except that scalars may be anywhere and indices on the CPU. Numbers are then a CPU's: whatever runs
here runs on its device throughout, and finds the same.
"""

import contextlib
import importlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
MOVES = ("aten::_to_copy", "aten::copy_")


class There(torch.Tensor):
    """A tensor on the stand-in; `inner` is what it holds."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE, requires_grad=False)
        made.inner = inner
        return made

    def tolist(self):
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _carry_out(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what has no tensor of the stand-in among its arguments: moves there, and new ones."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_flatten((args, kwargs))[0]
        if DEVICE in [leaf for leaf in leaves if isinstance(leaf, torch.device)] or any(
                isinstance(leaf, There) for leaf in leaves):
            self.operations += 1
            return _carry_out(func, args, kwargs)
        return func(*args, **kwargs)


@contextlib.contextmanager
def gpu(monkeypatch):
    """What `devlib.devices.device()` gives is the stand-in; yields the mode, which counts the
    operations there."""
    monkeypatch.setenv("DEVLIB_DEVICE", "meta")
    optimizer = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    with _Mode() as mode:
        yield mode


def _carry_out(func, args, kwargs):
    name = func._schema.name
    leaves = tree_flatten((args, kwargs))[0]
    here = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)
            and not isinstance(leaf, There) and leaf.ndim]
    there = any(isinstance(leaf, There) for leaf in leaves)
    if there and here and name not in (*MOVES, *INDEXING):
        raise RuntimeError(f"{name}: tensors on the CPU and on the stand-in")
    asked = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    stays = DEVICE in asked if asked else there
    inner_args, inner_kwargs = tree_map(
        lambda leaf: leaf.inner if isinstance(leaf, There) else
        torch.device("cpu") if leaf == DEVICE and isinstance(leaf, torch.device) else leaf,
        (args, kwargs))
    if name == "aten::_efficientzerotensor":  # zeros without memory, which need help from above
        func = torch.ops.aten.zeros.default
    found = func(*inner_args, **inner_kwargs)
    if name.endswith("_") and args and isinstance(args[0], torch.Tensor):
        return args[0]  # in place
    if func._schema.is_mutable:  # out=, and fused updates
        return tree_map(lambda leaf: _outer(leaf, args, kwargs), found)
    return tree_map(lambda leaf: There(leaf) if isinstance(leaf, torch.Tensor) and stays else leaf,
                    found)


def _outer(leaf, args, kwargs):
    """The argument that holds a tensor that came back."""
    return next((a for a in tree_flatten((args, kwargs))[0]
                 if isinstance(a, There) and a.inner is leaf), leaf)
