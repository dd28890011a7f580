"""Recorded steps give the bits of those that torch.func takes one by one (devlib.fast.recorded)."""

import pytest
import torch
from torch.func import vmap

from devlib import fast
from devlib.sampling import SGLD, RMSpropSGLD, sample_chains

MORE = fast.RECORD_AFTER + 60
DATA = (torch.randn(256, 3, generator=torch.Generator().manual_seed(0)),)
W0 = {"first": torch.full((3, 4), 0.3), "second": torch.full((4,), -0.2)}


def bowl(params, batch):
    return (torch.tanh(batch[0] @ params["first"]) @ params["second"]).square()


@pytest.fixture
def recordings(monkeypatch):
    """Counts what was recorded."""
    from torch.fx.experimental import proxy_tensor

    made, make_fx = [], proxy_tensor.make_fx
    monkeypatch.setattr(proxy_tensor, "make_fx",
                        lambda function: made.append(function) or make_fx(function))
    return made


def chains(loss, sampler, draws=MORE, **options):
    return sample_chains(loss, W0, DATA, sampler, chains=3, draws=draws, seed=4, warn=False,
                         **{"batch_size": 16, "burn_in": 0, "vectorised": True} | options)


@pytest.mark.parametrize("options", [{}, {"mask": {"second": True}}, {"batch_size": None},
                                     {"health": True}], ids=str)
@pytest.mark.parametrize("sampler", [SGLD(1e-3, 20, 10), RMSpropSGLD(1e-3, 20, 10)],
                         ids=["SGLD", "RMSprop"])
def test_a_recorded_run_has_the_bits_of_one_that_is_not(recordings, monkeypatch, sampler, options):
    found = chains(bowl, sampler, **options)
    assert recordings
    monkeypatch.setattr(fast, "RECORD_AFTER", -1)
    expected = chains(bowl, sampler, **options)
    for name in ("losses", "baseline", "distances", "doubled", "descent"):
        ours, other = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (other is None)
        assert ours is None or ours.tobytes() == other.tobytes(), name


def test_what_a_loss_holds_may_change_between_runs():
    """A recording is one run's: the next one asks the loss again."""
    held = {"scale": 1.0}

    def scaled(params, batch):
        return held["scale"] * bowl(params, batch)

    first = chains(scaled, SGLD(1e-3, 20, 10))
    held["scale"] = 2.0
    second = chains(scaled, SGLD(1e-3, 20, 10))
    assert second.losses[:, -1] == pytest.approx(
        chains(lambda *a: 2.0 * bowl(*a), SGLD(1e-3, 20, 10)).losses[:, -1], rel=1e-12)
    assert (second.losses[:, 0] == 2 * first.losses[:, 0]).all()


def test_a_loss_that_cannot_be_recorded_runs_as_it_did(recordings):
    def stubborn(params, batch):
        if recordings:
            raise RuntimeError("not while it is recorded")
        return bowl(params, batch)

    def step(w):
        return (stubborn({"first": w.view(3, 4), "second": W0["second"]}, DATA).mean(),)

    plain = vmap(step)
    function, w = fast.recorded(plain), torch.rand(2, 12)
    expected = plain(w)[0]
    for _ in range(fast.RECORD_AFTER - 1):
        function(w)
    with pytest.raises(RuntimeError, match="not while"):
        function(w)  # the recording failed without a word; the call itself says what is wrong
    recordings.clear()
    assert torch.equal(function(w)[0], expected)


def test_short_runs_are_not_recorded(recordings):
    chains(bowl, SGLD(1e-3, 20, 10), draws=fast.RECORD_AFTER - 10)
    assert not recordings
