"""SGLD with the mean of two noises: the exact answers at steps where plain SGLD is far off."""

import numpy as np
import pytest
import torch
from llc_gates import assert_within, estimate, mean_and_mcse

from companion.known.answers import chain_moments, network_draws, quadratic_chain_mean
from companion.known.potentials import LinearNetwork, MeanModel, Monomial, Powers, quadratic
from devlib.errors import UserError
from devlib.llc import default_nbeta, estimate_llc
from devlib.llc.calibrate import calibrate
from devlib.llc.health import mala_acceptance
from devlib.sampling import SGLD, Chains, Draws, SmoothedSGLD, sample_chains, sgld_step
from devlib.sampling.streams import Random

CURVATURES = (1.0, 4.0, 16.0, 0.0)
NBETA = 20.0
KAPPA = NBETA * np.array(CURVATURES) + 1
EXACT = (NBETA * np.array(CURVATURES) / KAPPA).sum() / 2  # of the continuous process, gamma = 1


def problem(model):
    return model.loss, model.params, model.data


@pytest.mark.parametrize("share", [0.5, 2.0, 3.0])
def test_a_quadratic_has_no_step_bias_up_to_the_stable_step(share):
    """T1: eps kappa = 3 in the steepest direction, where plain SGLD has four times the variance."""
    sampler = SmoothedSGLD(share / KAPPA.max(), NBETA, 1)
    found, _ = estimate(quadratic(CURVATURES), sampler, draws=2500, burn_in=1000)
    assert_within(found, EXACT)
    plain = quadratic_chain_mean(CURVATURES, SGLD(sampler.eps, NBETA, 1))
    assert plain - EXACT > 4 * found.mcse


def test_against_a_plain_loop():
    model = MeanModel.make(np.random.default_rng(0).normal(size=(9, 3)), (1.0, 2.0, 4.0))
    sampler = SmoothedSGLD(5e-3, 20, 1)
    run = Chains(*problem(model), sampler, chains=2, batch_size=4, compile=False)
    for draws in (1, 5):  # and the last noise is kept between the parts
        run.extend(draws)
    random, w, last = Random(run, [1]), torch.as_tensor(model.w0), 0
    for t in range(6):
        indices, noise = random.at(t)
        x = torch.as_tensor(model.xs)[indices[0]]
        h = torch.as_tensor(model.curvatures)
        loss = float((h * (w - x) ** 2).sum(1).mean()) / 2
        assert run.draws(0).losses[1, t] == pytest.approx(loss)
        w = sgld_step(w, (h * (w - x)).mean(0), torch.as_tensor(model.w0),
                      (noise[0] + last) / 2, sampler)
        last = noise[0]


def test_a_quartic():
    """T2: the bias is of second order; at this step plain SGLD's shows, and its does not."""
    toy = Powers("quartic", (1.0,), (4,))
    smoothed, _ = estimate(toy, SmoothedSGLD(0.1, 1.0, 0.0), draws=1500, burn_in=500)
    assert_within(smoothed, 1 / 4)
    assert chain_moments(toy, SGLD(0.1, 1.0, 0.0))[0] - 1 / 4 > 4 * smoothed.mcse


def test_a_crossing():
    """T3, localised: the published value."""
    toy = Monomial("crossing", (1, 1))
    found, _ = estimate(toy, SmoothedSGLD(1e-3, 100, 1.0), draws=4000, burn_in=1500)
    assert_within(found, 0.3542)


def test_reduced_rank_regression():
    """T4, by minibatches: what is left is their noise, which the step bias sees."""
    network = LinearNetwork((5, 3, 4), 1)
    nbeta = default_nbeta(128)
    truth = mean_and_mcse(network_draws(network, nbeta, 1.0, draws=1000))
    options = {"chains": 16, "batch_size": 128, "draws": 2500, "burn_in": 500, "vectorised": True,
               "health": True, "warn": False}
    smoothed, plain = (estimate_llc(sample_chains(*problem(network), kind(3e-3, nbeta, 1.0),
                                                  **options)) for kind in (SmoothedSGLD, SGLD))
    assert abs(smoothed.mean - truth[0]) < 2 * np.hypot(smoothed.error, truth[1])
    assert abs(smoothed.step_bias) < plain.step_bias - 4 * plain.step_bias_mcse


def test_it_is_kept(tmp_path):
    toy, sampler = quadratic(CURVATURES), SmoothedSGLD(1e-3, NBETA, 1)
    run = Chains(*problem(toy), sampler, chains=2, compile=False)
    run.extend(5)
    run.save(tmp_path / "chains")
    again = Chains.load(tmp_path / "chains", *problem(toy), sampler)
    for chains in (run, again):
        chains.extend(5)
    np.testing.assert_array_equal(run.draws(0).losses, again.draws(0).losses)
    run.draws(0).save(tmp_path / "draws.nc")
    assert Draws.read(tmp_path / "draws.nc").sampler == sampler
    with pytest.raises(UserError, match="no proposal of Metropolis"):
        mala_acceptance(run)


def test_calibrate_finds_a_larger_step_for_it():
    """By the whole set it has no bias to shorten the step for."""
    toy = quadratic((1.0, 2.0, 4.0))
    options = {"batch_size": 50, "nbeta": NBETA, "eps": (2e-2, 1e-2, 4e-3, 2e-3),
               "gammas": (1.0,), "precision": 0.1, "cap_draws": 6000, "chains": 16}
    found = {kind: calibrate(*problem(toy), kind=kind, **options) for kind in (SGLD, SmoothedSGLD)}
    assert isinstance(found[SmoothedSGLD].sampler, SmoothedSGLD)
    assert found[SmoothedSGLD].sampler.eps > found[SGLD].sampler.eps
