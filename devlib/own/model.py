"""A module and its loss as the sampler's loss(params, parts) -> (m,)."""

import copy
import threading
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from devlib.errors import UserError
from devlib.fast import Uncompiled

FORM = "loss must be a function, loss(model, batch), that gives one value a sample, (m,)"


class _Asked(nn.Module):
    """loss(model, batch) as a module's forward, so that the loss may use all of the model: its
    call, its parts, its methods, each with the parameters that functional_call puts in."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch):
        return self.loss(self.model, batch)


def check_module(model):
    """Raises UserError for what is no nn.Module."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model must be an nn.Module, not {type(model).__name__}; for a function "
                        "of parameters there is devlib.sampling.sample_chains")


def plain(model):
    """The module itself of what torch.compile made: each chain compiles a step of its own. Raises
    UserError for what is no nn.Module."""
    check_module(model)
    return getattr(model, "_orig_mod", model)


def loss_of(model, loss, samples, buffers=None):
    """loss(params, parts) -> (m,) of a module, for `samples` (devlib.own.data), with `buffers` by
    name in the place of the module's own. Raises UserError for a loss that cannot be taken.

    `loss` is a function loss(model, batch), or one of torch's loss modules, which is then applied
    as loss(model(x), y) to batches (x, y), without its reduction, and averaged over what else is
    in a sample.
    """
    ignored = getattr(loss, "ignore_index", None) if isinstance(loss, nn.Module) else None
    if ignored is not None and not samples.by_index and (samples.parts[-1] == ignored).any():
        raise UserError(f"{type(loss).__name__} leaves labels of {ignored} out of its mean, and a "
                        f"mean over samples would count them as 0; {FORM}, can leave them out")
    asked = _Asked(model, _function(loss))
    own = {f"model.{name}": value for name, value in (buffers or {}).items()}

    def per_sample(params, parts):
        given = own | {f"model.{name}": p for name, p in params.items()}
        return functional_call(asked, given, (samples.batch(parts),))

    return Uncompiled(per_sample) if samples.by_index else per_sample


def _function(loss):
    if isinstance(loss, nn.Module):
        if not hasattr(loss, "reduction"):
            raise UserError(f"{FORM}, or one of torch's loss modules, not the module "
                            f"{type(loss).__name__}")
        return _module_loss(loss)
    if not callable(loss):
        raise UserError(f"{FORM}, not {loss!r}")
    return loss


def _module_loss(loss):
    name = type(loss).__name__
    if getattr(loss, "weight", None) is not None or getattr(loss, "pos_weight", None) is not None:
        raise UserError(f"{name} has weights, so that samples count unequally and its mean is no "
                        f"mean over samples; {FORM}, can weigh them as is meant")
    if loss.reduction not in ("mean", "none"):
        raise UserError(f"{name} has reduction={loss.reduction!r}; the LLC is of a mean over "
                        f"samples and what is in them: take 'mean', or {FORM}")
    loss = copy.copy(loss)
    loss.reduction = "none"

    def per_sample(model, batch):
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise UserError(f"{type(loss).__name__} needs batches (x, y); {FORM} takes others")
        x, y = batch
        values = loss(model(x), y)
        return values.flatten(1).mean(1) if values.ndim > 1 else values

    return per_sample


def short_numbers(loss, params, parts) -> tuple[str, ...]:
    """Which 16-bit types loss(params, parts) computes in, as it does under torch.autocast: the
    rounding to them is in every loss that a chain reads. Data that are stored in them and moved or
    converted first are none."""
    few = tuple(part[:2] for part in parts)
    with _Short() as seen, torch.no_grad():
        loss({name: p.detach() for name, p in params.items()}, few)
    return tuple(sorted(seen.kinds))


MOVING = {"_to_copy", "alias", "cat", "clone", "copy_", "detach", "expand", "gather", "index",
          "index_select", "permute", "select", "slice", "split", "squeeze", "stack", "t",
          "transpose", "unbind", "unsqueeze", "view", "_unsafe_view"}  # and computing nothing


class _Short(TorchDispatchMode):
    """Keeps the names of 16-bit types in which operations give their results."""

    def __init__(self):
        super().__init__()
        self.kinds = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        given = function(*arguments, **(options or {}))
        if function.overloadpacket.__name__ not in MOVING:
            self.kinds |= {str(part.dtype).removeprefix("torch.") for part in tree_leaves(given)
                           if isinstance(part, torch.Tensor) and part.is_floating_point()
                           and part.dtype.itemsize == 2}
        return given


def next_token(model, batch) -> torch.Tensor:
    """The mean cross-entropy of each sequence's next tokens, (m,), in nats.

    `batch` holds tokens (m, K), alone, first in a tuple, or as "input_ids" of a dictionary whose
    "attention_mask" is 0 where there is padding, whose loss does not count. The model gives logits
    (m, K, V), or an object with `logits`, as Hugging Face's do.
    """
    if isinstance(batch, dict):
        tokens, mask = batch["input_ids"], batch.get("attention_mask")
        output = model(tokens) if mask is None else model(tokens, attention_mask=mask)
    else:
        tokens, mask = (batch[0] if isinstance(batch, tuple) else batch), None
        output = model(tokens)
    logits = getattr(output, "logits", output)
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    if mask is None:
        return losses.mean(1)
    kept = mask[:, 1:].to(losses.dtype)
    return (losses * kept).sum(1) / kept.sum(1)


@contextmanager
def in_eval(model):
    """The model in eval mode, for one thread at a time, with gradients; afterwards each of its
    modules is in the mode in which it was, and has the tensors that hooks such as weight_norm's
    keep in it."""
    with _ONE_AT_A_TIME, torch.enable_grad():
        kept = [(module, module.training, _plain_tensors(module)) for module in model.modules()]
        model.eval()
        try:
            yield
        finally:
            for module, mode, tensors in kept:
                module.training = mode
                vars(module).update(tensors)


_ONE_AT_A_TIME = threading.RLock()  # functional_call puts parameters into the model itself


def _plain_tensors(module):
    return {name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)}
