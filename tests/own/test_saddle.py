"""A saddle without slope, which neither the slope nor the chains' spread shows, against its exact
fall: of curvature h, -(nbeta h / gamma + 1) / 2 at the spring's sd, and nearer by the square."""

import math

import pytest
import torch
from torch import nn

import devlib
from devlib.own.saddle import DISTANCES, fall_both_ways
from devlib.sampling import SGLD, Chains

DATA = torch.zeros(64, 1, dtype=torch.float64)
NBETA, GAMMA = 15.0, 100.0


def value(model, batch):
    return model(batch)


class Saddle(nn.Module):
    """1/2 sum_i h_i w_i^2 at 0, and a quartic that turns it up far away; per sample the same, or
    with a slope that differs and is 0 in the mean."""

    def __init__(self, h, quartic=0.0, noise=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(h), dtype=torch.float64))
        self.h, self.quartic, self.noise = torch.tensor(h), quartic, noise

    def forward(self, x):
        base = (0.5 * self.h * self.w.square() + self.quartic * self.w.pow(4)).sum()
        return base + self.noise * self.w.sum() * x[:, 0]


def loss(model):
    return lambda params, batch: torch.func.functional_call(model, params, batch)


def fall(model, data=DATA, mask=None, **options):
    run = Chains(loss(model), dict(model.named_parameters()), (data,),
                 SGLD(1e-4, NBETA, GAMMA), chains=1, batch_size=32, mask=mask, **options)
    return fall_both_ways(run, 0)


@pytest.mark.parametrize("h", [(20.0, 5.0, 1.0), (20.0, -5.0, 1.0), (20.0, -50.0, -60.0)])
@pytest.mark.parametrize("known", [None, "drawn"])
def test_the_fall_is_exact(h, known):
    found = fall(Saddle(h), init_losses=known)
    assert found == pytest.approx(exact(min(h)))
    assert fall(Saddle(h[1:2]), init_losses=known) == pytest.approx(exact(h[1]))


def exact(h):
    """Where the potential rises, the least of the distances has least of it."""
    at_sd = -(NBETA * h / GAMMA + 1) / 2
    return max(share**2 * at_sd for share in DISTANCES)


def test_wells_nearer_than_the_spring_reaches_are_seen():
    """A bump of width 0.015 on a wall: at the spring's sd, 0.1, only the wall shows."""
    class Bump(Saddle):
        def forward(self, x):
            v = self.w[1]
            return super().forward(x) + (3 * torch.exp(-(v / 0.015)**2 / 2) - 3) / NBETA

    assert fall(Bump((400.0, 400.0))) > 0.2 > 0 > fall(Saddle((400.0, 400.0)))


def test_what_is_held_is_not_looked_at():
    mask = {"w": torch.tensor([True, False, True])}
    found = fall(Saddle((20.0, -50.0, 1.0)), mask=mask)
    assert found == pytest.approx(exact(1.0))


def test_of_drawn_batches_it_is_surely_that_far():
    """The samples' slopes are odd in w and cancel; curvatures that differ count by their error."""
    x = torch.randn(4_096, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisy = Saddle((20.0, -50.0), noise=3.0)
    assert fall(noisy, x, init_losses="drawn") == pytest.approx(fall(noisy, x))

    class Spread(Saddle):
        def forward(self, x):
            return super().forward(x) * (1 + x[:, 0])

    spread = Spread((20.0, -50.0))
    assert fall(spread, x, init_losses="drawn") < fall(spread, x)


def test_a_loss_without_second_derivatives_is_not_known():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context, w):
            context.save_for_backward(w)
            return w.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, slope):
            return 2 * context.saved_tensors[0] * slope

    class Single(Saddle):
        def forward(self, x):
            return Once.apply(self.w).sum() + 0 * x[:, 0]

    assert math.isnan(fall(Single((20.0, -50.0)), vectorised=False))


def test_a_saddle_is_said_beside_the_number():
    options = {"loss": value, "precision": 0.1, "vectorised": True}
    found = devlib.measure(Saddle((20.0, 20.0, -200.0, 20.0), 100.0), DATA, **options)
    assert found.saddle > 5 and "as at a saddle" in str(found)
    table = devlib.llc_curve(Saddle((20.0, 20.0)), {0: {"w": torch.zeros(2).double()}}, DATA,
                             loss=value, cap_draws=16, eps=1e-4).table
    assert table.saddle[0] < 0
    plain = devlib.measure(Saddle((20.0, 20.0)), DATA, health=False, **options)
    assert math.isnan(plain.saddle) and "saddle" not in str(plain)
