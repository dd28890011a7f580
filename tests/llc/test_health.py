"""The Metropolis acceptance of a chain's own steps, against a plain loop."""

import numpy as np
import pytest
import torch

from companion.known.potentials import MeanModel
from devlib.errors import UserError
from devlib.llc.health import mala_acceptance
from devlib.sampling import SGLD, Chains, RMSpropSGLD
from devlib.sampling.streams import Random

PLAIN = SGLD(eps=2e-2, nbeta=20, gamma=2)
RMS = RMSpropSGLD(eps=2e-2, nbeta=20, gamma=2, decay=0.9, floor=0.5)


def chains(sampler=PLAIN, *, batch_size=4, vectorised=True, count=3, taken=30, w0=None, mask=None):
    xs = np.random.default_rng(0).normal(size=(30, 3))
    model = MeanModel.make(xs, [1.0, 2.0, 5.0], w0)
    run = Chains(model.loss, model.params, model.data, sampler, chains=count, seed=3,
                 batch_size=batch_size, vectorised=vectorised, compile=False, mask=mask)
    if taken:
        run.extend(taken)
    return run, model


def twin(run, model, chain, draws, target):
    """The textbook formula, both densities in full, one step after another."""
    h, w0, sampler = model.curvatures, model.w0, run.sampler
    w = run.w[chain].numpy().copy()
    v, seen = (run.state[chain, :-1].numpy(), 1) if isinstance(sampler, RMSpropSGLD) else (0, 0)
    random, accepted = Random(run, [chain]), []
    for t in range(run.taken, run.taken + draws):
        indices, noise = random.at(t)
        x = model.xs if indices is None else model.xs[indices[0].numpy()]

        def loss_gradient(w, x=x):
            return (h * (w - x)).mean(0)

        def drift(w, g=loss_gradient):
            return sampler.nbeta * g(w) + sampler.gamma * (w - w0)

        def potential(w, x=x if target == "batch" else model.xs):
            return (sampler.nbeta * (h * (w - x) ** 2).sum(1).mean() / 2
                    + sampler.gamma / 2 * ((w - w0) ** 2).sum())

        step = sampler.eps
        if seen:
            v = 0.9 * v + 0.1 * loss_gradient(w) ** 2
            step = sampler.eps / (sampler.floor + np.sqrt(v))

        def log_density(to, at, step=step, drift=drift):
            centre = at - step / 2 * drift(at)
            return -((to - centre) ** 2 / (2 * step)).sum()

        new = w - step / 2 * drift(w) + np.sqrt(step) * noise[0].numpy()
        log_ratio = (potential(w) - potential(new) + log_density(w, new) - log_density(new, w))
        accepted.append(np.exp(min(0.0, log_ratio)))
        w = new
    return accepted


@pytest.mark.parametrize("target", ["batch", "whole-set"])
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("sampler", [PLAIN, RMS], ids=["plain", "rmsprop"])
@pytest.mark.parametrize("vectorised", [False, True])
def test_equals_the_plain_formula(target, batch_size, sampler, vectorised):
    run, model = chains(sampler, batch_size=batch_size, vectorised=vectorised)
    found = mala_acceptance(run, draws=20, target=target)
    expected = [twin(run, model, chain, 20, target) for chain in range(3)]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-9)
    assert found.mean == pytest.approx(np.mean(expected))
    assert 0 < found.mcse < 0.2 and found.target == target


def test_it_only_looks_ahead():
    """The chains stay where they are, and then take the very steps that were judged."""
    run, _ = chains()
    before, state = run.w.clone(), run.taken
    mala_acceptance(run, draws=10)
    assert torch.equal(run.w, before) and run.taken == state
    run.extend(10)
    other, _ = chains()
    other.extend(10)
    assert torch.equal(run.w, other.w)


def test_comes_to_one_with_the_step():
    """A step's loss is of order eps^(3/2): over each tenfold smaller step more than a tenth."""
    lost = [1 - mala_acceptance(chains(SGLD(eps, 20, 2), batch_size=None, count=8)[0],
                                draws=100).mean for eps in (1e-2, 1e-3, 1e-4)]
    assert lost[0] > 10 * lost[1] > 100 * lost[2] > 0


def test_minibatch_noise_costs_acceptance():
    """Against the loss of all samples a step from a small batch looks worse than against its own
    batch; with the whole set there is no difference."""
    own, all_ = (mala_acceptance(chains(batch_size=2, count=8)[0], draws=50, target=target)
                 for target in ("batch", "whole-set"))
    assert own.mean - all_.mean > 4 * np.hypot(own.mcse, all_.mcse)
    own, all_ = (mala_acceptance(chains(batch_size=None)[0], draws=20, target=target)
                 for target in ("batch", "whole-set"))
    np.testing.assert_allclose(own.probabilities, all_.probabilities, rtol=1e-9)


def test_with_a_mask():
    run, model = chains(batch_size=None, mask={"w": torch.tensor([True, False, True])})
    inner = MeanModel.make(model.xs[:, [0, 2]], model.curvatures[[0, 2]], model.w0[[0, 2]])
    expected = [twin(run, inner, chain, 10, "batch") for chain in range(3)]
    np.testing.assert_allclose(mala_acceptance(run, draws=10).probabilities, expected, rtol=1e-9)


def test_a_chain_that_is_gone():
    run, _ = chains(SGLD(eps=1e300, nbeta=20, gamma=2))
    with pytest.raises(UserError, match="every chain diverged"):
        mala_acceptance(run)


@pytest.mark.parametrize(("settings", "words"), [({"draws": 0}, "draws"),
                                                 ({"target": "all"}, "batch, whole-set")])
def test_bad_input(settings, words):
    with pytest.raises(UserError, match=words):
        mala_acceptance(chains(taken=0)[0], **settings)
