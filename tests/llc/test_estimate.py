"""The estimate, its error, its trace and its warnings."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from llc_gates import assert_within, estimate

from companion.known.answers import mean_model_chain_mean, quadratic_chain_mean
from companion.known.potentials import MeanModel, Powers
from devlib.errors import UserError
from devlib.llc import default_nbeta, estimate_llc, llc_trace, scaled_losses
from devlib.llc.calibrate import OK, UNCONVERGED, status
from devlib.sampling import SGLD, sample_chains
from devlib.sampling.draws import Draws, import_arviz

SAMPLER = SGLD(eps=1e-2, nbeta=10.0, gamma=1.0)


def draws_of(traces, burn_in=0, baseline=0.0, **more) -> Draws:
    """Draws whose scaled losses are the given traces (C, T)."""
    losses = np.asarray(traces, dtype=float) / SAMPLER.nbeta + baseline
    return Draws(losses, np.full_like(losses, baseline), baseline, SAMPLER, burn_in, 10, 0, **more)


def noise(chains, length, seed=0, correlation=0.0, mean=0.0):
    """Stationary AR(1) traces (C, T) of unit variance."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, length))
    x[:, 0] = rng.standard_normal(chains)
    for t in range(1, length):
        x[:, t] = correlation * x[:, t - 1] + math.sqrt(1 - correlation**2) * rng.standard_normal(
            chains)
    return x + mean


def model(**more):
    rng = np.random.default_rng(0)
    return MeanModel.make(rng.normal(size=(200, 3)), **more)


# ------------------------------------------------------------------------ estimate and its error


def test_estimate_is_the_mean_after_burn_in():
    traces = noise(4, 200, mean=3.0)
    traces[:, :50] += 100
    found = estimate_llc(draws_of(traces, burn_in=50, baseline=2.0))
    arviz = import_arviz()
    assert found.mean == pytest.approx(traces[:, 50:].mean())
    assert found.chain_means == pytest.approx(traces[:, 50:].mean(1))
    assert found.mcse == pytest.approx(np.asarray(arviz.mcse(traces[:, 50:])).item())
    assert found.rhat == pytest.approx(np.asarray(arviz.rhat(traces[:, 50:])).item())
    assert found.mcse == pytest.approx(traces[:, 50:].std(ddof=1) / math.sqrt(found.ess))
    assert found.init_loss == 2.0
    assert f"{found.mean:.2f} +- {found.mcse:.2f}" in str(found)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_mcse_is_the_error_that_happens(correlation):
    """Over independent repetitions, error / MCSE has the spread of a standard normal."""
    found = [estimate_llc(draws_of(noise(4, 300, seed, correlation))) for seed in range(100)]
    z = np.array([one.mean / one.mcse for one in found])
    assert abs((z**2).mean() - 1) < 4 * (z**2).std() / math.sqrt(len(z))


def test_small_estimates_show_their_digits():
    text = str(estimate_llc(draws_of(1e-4 * noise(4, 200, mean=5.0))))
    mean, mcse = text.split()[1], text.split()[3]
    assert len(mean) == len(mcse) and len(mcse.lstrip("0.")) == 2  # two digits of the error


def test_single_chain_is_halved_for_rhat():
    steady, drifting = noise(1, 400), noise(1, 400) + np.linspace(0, 5, 400)
    assert estimate_llc(draws_of(steady)).rhat < 1.05 < estimate_llc(draws_of(drifting)).rhat


def test_too_few_draws_have_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_llc(draws_of(noise(2, 7)))
    assert math.isfinite(found.mean)
    assert all(map(math.isnan, (found.mcse, found.ess, found.rhat)))


def test_nothing_moved():
    toy = Powers("unused", (0.0, 0.0), (2, 2))
    found, draws = estimate(toy, SAMPLER, chains=2, draws=30, burn_in=0)
    assert (found.mean, found.mcse, found.init_loss) == (0.0, 0.0, 0.0)
    assert draws.burn_in == 0


    assert math.isnan(found.ess) and math.isnan(found.rhat)  # of no spread there is none
    assert status(dataclasses.replace(draws, burn_in=0)) == OK


@pytest.mark.parametrize("distances", [None, np.zeros((4, 200)), np.ones((4, 200)).cumsum(1)])
def test_draws_that_are_all_equal_are_no_estimate(distances):
    """A frozen chain, one that nothing is known of, and one at rest on a ceiling of its loss."""
    draws = draws_of(np.full((4, 200), 3.0), distances=distances)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_llc(draws)
    assert found.mean == pytest.approx(3.0)
    assert all(map(math.isnan, (found.mcse, found.ess, found.rhat)))
    assert status(draws) == UNCONVERGED


def test_a_step_below_the_rounding_of_the_weights_is_no_estimate():
    """It is refused before the first draw; and draws that stayed at w0 would be no estimate."""
    toy = MeanModel.make(np.ones((10, 2)), w0=[1.0, 1.0])
    with pytest.raises(UserError, match="rounding of the parameters in float64 swallows"):
        estimate(toy, SGLD(1e-40, 10, 1), chains=2, draws=50, warn=False)
    draws = draws_of(np.zeros((2, 50)), distances=np.zeros((2, 50)))
    found = estimate_llc(draws)
    assert found.mean == 0 and math.isnan(found.mcse) and status(draws) == UNCONVERGED


def test_negative_estimate_is_reported():
    """From a point away from the minimum the exact answer is below zero."""
    away = model(w0=[0.4, -0.5, 0.3])
    sampler = SGLD(eps=1e-2, nbeta=20, gamma=5)
    reference = mean_model_chain_mean(away, sampler, 20)
    assert reference < 0
    found, _ = estimate(away, sampler, draws=500, burn_in=200, batch_size=20)
    assert_within(found, reference)


def test_both_baselines_agree_and_the_same_batch_is_quieter():
    """Each within its error of the exact answer. The noise that the same batch takes away is that
    of L_m(w0), so it shows where that noise is most of the spread."""
    toy, sampler = model(), SGLD(eps=1e-2, nbeta=20, gamma=1)
    _, draws = estimate(toy, sampler, draws=500, burn_in=150, batch_size=5)
    reference = mean_model_chain_mean(toy, sampler, 5)
    same, whole = (estimate_llc(draws, name) for name in ("same-batch", "whole-set"))
    assert_within(same, reference)
    assert_within(whole, reference)
    assert same.mcse < whole.mcse
    spread = [scaled_losses(draws, name).var() for name in ("same-batch", "whole-set")]
    assert spread[0] < spread[1] / 2


def test_unknown_baseline():
    with pytest.raises(UserError, match="same-batch, whole-set"):
        estimate_llc(draws_of(noise(2, 20)), "first-draw")


def test_default_nbeta():
    assert default_nbeta(100) == pytest.approx(21.7, abs=0.05)  # A.4.1
    for bad in (1, 0, 2.5, "100"):
        with pytest.raises(UserError, match="batch_size"):
            default_nbeta(bad)


def test_a_module_of_ones_own():
    """Any nn.Module and loss, in ten lines: three inputs and one that is always zero. L is
    quadratic, so the answer on the whole set is known."""
    gen = torch.Generator().manual_seed(0)
    xs = torch.randn(1024, 4, generator=gen) * torch.tensor([1.0, 1.0, 1.0, 0.0])
    linear = torch.nn.Linear(4, 1, bias=False)
    ys = linear(xs).detach()

    def loss(params, batch):
        x, y = batch
        return (torch.func.functional_call(linear, params, (x,)) - y).square()[:, 0] / 2

    sampler = SGLD(eps=8e-3, nbeta=default_nbeta(128), gamma=1.0)
    draws = sample_chains(loss, dict(linear.named_parameters()), (xs, ys), sampler, chains=16,
                          draws=800, seed=0)
    curvatures = np.linalg.eigvalsh(xs.T @ xs / len(xs)).clip(min=0)
    assert_within(estimate_llc(draws), quadratic_chain_mean(curvatures, sampler))


# ------------------------------------------------------------------- the distance, and locality


def test_the_r_hat_of_the_distance_is_that_of_the_same_draws():
    distances = noise(4, 200, seed=1) ** 2
    distances[:, :80] += 100
    found = estimate_llc(draws_of(noise(4, 200), burn_in=30, distances=distances))
    assert found.distance_rhat == pytest.approx(
        np.asarray(import_arviz().rhat(distances[:, 30:])).item())
    assert found.distance_rhat > 1.05 > found.rhat
    assert found.distance_burn_in >= 80


def test_locality_of_a_quadratic_is_exact():
    """Of 1/2 h (w - c)^2 from its minimum: the chain's loss is L(w0) + llc / nbeta; a predictor
    of 0 has the loss 1/2 h c^2 more."""
    toy, sampler = MeanModel.make(np.full((20, 3), 2.0)), SGLD(eps=1e-2, nbeta=20, gamma=4)
    found, draws = estimate(toy, sampler, draws=300, burn_in=50, warn=False)
    chain = quadratic_chain_mean((1.0, 1.0, 1.0), sampler) / 20
    assert found.init_loss == 0
    assert abs(found.chain_loss - chain) < 4 * found.mcse / 20
    assert found.chain_loss == pytest.approx(draws.losses[:, 50:].mean())
    assert found.retained(6.0) == pytest.approx(1 - found.chain_loss / 6)
    assert found.retained(found.chain_loss) == pytest.approx(0)
    assert found.spring_ratio == pytest.approx(0.5 / 2)  # sd 1/2 over weights of 2
    for bad in (0.0, -1.0, math.nan, "zero"):
        with pytest.raises(UserError, match="reference_loss must be"):
            found.retained(bad)


@pytest.mark.parametrize(("gamma", "rms", "ratio"), [
    (4.0, 2.0, 0.25), (0.0, 2.0, math.inf), (4.0, 0.0, math.inf)])
def test_the_spring_beside_the_weights(gamma, rms, ratio):
    draws = dataclasses.replace(draws_of(noise(2, 50)), weight_rms=rms,
                                sampler=SGLD(1e-2, 10, gamma))
    assert estimate_llc(draws).spring_ratio == ratio
    assert math.isnan(estimate_llc(draws_of(noise(2, 50))).spring_ratio)


# ------------------------------------------------------------------------------- trace, escapes


def test_trace_is_the_estimate_so_far():
    draws = draws_of(noise(3, 40))
    trace = llc_trace(draws)
    for t in (0, 1, 17, 39):
        assert trace[:, t] == pytest.approx(scaled_losses(draws)[:, :t + 1].mean(1))
    assert trace[:, -1] == pytest.approx(estimate_llc(draws).chain_means)


def test_a_chain_that_slides_downhill_is_flagged():
    """On purpose: from the shoulder of a potential without a bottom nearby, hardly localised."""
    def slope(params, batch):
        return (-params["w"].sum() + 0.01 * params["w"].square().sum()).expand(len(batch[0]))

    params = {"w": torch.zeros(2, dtype=torch.float64)}
    draws = sample_chains(slope, params, (torch.zeros(1),), SGLD(1e-2, 20, 0.01), chains=4,
                          draws=300, seed=0)
    found = estimate_llc(draws)
    assert found.escaping == (0, 1, 2, 3)
    assert found.mean < 0
    assert "escaping chains [0, 1, 2, 3]" in str(found)
    held = sample_chains(slope, params, (torch.zeros(1),), SGLD(1e-4, 20, 1e4), chains=4,
                         draws=300, burn_in=100, seed=0)
    assert estimate_llc(held).escaping == ()  # enough localisation holds it


def test_one_of_four_escapes():
    traces = noise(4, 400, correlation=0.5, mean=2.0)
    traces[2] -= np.maximum(0, np.arange(400) - 100) / 40
    assert estimate_llc(draws_of(traces)).escaping == (2,)
    lost = draws_of(traces, diverged={0: 0})
    assert estimate_llc(lost).escaping == (2,)  # its own number, with chain 0 left out


@pytest.mark.parametrize("mean", [0.0, -1.0])
def test_steady_chains_are_not_flagged(mean):
    """Neither around zero nor below it: negative alone is no escape."""
    flagged = [estimate_llc(draws_of(noise(4, 400, seed, 0.5, mean))).escaping
               for seed in range(25)]
    assert sum(map(len, flagged)) <= 1  # of 100; four standard errors
