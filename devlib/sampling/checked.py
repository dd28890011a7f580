"""A user's loss put to the test on a few samples, before the first draw: what would make an
estimate wrong without a word is refused in one line, and the model is left as it was.

Valid losses give the same numbers as without these checks: they see copies, and torch's generators
of random numbers stand afterwards where they stood. Python's and NumPy's are left alone: other
threads draw from them (dask's do), and a loss that does is found by its values.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from devlib.devices import random_states, set_random_states
from devlib.errors import UserError
from devlib.fast import Uncompiled
from devlib.sampling.given import NAMED, problem_of
from devlib.sampling.model import check_problem, per_sample_losses
from devlib.sampling.slopes import check_slopes, slopes_of

SLOWEST = 1_000  # draws in which the slowest direction relaxes that rounding has to leave alone
SIZE_TOLERANCE = 1e-2  # a batch of another size may go through other kernels, in bfloat16 even


@dataclass(frozen=True, eq=False)
class Returning:
    """A loss after whose every call modules get back the parameters that it leaves replaced, as
    torch.func.functional_call does where a module has two names (TransformerLens's bridges)."""

    loss: Callable
    places: tuple  # (a module's parameters, name there, its own parameter)

    def __call__(self, params, batch):
        try:
            return self.loss(params, batch)
        finally:
            for parameters, name, own in self.places:
                parameters[name] = own


def check_loss(loss, params, data, moves=None):
    """The loss, or one that gives a model's own parameters back (`Returning`). Raises UserError
    unless it gives one value a sample, always the same, that depends on that sample alone and on
    each of the parameters that move (`moves`: names; None: all), and leaves the model, the
    parameters and the batch as they are; and unless its gradient is its slope.

    params: tensors by name, data: a tuple of tensors, the sample first. Up to 92 calls on sixteen
    samples or fewer.
    """
    moves = tuple(params) if moves is None else tuple(moves)
    with _Watch(params) as watch:
        if not _check_form(loss, params, data, watch).isfinite().all():
            return loss  # no chain can start: that is said elsewhere
        watch.check_buffers(moves)
        near = _nearby(params, moves)
        values = _check_reach(loss, near, _take(data, _PAIR), moves, watch)
        _check_same(values, _values(loss, near, _take(data, _PAIR), watch))
        if len(data[0]) > 1:
            _check_neighbours(loss, near, data, watch)
        check_slopes(partial(_values, loss, batch=_take(data, _SPREAD), watch=watch), near, moves)
    if not watch.left:
        return loss
    places = tuple(watch.left.values())
    return (Uncompiled(Returning(loss.loss, places)) if isinstance(loss, Uncompiled)
            else Returning(loss, places))


def first_losses(loss, params, data) -> torch.Tensor:
    """The `per_sample_losses` of a problem that was checked first. Raises UserError as
    `check_problem` and `check_loss`."""
    loss, params, data = problem_of(loss, params, data).parts
    check_problem(params, data)
    loss = check_loss(loss, params, data)
    return per_sample_losses(loss, params, data)


def check_rounding(w, init_loss, sampler):
    """Raises UserError where the precision of w0 (P,) is too coarse for the chain: in 16 bits;
    where rounding loses its drift; and where the rounding of the mean loss, `init_loss` at w0,
    moves nbeta times it by a twentieth of what a regular model of as many parameters has, P / 2.

    The drift is lost first: w - eps / 2 (..) is rounded before the noise is added, so that what is
    below half the spacing s of numbers as large as w leaves no trace, and the chain spreads as if
    nothing held it. In a direction that relaxes in R draws, curvature 2 / (eps R), the drift's
    standard deviation is sqrt(eps / (2 R)). It has to be above s for R up to SLOWEST: eps >
    2 SLOWEST s^2. A quadratic at nbeta h = 1e7 about w = (1, -2, 1.5, 4), LLC 2, has 1.99 in
    float32 at eps = 1e-9, 2.21 at 1e-10 and 7.6 at 1e-11, with a noise at all three far above
    what rounding adds."""
    kind, rounding = str(w.dtype).removeprefix("torch."), torch.finfo(w.dtype).eps
    if rounding > torch.finfo(torch.float32).eps:
        raise UserError(f"a chain in {kind} loses its steps to rounding: give the parameters in "
                        "float32, and let the loss convert them")
    spacing = rounding * 2 ** w.double().abs().log2().floor()  # of numbers as large as w
    noise = sampler.eps / getattr(sampler, "floor", 1.0)  # at most, of the preconditioned one
    more = "give the model and the data in float64 (model.double()), or take "
    if 2 * SLOWEST * spacing.square().mean() > noise:
        raise UserError(f"eps = {sampler.eps:g} makes steps that the rounding of the parameters in "
                        f"{kind} swallows: {more}a larger eps")
    moved = sampler.nbeta * rounding / 2 * abs(init_loss)
    if moved > len(w) / 40:
        raise UserError(f"nbeta = {sampler.nbeta:g} times the rounding of a loss of "
                        f"{init_loss:.3g} in {kind} is {moved:.2g}, much for {len(w)} parameters: "
                        f"{more}a smaller nbeta")


# -------------------------------------------------------------------------------- single checks


def _check_form(loss, params, data, watch):
    """At w0 itself: one value for each of two samples."""
    few = _take(data, _PAIR)
    try:
        values = _values(loss, params, few, watch)
    except (TypeError, AttributeError) as error:
        raise UserError(f"the loss cannot be called as it is here ({error}): it gets the model, or "
                        "its parameters by name, and a batch") from error
    except (RuntimeError, IndexError) as error:
        kind = next(iter(params.values())).dtype
        other = {part.dtype for part in data if part.is_floating_point()} - {kind}
        if isinstance(error, torch.OutOfMemoryError):
            raise
        if other and "dtype" in str(error):
            raise UserError(f"the loss fails, and params are {kind} while data are {other.pop()}: "
                            "convert the data") from error
        given = ", ".join(f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}"
                          for part in few)
        raise UserError(f"the loss fails on two samples, {given}: "
                        f"{(str(error).splitlines() or [type(error).__name__])[0]}") from error
    if not isinstance(values, torch.Tensor) or values.shape != (len(few[0]),):
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise UserError(f"the loss must give one value a sample, ({len(few[0])},) for "
                        f"{len(few[0])} samples, not {shape}; with torch's losses, "
                        "reduction='none'")
    return values


def _check_reach(loss, params, batch, moves, watch):
    """The loss's values, once its graph was seen to hold every parameter that moves."""
    leaves = {name: params[name].clone().requires_grad_() for name in moves}
    values, slopes = slopes_of(partial(_values, loss, batch=batch, watch=watch), params, leaves)
    lost = [name for name, slope in zip(moves, slopes, strict=True) if slope is None]
    if len(lost) == len(moves):
        raise UserError("no parameter reaches the loss: let it call the model by torch.func."
                        "functional_call(model, params, x), without torch.no_grad() or detach()")
    if lost:
        raise UserError(f"{', '.join(lost)} {'do' if lost[1:] else 'does'} not reach the loss: "
                        "mend the name, or leave it out of what moves (params, or "
                        "requires_grad=False)")
    return values.detach()


def _check_same(values, again):
    if _differ(values, again, _rounding(values)):
        raise UserError("the loss is random; call model.eval() (it gives two values for the same "
                        "parameters and batch)")


def _check_neighbours(loss, params, data, watch):
    """The first sample's loss beside other samples, in another place, in a larger batch. In
    batches of one size the same kernels run, so that rounding is the same too."""
    values = [_values(loss, params, _take(data, places), watch)[at]
              for places, at in ((_PAIR, 0), ((0, -1), 0), ((1, 0), 1), (_SPREAD, 0))]
    scale = _values(loss, params, _take(data, (0, 1, -1, -2)), watch).abs().max()
    first, *others, larger = values
    for other, tolerance in ((others[0], _rounding(first)), (others[1], SIZE_TOLERANCE),
                             (larger, SIZE_TOLERANCE)):
        if _differ(first, other, tolerance, scale):
            raise UserError("a sample's loss depends on its neighbours in the batch, or on their "
                            "number: take no mean over the batch (in BatchNorm too: model.eval(), "
                            "with track_running_stats=True), and give each sample its own value")


# -------------------------------------------------------------------------------------- calling


_PAIR = (0, 1)
_SPREAD = "spread"  # sixteen from all over the data, or all where there are fewer


def _take(data, places):
    """Copies of those samples, without the second of a single one."""
    length = len(data[0])
    if places == _SPREAD:
        places = torch.linspace(0, length - 1, min(length, 16)).long().tolist()
    places = [place % length for place in places] if length > 1 else [0]
    return tuple(torch.stack([part[place] for place in places]) for part in data)


def _values(loss, params, batch, watch, grad=False):
    """loss(params, batch) of copies; UserError if it wrote to them or to the model, or if it
    drew random numbers."""
    kept = tuple(part.clone() for part in batch)
    given = params if grad else {name: p.detach().clone() for name, p in params.items()}
    with torch.set_grad_enabled(grad), watch.call(given):
        values = loss(dict(given), batch)
    if any(not _same(*pair) for pair in zip(batch, kept, strict=True)):
        raise UserError("the loss changes its batch in place: let it work on a copy")
    if not grad and any(not _same(given[name], p) for name, p in params.items()):
        raise UserError("the loss changes its parameters in place: let it work on copies")
    return values


def _nearby(params, moves):
    """The parameters a small step from w0, where a loss at its minimum is not all rounding."""
    near = {name: p.detach() for name, p in params.items()}
    for name in moves:
        p = near[name]
        size = p.double().square().mean().sqrt() if p.numel() else 0
        step = torch.finfo(p.dtype).eps ** 0.25 * (size or 1.0)
        signs = torch.arange(p.numel(), device=p.device).add(1).double().cos().view(p.shape)
        near[name] = (p.double() + step * signs).to(p.dtype)
    return near


def _rounding(values):
    return 4 * torch.finfo(values.dtype).eps ** 0.5


def _differ(a, b, tolerance, scale=None):
    """Whether values differ by more than a share of the largest; what is not finite says
    nothing."""
    scale = torch.maximum(a.abs().max(), b.abs().max()) if scale is None else scale
    away = (a - b).abs()
    return bool((away[away.isfinite()] > tolerance * scale).any())


def _same(a, b):
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


# ------------------------------------------------------------------------- what a loss touches


class _Watch:
    """Finds what a call of the loss touches: the modules that it calls, with their tensors as they
    were at the first call, and torch's generators, which at the end stand where they stood."""

    def __init__(self, originals):
        self.originals, self.seen, self.tensors = originals, {}, []
        self.root, self.left = None, {}  # the first module called, and parameters to give back

    def __enter__(self):
        self.generators = random_states()
        self.handle = register_module_forward_pre_hook(self.see)
        return self

    def __exit__(self, *_):
        self.handle.remove()
        set_random_states(self.generators)

    def see(self, module, _):
        """Of a module that is about to be called, and of its parts."""
        if self.root is None:
            self.root = module
        if id(module) in self.seen:
            return
        for part in module.modules():
            self.seen[id(part)] = part
            self.tensors += [(tensor, tensor.detach().clone())
                             for own in (part._buffers, part._parameters)
                             for tensor in own.values() if tensor is not None]

    @contextmanager
    def call(self, given):
        """Around a call of the loss: raises UserError for what it touched, and puts that back."""
        before = random_states()
        try:
            yield
        finally:
            written = self.put_back(given)
            self.take_out(given)
        if written:
            raise UserError("the loss writes to the model, as BatchNorm in train() does, or "
                            "load_state_dict; call model.eval(), and torch.func.functional_call")
        if not all(map(torch.equal, before, random_states())):
            raise UserError("the loss is random; call model.eval() (it draws random numbers)")

    def put_back(self, given) -> bool:
        """Whether tensors of the modules changed; they have their values again."""
        names = {id(p) for p in given.values()}
        return any([_put_back(*entry) for entry in self.tensors if id(entry[0]) not in names])

    def take_out(self, given):
        """Gives the modules their own parameters where they still hold what the loss was given."""
        names = {id(p): name for name, p in given.items()}
        for module in self.seen.values():
            for key, p in list(module._parameters.items()):
                if id(p) in names:
                    original = self.originals[names[id(p)]]
                    if not isinstance(original, torch.nn.Parameter):
                        original = torch.nn.Parameter(original.detach())
                    self.left[id(module), key] = (module._parameters, key, original)
                    module._parameters[key] = original

    def check_buffers(self, moves):
        """Raises UserError if a buffer of the model would move."""
        buffers = dict(self.root.named_buffers(remove_duplicate=False)) if self.root else {}
        if found := sorted(buffers.keys() & {*moves}):
            raise UserError(f"{', '.join(found)}: buffers of the model, which no chain may move; "
                            f"{NAMED}")


def _put_back(tensor, before):
    if _same(tensor.detach(), before):
        return False
    with torch.no_grad():
        tensor.copy_(before)
    return True
