"""What looks at chains while they run, and their baseline without a pass over the set."""

import numpy as np
import pytest
import torch

from devlib.errors import UserError
from devlib.llc import estimate_llc, scaled_losses
from devlib.sampling import SGLD, Chains, sample_chains

GEN = torch.Generator().manual_seed(0)
DATA = tuple(torch.randn(40, k, generator=GEN, dtype=torch.float64) for k in (3, 1))
PARAMS = {"w": torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64),
          "b": torch.zeros(1, dtype=torch.float64)}
SAMPLER = SGLD(1e-2, 10.0, 1.0)
MASK = {"w": torch.tensor([[True, False, True]])}


def loss(params, batch):
    return (batch[0] @ params["w"].T + params["b"] - batch[1]).square().sum(-1)


def chains(**options):
    return Chains(loss, PARAMS, DATA, SAMPLER, **{"chains": 2, "batch_size": 5, "compile": False}
                  | options)


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("mask", [None, MASK])
def test_a_callback_sees_the_place_where_the_loss_is_read(vectorised, mask):
    """At every third draw, counted over all extensions; and it changes no number."""
    run, plain = (chains(vectorised=vectorised, mask=mask) for _ in range(2))
    seen = {}

    def keep(chain, draw, params):
        seen[chain, draw] = sum(float((params[name] - PARAMS[name]).square().sum())
                                for name in PARAMS)
        assert params["w"].shape == (1, 3) and (mask is None or params["b"] == 0)

    run.extend(7, callback=keep, every=3)
    run.extend(6, callback=keep, every=3)
    plain.extend(13)
    draws = run.draws(0)
    assert sorted(seen) == [(chain, draw) for chain in (0, 1) for draw in (0, 3, 6, 9, 12)]
    for (chain, draw), distance in seen.items():
        assert distance == pytest.approx(draws.distances[chain, draw], rel=1e-9, abs=1e-15)
    assert np.array_equal(draws.losses, plain.draws(0).losses)


def test_a_chain_that_diverged_calls_nothing_back():
    run, seen = Chains(loss, PARAMS, DATA, SGLD(10.0, 10.0, 1.0), chains=1, batch_size=5,
                       compile=False, vectorised=True), []
    run.extend(600, callback=lambda chain, draw, params: seen.append(draw))
    assert run.draws(0).diverged and len(seen) < 600


@pytest.mark.parametrize("vectorised", [False, True])
def test_the_baseline_of_the_drawn_batches(vectorised):
    """It is the loss of w0 on each batch, and its mean that of the set within its error."""
    whole, drawn = (chains(vectorised=vectorised, init_losses=given) for given in (None, "drawn"))
    for run in (whole, drawn):
        run.extend(50)
    one, other = whole.draws(0), drawn.draws(0)
    assert np.array_equal(one.losses, other.losses)
    np.testing.assert_allclose(other.baseline, one.baseline, rtol=1e-12)
    assert one.init_loss_se == 0 and other.init_loss_se == pytest.approx(
        other.baseline.std(ddof=1) / 10)
    assert abs(other.init_loss - one.init_loss) < 4 * other.init_loss_se
    assert estimate_llc(other).mean == pytest.approx(estimate_llc(one).mean, rel=1e-9)
    with pytest.raises(UserError, match="no pass over the whole set"):
        scaled_losses(other, "whole-set")


def test_no_pass_over_the_set_is_made():
    seen = set()

    def watched(params, batch):
        seen.update(batch[2].tolist())
        return loss(params, batch)

    data = tuple(part.repeat(100, 1) for part in DATA)
    sample_chains(watched, PARAMS, (*data, torch.arange(4000)), SAMPLER, chains=1, draws=20,
                  batch_size=5, init_losses="drawn", vectorised=False, warn=False)
    assert 20 < len(seen) <= 20 * 5 + 16 + 5  # drawn, tested, and of the first batch


def test_the_error_is_kept_with_the_draws(tmp_path):
    draws = sample_chains(loss, PARAMS, DATA, SAMPLER, chains=2, draws=20, batch_size=5,
                          init_losses="drawn", warn=False)
    draws.save(tmp_path / "draws.nc")
    assert type(draws).read(tmp_path / "draws.nc").init_loss_se == draws.init_loss_se > 0


@pytest.mark.parametrize("options, match", [
    ({"init_losses": "draw"}, "init_losses must be a tensor, or 'drawn'"),
    ({"init_losses": "drawn", "batch_size": None}, "where there is a batch_size")])
def test_what_is_refused(options, match):
    with pytest.raises(UserError, match=match):
        chains(**options)
    with pytest.raises(UserError, match="every must be a whole number"):
        chains().extend(3, every=0)
