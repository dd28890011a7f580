"""Settings for a model of one's own where none are given."""

import torch

from devlib.errors import UserError
from devlib.hessian import Hessian, top_eigenpairs
from devlib.rng import generator
from devlib.sampling.checked import check_loss
from devlib.sampling.given import problem_of
from devlib.sampling.model import Layout, check_problem, per_sample_losses

STEP = 0.1  # eps times the largest curvature of the potential: 1/40 off, in that direction alone


def curvature_eps(loss, params, data, *, mask=None, nbeta, gamma, batch_size, seed) -> float:
    """A step size for the chain: STEP / (nbeta h + gamma), in two digits, where h is the largest
    eigenvalue of the Hessian on one drawn batch, at w0 or at w0 + N(0, 1 / gamma), whichever is
    steeper.

    In a quadratic direction of curvature k = nbeta h + gamma a chain with the whole set's gradient
    has 1 / (1 - eps k / 4) times its variance: 2.6 % too much in the steepest direction, less in
    all others. Raises UserError, asking for eps, where the loss has no second derivative.
    """
    problem = problem_of(loss, params, data)
    check_problem(problem.params, data)
    check_loss(*problem.parts)  # whose errors are not those of a curvature
    Layout.of(problem.params).indices(problem.mask(mask))  # nor those of a mask
    gen = generator(seed, "curvature")
    if mask is not None:  # of the weights that move, those of a masked tensor in whole
        params = {name: p if torch.as_tensor(mask.get(name, False)).any()
                  else torch.nn.Parameter(p.detach(), requires_grad=False)
                  for name, p in params.items()}
    places = torch.randint(len(data[0]), (batch_size,), generator=gen).to(data[0].device)
    batch = tuple(part[places] for part in data)
    if not per_sample_losses(*problem.parts[:2], batch).isfinite().all():
        raise UserError("the loss of w0 is not finite on every sample; no chain can start: look "
                        "for what is not finite in the data")
    away = {name: p.detach() + (torch.randn(p.shape, generator=gen, dtype=p.dtype)
                                / gamma**0.5).to(p.device) if p.requires_grad else p
            for name, p in params.items()}
    steepest = 0.0
    for point in (params, away):
        try:
            hessian = Hessian(loss, point, batch)
            steepest = max(steepest, _largest(hessian, gen))
        except UserError as error:
            raise UserError(f"no step size was given, and none is found from the curvature "
                            f"({error}): give eps") from error
    return float(f"{STEP / (nbeta * steepest + gamma):.1e}")


def _largest(hessian, gen):
    if hessian.shape[0] == 1:
        return float((hessian @ torch.ones(1).double().numpy())[0])
    return float(top_eigenpairs(hessian, 1, gen, tolerance=0.05).values[0])
