"""A curve over checkpoints is `measure` at each of them, and leads to stages."""

import numpy as np
import pytest
import torch
from torch import nn

import devlib
from companion.known.answers import quadratic_chain_mean
from devlib.checkpoints import CheckpointStore
from devlib.errors import UnsoundPoints, UserError
from devlib.llc import default_nbeta
from devlib.own.measure import GAMMA
from devlib.sampling import SGLD

OPTIONS = {"chains": 2, "eps": 1e-3, "cap_draws": 40}
DATA = torch.zeros(64, 1, dtype=torch.float64)


class Bowl(nn.Module):
    """1/2 h (w - w0)^2 in each of two directions, at w0. The curvature is a buffer, which each
    checkpoint has its own of."""

    def __init__(self, h=1.0):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.register_buffer("h", torch.tensor(h, dtype=torch.float64))

    def forward(self, x):
        return (0.5 * self.h * (self.w - 1).square()).sum().expand(len(x)) + self.h


def loss(model, batch):
    return model(batch)


def states(curvatures):
    return {10 ** k: Bowl(h).state_dict() for k, h in enumerate(curvatures)}


def test_each_row_is_exact_and_has_its_health():
    model = Bowl(3.0).train()
    curve = devlib.llc_curve(model, states((200.0, 10.0)), DATA, loss=loss, eps=1e-3, chains=8,
                             cap_draws=400, precision=0.05, health=False)
    assert model.training and float(model.h) == 3
    assert list(curve.table.columns) == [
        "step", "loss", "loss_se", "llc", "mcse", "ess", "rhat", "step_bias", "step_bias_mcse",
        "slope_share", "saddle", "meet", "reached", "health", "eps", "draws"]
    assert curve.table[["step_bias", "slope_share"]].isna().all(axis=None)
    sampler = SGLD(1e-3, default_nbeta(64), GAMMA)
    for row, h in zip(curve.table.itertuples(), (200.0, 10.0), strict=True):
        assert row.loss == h and row.loss_se == 0
        assert row.ess >= 200
        assert abs(row.llc - quadratic_chain_mean((h, h), sampler)) < 4 * row.mcse
        assert row.reached == (row.meet and row.mcse <= 0.05 * row.llc)


def test_each_row_has_its_step_bias_which_counts():
    """Against the exact mean at twice the step; at h = 200 twice the step diverges."""
    curve = devlib.llc_curve(Bowl(), states((200.0, 20.0, 10.0)), DATA, loss=loss, eps=1e-3,
                             chains=8, cap_draws=400, precision=0.3)
    steep, *others = curve.table.itertuples()
    assert steep.step_bias > 1e6 and not steep.reached
    for row, h in zip(others, (20.0, 10.0), strict=True):
        at, twice = (quadratic_chain_mean((h, h), SGLD(eps, default_nbeta(64), GAMMA))
                     for eps in (1e-3, 2e-3))
        assert abs(row.step_bias - (twice - at)) < 4 * row.step_bias_mcse
        assert row.slope_share == 0
        assert row.reached == (row.meet and row.llc > 0 and np.hypot(
            np.hypot(row.mcse, row.step_bias), row.step_bias_mcse) <= 0.3 * row.llc)
    words = curve.table.health
    assert ((words == "") == curve.table.reached).all()
    assert set(words) <= {"", "imprecise", "two regimes"}


def test_it_is_measure_at_each_checkpoint():
    curve = devlib.llc_curve(Bowl(), states((200.0, 10.0)), DATA, loss=loss, **OPTIONS)
    alone = devlib.measure(Bowl(10.0), DATA, loss=loss, **OPTIONS)
    kept = alone.draws.losses[:, alone.draws.burn_in:]
    assert curve.table.llc[1] == pytest.approx(
        default_nbeta(64) * (kept - alone.draws.init_loss).mean(), rel=1e-9)


def test_one_step_size_for_all_is_that_of_the_steepest():
    curve = devlib.llc_curve(Bowl(), states((1.0, 200.0)), DATA, loss=loss, chains=1, cap_draws=16)
    steep = devlib.measure(Bowl(200.0), DATA, loss=loss, chains=1, cap_draws=16)
    assert (curve.table.eps == steep.draws.sampler.eps).all()


def test_a_checkpoint_where_chains_diverge_stays_in_the_table():
    curve = devlib.llc_curve(Bowl(), states((1e5, 1.0)), DATA, loss=loss,
                             **OPTIONS | {"cap_draws": 200})
    assert np.isnan(curve.table.llc[0]) and not curve.table.reached[0]
    assert curve.table.health[0] == "diverged"
    assert np.isfinite(curve.table.llc[1])
    assert "0 of them at the precision" in str(curve) or "1 of them at the precision" in str(curve)


def test_stages_of_a_curve(tmp_path):
    """From a store, whose steps come in order; the table feeds find_stages as it is."""
    store = CheckpointStore(tmp_path, {"toy": 1})
    for step, h in enumerate((10.0, 50.0, 50.0, 200.0, 400.0)):
        store.save(step * 100, Bowl(h).state_dict())
    curve = devlib.llc_curve(Bowl(), store, DATA, loss=loss, **OPTIONS)
    assert list(curve.table.step) == [0, 100, 200, 300, 400]
    with pytest.warns(UnsoundPoints, match="of 5 estimates, between steps"):  # 40 draws
        smoothed, boundaries, table = curve.stages()
    assert len(smoothed.mean) == 5 and len(table) == len(boundaries) + 1
    assert (table.start[0], table.end.iloc[-1]) == (0, 400)


@pytest.mark.parametrize("checkpoints, match", [
    ({}, "there are no checkpoints"), (3, "checkpoints must map steps to state dicts"),
    ({1: nn.Linear(2, 2)}, "step 1 is no state dict, but a Linear"),
    ({1: {}}, "not of this model: it needs w of shape .2,., and has none"),
    ({5: {"w": torch.zeros(3)}}, r"step 5 is not of this model.*has shape \(3,\)"),
    ([(1, Bowl().state_dict())] * 2, "step 1 stands twice")])
def test_what_is_refused(checkpoints, match):
    with pytest.raises(UserError, match=match):
        devlib.llc_curve(Bowl(), checkpoints, DATA, loss=loss, **OPTIONS)
