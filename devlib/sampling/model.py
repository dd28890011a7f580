"""A user's model made fit to sample: its parameters as one vector, in whole or restricted to a
mask, and its loss and data checked."""

import functools
import os
from dataclasses import dataclass

import torch

from devlib.errors import UserError
from devlib.fast import Uncompiled, onednn
from devlib.sampling.given import parameters_of, tensors_of


@dataclass(frozen=True)
class Layout:
    """How a parameter dictionary lies in one flat vector: names, sorted, and their shapes.

    Sorted, because dictionaries come in any order (safetensors gives another one in each process)
    and the noise that a weight receives must not depend on that.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, params: dict) -> "Layout":
        names = tuple(sorted(params))
        return cls(names, tuple(params[name].shape for name in names))

    def flatten(self, params: dict) -> torch.Tensor:
        """The parameters as one new vector (P,)."""
        return torch.cat([params[name].detach().reshape(-1) for name in self.names])

    def unflatten(self, flat) -> dict:
        """Views into a vector (P,), by name."""
        parts = flat.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape)
                for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def indices(self, mask: dict | None) -> torch.Tensor | None:
        """Places in the vector that a mask leaves free, or None for all.

        `mask` maps a name to True (the whole tensor) or to a boolean tensor of its shape; names
        left out are held at w0: the weight-restricted LLC (Wang et al., 2025).
        """
        if mask is None:
            return None
        if not isinstance(mask, dict):
            raise UserError("the mask must map names of parameters to True or a boolean tensor")
        unknown = set(mask) - set(self.names)
        if unknown:
            raise UserError(f"the mask names {sorted(unknown)}, which the parameters do not have")
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            part = torch.as_tensor(mask.get(name, False))
            if part.dtype != torch.bool:
                raise UserError(f"the mask of {name} must be boolean, not {part.dtype}")
            if part.ndim and part.shape != shape:
                raise UserError(f"the mask of {name} has shape {tuple(part.shape)}; its "
                                f"parameter has {tuple(shape)}")
            parts.append(part.expand(shape).reshape(-1))
        free = torch.cat(parts).nonzero()[:, 0]
        if not len(free):
            raise UserError("the mask leaves no parameter free")
        return free

    def freed(self, mask) -> tuple[str, ...]:
        """Names of the parameters that such a mask leaves free, in whole or in part."""
        return tuple(name for name in self.names
                     if mask is None or torch.as_tensor(mask.get(name, False)).any())


@functools.lru_cache(maxsize=32)  # the same function each time, so that it compiles once
def flat_loss(loss, layout, masked):
    """(w, origin, free, batch) -> mean loss of the batch; `w` is the whole vector, or with a mask
    the places `free` of it."""
    def mean_loss(w, origin, free, batch):
        flat = origin.index_put((free,), w) if masked else w
        return loss(layout.unflatten(flat), batch).mean()

    return Uncompiled(mean_loss) if isinstance(loss, Uncompiled) else mean_loss


CHUNK = 512  # samples whose losses are taken at once


def per_sample_losses(loss, params, data, chunk=CHUNK) -> torch.Tensor:
    """loss(params, .) of every sample of the set, (n,), without gradients, in chunks."""
    params, data = parameters_of(params), tensors_of(data)
    with torch.no_grad(), onednn():
        parts = [loss(params, tuple(part[start:start + chunk] for part in data))
                 for start in range(0, len(data[0]), chunk)]
    return torch.cat(parts)


def check_memory(what, size):
    """Raises UserError if something takes more bytes than this machine has."""
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > has:
        raise UserError(f"{what} takes {size / 1e9:.3g} GB of memory, and this machine has "
                        f"{has / 1e9:.0f}; take fewer")


def check_problem(params, data) -> int:
    """The number of samples. Raises UserError unless `params` are floating-point tensors by name
    and `data` a tuple of tensors of one length, all on one device."""
    if not params:
        raise UserError("params is empty: give the model's parameters by name")
    for name, p in params.items():
        if not isinstance(p, torch.Tensor) or not p.is_floating_point():
            raise UserError(f"params[{name!r}] is no tensor of floating-point numbers; give "
                            "dict(model.named_parameters()), without buffers of whole numbers")
    kinds = {p.dtype for p in params.values()}
    if len(kinds) > 1:
        raise UserError(f"params must share one dtype, not {kinds}")
    places = {p.device for p in (*params.values(), *data)}
    if len(places) > 1:
        raise UserError(f"params and data must be on one device, not {places}")
    lengths = {len(part) if part.ndim else 0 for part in data}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(f"data must be tensors of one length above 0, not of {sorted(lengths)}")
    return lengths.pop()
