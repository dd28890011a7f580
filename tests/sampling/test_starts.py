"""Where chains begin, how far they go from w0, and how long the spring needs for it."""

import importlib
import math
import re
import warnings

import numpy as np
import pytest
import torch
from llc_gates import estimate, mean_and_mcse

from companion.known.potentials import MeanModel, Powers, quadratic
from companion.places import project_root
from devlib.errors import ShortChains
from devlib.llc.precision import estimate_to_precision
from devlib.sampling import SGLD, Chains, Draws, RMSpropSGLD, sample_chains
from devlib.sampling.sgld import RELAXATIONS

FLAT = Powers("unused", (0.0,) * 50, (2,) * 50)
PLAIN = SGLD(eps=1e-2, nbeta=10.0, gamma=4.0)


def sample(toy=FLAT, sampler=PLAIN, **settings):
    return sample_chains(toy.loss, toy.params, toy.data, sampler,
                         **{"chains": 40, "draws": 60, "burn_in": 0, "vectorised": True,
                            "warn": False, **settings})


# ------------------------------------------------------------------------------ |w - w0|^2


def test_the_distance_of_the_spring_alone_is_exact():
    """Each of the P coordinates has variance eps (1 - a^(2 t)) / (1 - a^2), a = 1 - eps gamma / 2,
    after t steps, and |w_t - w0|^2 over it is chi-squared with P degrees of freedom."""
    distances = sample().distances
    a = 1 - PLAIN.eps * PLAIN.gamma / 2
    assert (distances[:, 0] == 0).all()
    for t in (1, 10, 59):
        variance = PLAIN.eps * (1 - a ** (2 * t)) / (1 - a**2)
        error = variance * math.sqrt(2 * 50 / 40)
        assert abs(distances[:, t].mean() - 50 * variance) < 4 * error


def test_the_distance_of_a_quadratic_is_exact():
    """eps / (1 - (1 - eps kappa / 2)^2) a direction, once stationary."""
    h = np.array((1.0, 4.0, 10.0))
    _, draws = estimate(quadratic(h), PLAIN, draws=400, burn_in=100, warn=False)
    kappa = PLAIN.nbeta * h + PLAIN.gamma
    reference = (1 / (kappa * (1 - PLAIN.eps * kappa / 4))).sum()
    mean, mcse = mean_and_mcse(draws.distances[:, 100:])
    assert abs(mean - reference) < 4 * mcse


def two_layers(params, batch):
    return ((params["a"] ** 2).sum() + (params["b"] ** 2).sum()).expand(len(batch[0]))


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("mask", [None, {"b": torch.arange(6).view(2, 3) > 1}],
                         ids=["all", "a part"])
def test_the_distance_by_layer(vectorised, mask, tmp_path):
    """Of each parameter that moves, by name: they add up, and b alone is a chain of its own."""
    params = {"b": torch.ones(2, 3).double(), "a": torch.zeros(4).double()}
    options = {"chains": 3, "draws": 12, "warn": False, "vectorised": vectorised, "mask": mask}
    data = (torch.zeros(2).double(),)
    draws = sample_chains(two_layers, params, data, PLAIN, by_layer=True, **options)
    assert list(draws.layer_distances) == (["a", "b"] if mask is None else ["b"])
    np.testing.assert_allclose(sum(draws.layer_distances.values()), draws.distances)
    bare = sample_chains(two_layers, params, data, PLAIN, **options)
    np.testing.assert_array_equal(bare.distances, draws.distances)
    assert bare.layer_distances is None
    draws.save(tmp_path / "draws.nc")
    again = Draws.read(tmp_path / "draws.nc")
    for name, part in draws.layer_distances.items():
        np.testing.assert_array_equal(again.layer_distances[name], part)


def test_each_layer_has_its_own_exact_distance():
    """A flat layer goes as far as the spring lets it, one that the loss sees less."""
    params = {"flat": torch.zeros(30).double(), "seen": torch.zeros(20).double()}
    draws = sample_chains(
        lambda p, batch: (2 * (p["seen"] ** 2).sum() + 0 * p["flat"].sum()).expand(len(batch[0])),
        params, (torch.zeros(1),), PLAIN, chains=40, draws=400, burn_in=250, by_layer=True,
        vectorised=True)
    for name, size, kappa in (("flat", 30, 4.0), ("seen", 20, 44.0)):
        mean, mcse = mean_and_mcse(draws.layer_distances[name][:, 250:])
        assert abs(mean - size / (kappa * (1 - PLAIN.eps * kappa / 4))) < 4 * mcse


def test_its_own_burn_in_is_longer_where_the_loss_comes_to_rest_first():
    """Two directions in the loss, at rest after a few draws, and 48 left to the spring."""
    toy = quadratic((10.0, 10.0, *[0.0] * 48))
    draws = sample(toy, burn_in=None, draws=400, chains=8)
    assert draws.burn_in < 40 < draws.distance_burn_in()


# --------------------------------------------------------------------------- the prior's start


@pytest.mark.parametrize("mask", [None, "half"])
def test_the_prior_is_normal_about_w0(mask):
    """|w - w0|^2 gamma is chi-squared over the weights that are free, and the centre is w0."""
    rng = np.random.default_rng(0)
    toy = MeanModel.make(rng.normal(size=(8, 50)), w0=np.full(50, 3.0))
    free = np.arange(50) % 2 == 0 if mask else np.ones(50, dtype=bool)
    options = {} if mask is None else {"mask": {"w": torch.tensor(free)}}
    run = Chains(toy.loss, toy.params, toy.data, PLAIN, chains=400, start="prior", **options)
    apart, size = run.w.numpy() - 3.0, int(free.sum())
    assert apart.shape == (400, size)
    assert abs(apart.mean()) < 4 * (PLAIN.gamma * apart.size) ** -0.5
    squares = PLAIN.gamma * (apart**2).sum(1)
    assert abs(squares.mean() - size) < 4 * (2 * size / 400) ** 0.5
    run.extend(1)
    np.testing.assert_allclose(run.draws(0).distances[:, 0], squares / PLAIN.gamma)


def test_it_is_a_stream_of_its_own_for_each_chain():
    few, many = (sample(start="prior", chains=c, draws=3) for c in (2, 5))
    assert np.array_equal(few.distances, many.distances[:2])
    assert len(np.unique(many.distances[:, 0])) == 5
    assert many.start == "prior" and sample(draws=3).start == "w0"
    other = sample(start="prior", chains=2, draws=3, seed=1)
    assert not np.isin(other.distances[:, 0], few.distances[:, 0]).any()


def test_the_spring_alone_keeps_the_prior():
    """It is where the chains would end: nothing is left to relax, up to O(eps)."""
    distances = sample(start="prior").distances
    stationary = 1 / (PLAIN.gamma * (1 - PLAIN.eps * PLAIN.gamma / 4))
    error = math.sqrt(2 * 50 / 40) * stationary
    assert abs(distances[:, -1].mean() - 50 * stationary) < 4 * error


# ---------------------------------------------------------------------- the spring's relaxation


def test_the_relaxation_of_the_spring():
    assert SGLD(3e-4, 66.7, 20 / 3).relaxation() == pytest.approx(1000)  # the paper's
    assert SGLD(3e-4, 66.7, 0).relaxation() == math.inf
    assert RMSpropSGLD(3e-4, 66.7, 20 / 3, floor=0.1).relaxation() == pytest.approx(100)
    exact = -1 / math.log(1 - 3e-4 * 20 / 3 / 2)  # of the factor of one draw
    assert SGLD(3e-4, 66.7, 20 / 3).relaxation() == pytest.approx(exact, rel=1e-3)


def test_too_few_draws_warn_once_and_before_any_sampling(monkeypatch):
    def stop(self, *arguments):
        raise InterruptedError

    monkeypatch.setattr(Chains, "extend", stop)
    for call in (lambda: sample(draws=249, warn=True),
                 lambda: estimate_to_precision(FLAT.loss, FLAT.params, FLAT.data, PLAIN,
                                               cap_draws=249)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(InterruptedError):
                call()
        (warning,) = [one for one in said if one.category is ShortChains]
        assert str(warning.message) == (
            "249 draws a chain are few: the spring alone relaxes in 2 / (eps gamma) = 50 draws. "
            "Take 250 or more, or a larger eps or gamma")
        assert warning.filename == __file__


@pytest.mark.parametrize("settings", [
    {"draws": 250}, {"draws": 20, "warn": False}, {"draws": 20, "sampler": SGLD(1e-2, 10, 0)}])
def test_enough_draws_or_no_spring_do_not(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortChains)
        sample(**{"warn": True, "chains": 1} | settings)


def test_the_examples_come_to_rest():
    """What the docstring and the guide show takes as many draws as its spring needs."""
    guide = (project_root() / "book" / "use.md").read_text()
    for text in (importlib.import_module("devlib.sampling.sample").__doc__, guide):
        eps, gamma = map(float, re.search(r"SGLD\(eps=(\S+), .*?gamma=([\d.]+)", text).groups())
        draws = int(re.search(r"draws=(\d+)", text).group(1))
        assert draws >= RELAXATIONS * SGLD(eps, 1.0, gamma).relaxation()
