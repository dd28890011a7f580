"""What a user may give as a model, a loss and data, made what the library works with: parameters by
name and a tuple of tensors. What cannot be taken is refused in one line that says what to give."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from devlib.errors import UserError
from devlib.fast import Uncompiled

NAMED = "give the model, or dict(model.named_parameters())"


@dataclass(frozen=True)
class Problem:
    """A loss of the parameters that move, those parameters by name, and the data."""

    loss: Callable
    params: dict
    data: tuple
    held: frozenset = frozenset()  # names of parameters that stay where they are

    @property
    def parts(self):
        """Loss, parameters and data; what is made of them again is the same problem."""
        return self.loss, self.params, self.data

    def mask(self, mask):
        """A mask of all parameters as one of those that move. Raises UserError if it frees one
        that is held."""
        if not isinstance(mask, dict):
            return mask  # None, or refused later
        freed = [name for name in sorted(self.held & mask.keys())
                 if torch.as_tensor(mask[name]).any()]
        if freed:
            raise UserError(f"the mask frees {', '.join(freed)}, which has requires_grad=False: "
                            "set that to True, or leave it out of the mask")
        return {name: part for name, part in mask.items() if name not in self.held}


@dataclass(frozen=True, eq=False)
class Completed:
    """A loss of some parameters: the held ones and second names of tied ones are put in."""

    loss: Callable
    held: dict
    ties: dict  # second name -> first

    def __call__(self, params, batch):
        params = {**self.held, **params}
        return self.loss({**params, **{name: params[first] for name, first in self.ties.items()}},
                         batch)


def problem_of(loss, params, data) -> Problem:
    """The problem of a user's arguments. An nn.Parameter with requires_grad=False is held, and
    tied parameters move as one. Without either the loss stays the function that it is. Raises
    UserError for what cannot be taken."""
    check_function(loss)
    params, data = parameters_of(params), tensors_of(data)
    ties = _ties(params)
    held = {name: p for name, p in params.items()
            if isinstance(p, torch.nn.Parameter) and not p.requires_grad}
    moving = {name: p for name, p in params.items() if name not in held and name not in ties}
    if params and not moving:
        raise UserError("no parameter may move: every one has requires_grad=False; set it to True "
                        "where the chain shall go")
    if held or ties:
        held = {name: p.detach() for name, p in held.items() if name not in ties}
        if isinstance(loss, Uncompiled):
            loss = Uncompiled(Completed(loss.loss, held, ties))
        else:
            loss = Completed(loss, held, ties)
    return Problem(loss, moving, data, frozenset(held))


def check_function(loss):
    """Raises UserError unless it can be called as loss(params, batch)."""
    if isinstance(loss, torch.nn.Module):
        raise UserError(f"loss must be a function, loss(params, batch), not the module "
                        f"{type(loss).__name__}: write one that calls the model by "
                        "torch.func.functional_call(model, params, x), and gives one value a "
                        "sample")
    if not callable(loss):
        raise UserError(f"loss must be a function, loss(params, batch), not {loss!r}")


def parameters_of(params) -> dict:
    """Parameters by name, from a module, its named_parameters(), or a dictionary."""
    if isinstance(params, torch.nn.Module):
        return dict(params.named_parameters())
    if isinstance(params, Iterator | list | tuple):
        params = list(params)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)
                   for pair in params):
            raise UserError(f"params must have names: {NAMED}")
        return dict(params)
    if not isinstance(params, dict):
        raise UserError(f"params must be tensors by name, not {type(params).__name__}: {NAMED}")
    if not all(isinstance(name, str) for name in params):
        raise UserError(f"params must have names: {NAMED}")
    return params


def tensors_of(data) -> tuple:
    """The data as a tuple of tensors; numpy arrays are taken as they are."""
    if isinstance(data, torch.utils.data.TensorDataset):
        data = data.tensors
    form = "data must be a tuple of tensors, such as (xs, ys) or (xs,)"
    if isinstance(data, dict):
        raise UserError(f"{form}, not a dictionary: give tuple(data.values()), and let the loss "
                        "unpack them in that order")
    if isinstance(data, torch.utils.data.DataLoader | torch.utils.data.Dataset):
        raise UserError(f"{form}, not a {type(data).__name__}: batches are drawn here, from all "
                        "samples; stack them, as with torch.utils.data.default_collate(list("
                        "dataset))")
    if not isinstance(data, tuple | list):
        raise UserError(f"{form}, not {type(data).__name__}")
    parts = tuple(_tensor(part) if isinstance(part, np.ndarray) else part for part in data)
    if not all(isinstance(part, torch.Tensor) for part in parts):
        raise UserError(form)
    return parts


def _tensor(array):
    try:
        return torch.as_tensor(array)
    except TypeError as error:
        raise UserError(f"data holds a numpy array of {array.dtype}, which is no tensor: give "
                        "numbers") from error


def _ties(params) -> dict:
    """Second name -> first, of tensors that are one. Raises UserError where it is not plain
    whether they are: two names of one memory, and no module's."""
    first, ties = {}, {}
    for name, p in params.items():
        if not isinstance(p, torch.Tensor) or not p.numel() or not p.data_ptr():
            continue  # what wraps a tensor has no memory of its own
        place = first.setdefault((p.data_ptr(), p.shape, p.stride(), p.device), name)
        if place == name:
            continue
        # what state_dict() gives has lost its nn.Parameters, but carries this
        if not isinstance(p, torch.nn.Parameter) and not hasattr(params, "_metadata"):
            raise UserError(f"params {place!r} and {name!r} share their memory: leave one out if "
                            "they are tied, or clone one if they are not")
        ties[name] = place
    return ties
