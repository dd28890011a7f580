"""A dictionary of parameters as one vector, in whole or restricted to a mask."""

from dataclasses import dataclass

import torch

from devlib.errors import UserError


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
