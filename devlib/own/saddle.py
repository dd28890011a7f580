"""Whether w0 is a saddle: what neither its slope nor the chains' spread shows."""

import math

import torch

from devlib.devices import move
from devlib.errors import UserError
from devlib.hessian import Hessian, top_eigenpairs
from devlib.rng import generator
from devlib.sampling.chains import Chains
from devlib.sampling.model import CHUNK, per_sample_losses

ANY = 1e6  # of the residual: the direction has to lead downhill, and need be no eigenvector
DISTANCES = 1, 0.5, 0.2, 0.1  # of the spring's sd: wells may be near, and walls beyond them
BATCHES = 4  # looked at of a set that is not passed over


def fall_both_ways(run: Chains, seed) -> float:
    """How far the potential of a run's chains, nbeta L + gamma / 2 |w - w0|^2, falls from w0 to
    both sides, in their mean, along the direction of lowest curvature that Lanczos finds on one
    batch in some twenty products: the most of DISTANCES times the spring's sd, 1 / sqrt(gamma).
    No unit, as the LLC.

    Above 0 the spring holds no chain at w0, a saddle or a shallow minimum: the estimate is that of
    another place. Of a set that is not passed over it is less by four standard errors, which know
    nothing of samples that were not drawn. NaN where the loss has no second derivative. A saddle
    without curvature, as a deep linear network has at 0, is not seen: odd orders cancel, and no
    direction is lowest."""
    gen = generator(seed, "saddle")

    def drawn(count):
        places = torch.randint(len(run.data[0]), (count,), generator=gen)
        return run.batch(move(places, run.data[0].device))

    whole, size = run.init_losses is not None, run.batch_size or len(run.data[0])
    chunk = CHUNK if whole else size  # samples of a set not passed over may be large

    def losses(w, data):
        return per_sample_losses(run.loss, run.params(w), data, chunk).double()

    try:
        away = move(_lowest(run, drawn(size), gen), run.anchor.device).to(run.anchor.dtype)
    except UserError:
        return math.nan
    data = run.data if whole else drawn(BATCHES * size)
    at = run.init_losses if whole else losses(run.anchor, data)

    def fall(distance):
        both = losses(run.anchor + distance * away, data) + losses(run.anchor - distance * away,
                                                                   data)
        rise = both / 2 - at
        surely = float(rise.mean() + (0 if whole else 4 * rise.std() / len(rise)**0.5))
        return -run.sampler.potential(surely, distance**2)

    return max(fall(share / run.sampler.gamma**0.5) for share in DISTANCES)


def _lowest(run, batch, gen):
    """A unit vector (P,) of low curvature, of the weights that move."""
    if run.size == 1:
        return torch.ones(1)

    def loss(params, batch):
        return run.loss(run.params(params["w"]), batch)

    hessian = Hessian(loss, {"w": run.anchor}, batch)
    return torch.as_tensor(top_eigenpairs(-hessian, 1, gen, tolerance=ANY).vectors[:, 0].copy())
