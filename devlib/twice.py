"""Losses that are differentiated twice: which kernels can be, and whether hand-written ones are."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from devlib.errors import UserError
from devlib.sampling.model import Layout


def second_derivatives():
    """A context in which torch's scaled_dot_product_attention has second derivatives: written out
    in products and a softmax. Its fused kernels, the default, have none."""
    return sdpa_kernel(SDPBackend.MATH)


def check_product(loss, params, data, make):
    """Tries a Hessian's product on two samples, before any work.

    `make(loss, layout, w, batch)` gives v -> H v. Where the graph of the loss holds a hand-written
    backward (torch.autograd.Function), which may lose its second derivative without a word, the
    product has to equal the difference quotient of gradients that are not themselves
    differentiated. Raises UserError, with what to do, if there is no product or another one.
    """
    layout, few = Layout.of(params), tuple(part[:2] for part in data)
    w = layout.flatten(params)

    def value(w):
        return loss(layout.unflatten(w), few).mean()

    written = _hand_written(value, w)
    v = torch.arange(len(w), device=w.device).add(1).double().cos().to(w.dtype)
    try:
        product = make(loss, layout, w, few)(v)
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        if "setup_context" in words:
            raise UserError("the loss holds a torch.autograd.Function without setup_context, which "
                            "torch.func cannot take: take keep_graph=True") from error
        raise UserError(f"the loss has no second derivative ({words}): {_instead(written)}"
                        ) from error
    if written and product.isfinite().all() and not any(
            _agrees(product, value, w, v, power) for power in (1 / 3, 1 / 2)):
        names = ", ".join(sorted({function.__name__ for function in written}))
        raise UserError(f"the hand-written backward of {names} is right for gradients, and wrong "
                        f"when it is differentiated: {_instead(written)}")


def _instead(written) -> str:
    """What to take in place of these functions; one may say so itself."""
    own = [function.instead for function in written if hasattr(function, "instead")]
    return own[0] if own else "write it in torch's own operations, without a backward by hand"


def _hand_written(value, w) -> list:
    """The torch.autograd.Functions in the graph of value(w)."""
    root = value(w.clone().requires_grad_()).grad_fn
    waiting, seen, found = [root], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.append(type(node)._forward_cls)
    return found


def _agrees(product, value, w, v, power) -> bool:
    """Whether H v is the quotient, to a tenth: a wrong one is off by its whole size, and the
    quotient of a loss with kinks is itself no better. The step is a power of the rounding."""
    rounding = torch.finfo(w.dtype).eps
    step = rounding**power * max(1.0, float(w.double().square().mean().sqrt()))
    up, down = (_gradient(value, w + sign * step * v) for sign in (1, -1))
    quotient = (up - down) / (2 * step)
    noise = 10 * rounding * torch.maximum(up.norm(), down.norm()) / step
    away = (product.double() - quotient).norm()
    return bool(away <= torch.maximum(product.double().norm(), quotient.norm()) / 10 + noise)


def _gradient(value, w):
    w = w.clone().requires_grad_()
    return torch.autograd.grad(value(w), w)[0].double()
