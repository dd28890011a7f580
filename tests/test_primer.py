"""The primer's tables: volumes against closed forms, references against the page's examples, and
where results are looked up."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import scipy.integrate

from devlib import primer, results
from devlib.errors import UserError
from devlib.toys import A2_EXAMPLES, FIGURE_2, Monomial, Powers, TwoMinima, quadratic

QUADRATIC, QUARTIC, CROSSING, TWO_MINIMA = FIGURE_2


# ----------------------------------------------------------------------------------- volumes


def test_volume_of_a_quadratic():
    """pi eps for w_1^2 + w_2^2, until the disc is full."""
    levels = np.array([1e-12, 1e-4, 0.1, 1.0])
    expected = math.pi * np.minimum(levels, primer.RADIUS**2)
    assert primer.volumes(QUADRATIC, levels) == pytest.approx(expected, rel=1e-5)


def test_volume_of_an_ellipse():
    assert primer.volumes(quadratic((2, 8)), [1e-3])[0] == pytest.approx(
        math.pi * 1e-3 / 2, rel=1e-6)


def test_volume_of_a_quartic():
    """The area of |x|^4 + |y|^4 < 1, times eps^(1/2)."""
    area = 4 * math.gamma(5 / 4) ** 2 / math.gamma(3 / 2)
    assert primer.volumes(QUARTIC, [1e-8])[0] == pytest.approx(area * 1e-4, rel=1e-5)


@pytest.mark.parametrize("potential", [CROSSING, TWO_MINIMA, Monomial("cross", (1, 1))],
                         ids=lambda potential: potential.name)
def test_volume_against_a_plain_count(potential):
    """A fine grid over the disc, the naive way."""
    axis = np.linspace(-primer.RADIUS, primer.RADIUS, 2001)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    loss = primer_energy(potential, grid)
    inside = (grid**2).sum(-1) <= primer.RADIUS**2
    levels = [1e-6, 1e-4, 1e-3]
    counted = [((loss < level) & inside).sum() * (axis[1] - axis[0]) ** 2 for level in levels]
    assert primer.volumes(potential, levels) == pytest.approx(counted, rel=0.01)


def primer_energy(potential, grid):
    import torch

    return potential.energy(torch.tensor(grid)).numpy()


def test_slopes_are_the_llc():
    """To three digits at losses below 1e-14; less the logarithm's share with multiplicity 2."""
    levels = np.logspace(-16, -14, 9)
    for potential in primer.volume_potentials():
        volume = primer.volumes(potential, levels)
        slope = np.polyfit(np.log(levels), np.log(volume), 1)[0]
        logarithm = -math.log(1e-15)  # with some constant added inside
        gap = (potential.multiplicity - 1) / logarithm
        assert potential.llc - slope == pytest.approx(gap, abs=1e-3 if gap == 0 else 0.1 * gap)


def test_volume_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="two coordinates"):
        primer.volumes(A2_EXAMPLES[0])
    with pytest.raises(UserError, match="falls along a ray"):
        primer.volumes(TwoMinima(), radius=1.0)  # reaches the line of minima
    for bad in ({"radius": 0.0}, {"levels": [0.0]}, {"levels": []}):
        with pytest.raises(UserError, match="above 0"):
            primer.volumes(QUADRATIC, **bad)


@pytest.mark.parametrize("llc", [0.25, 0.5, 1.5])
def test_mean_from_a_power_is_the_power(llc):
    levels = np.logspace(-16, 2, 145)
    for nbeta in (10.0, 1e6):
        assert primer.mean_from_volumes(levels, levels**llc, nbeta) == pytest.approx(llc, rel=1e-3)


def test_mean_from_volumes_equals_the_integral():
    """Over the disc, by scipy in polar coordinates."""
    nbeta = 50.0

    def scaled(r, angle):
        return nbeta * (r * math.cos(angle)) ** 2 * (r * math.sin(angle)) ** 2

    def part(k):
        return scipy.integrate.dblquad(
            lambda r, angle: r * scaled(r, angle) ** k * math.exp(-scaled(r, angle)),
            0, math.pi / 2, 0, primer.RADIUS)[0]

    found = primer.mean_from_volumes(
        primer.LEVELS, primer.volumes(Monomial("cross", (1, 1))), nbeta)
    assert found == pytest.approx(part(1) / part(0), abs=5e-4)  # the levels are a grid


# ---------------------------------------------------------------------------- exact answers


def test_references():
    """Quadratics against the closed form of the discrete chain; unused directions add nothing."""
    from devlib.exact import gibbs_moments, quadratic_chain_mean
    from devlib.samplers import SGLD

    sampling = primer.FULL.toys
    sampler = SGLD(sampling.eps, sampling.nbeta, sampling.gamma)
    for potential, curvatures in ((A2_EXAMPLES[0], (2, 2, 2)), (A2_EXAMPLES[1], (2, 2, 0))):
        value, with_step = primer.reference(potential, sampling)
        assert with_step
        assert value == pytest.approx(quadratic_chain_mean(curvatures, sampler), rel=1e-4)
    value, with_step = primer.reference(TwoMinima(), sampling)
    assert not with_step
    assert value == gibbs_moments(TwoMinima(), sampling.nbeta, sampling.gamma)[0]


def test_hessian_eigenvalues():
    assert primer.hessian_eigenvalues(quadratic((3, 0))) == pytest.approx([0, 3], abs=1e-9)
    for power in (4, 6):  # what tells these two apart is no second derivative
        assert primer.hessian_eigenvalues(Powers("power", (1.0,), (power,))) == pytest.approx(
            [0], abs=1e-9)


def test_gate():
    found = pd.DataFrame({"estimate": [1.0, 1.0, 1.0], "reference": [1.03, 1.05, 1.0],
                          "mcse": 0.01, "ess": [200, 200, 199]})
    assert list(primer.agrees(found)) == [True, False, False]
    assert list(primer.agrees(found, error=0.01)) == [True, True, False]


# ----------------------------------------------------------------------------------- lookup


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Settings that take no time, and a runs directory of the test's own."""
    brief = {"chains": 4, "draws": 12, "burn_in": 2}
    settings = dataclasses.replace(
        primer.SMOKE, toys=dataclasses.replace(primer.SMOKE.toys, **brief),
        powers=dataclasses.replace(primer.SMOKE.powers, **brief),
        networks=dataclasses.replace(primer.SMOKE.networks, **brief), sbc_repetitions=1,
        sbc_steps=1)
    monkeypatch.setattr(primer, "SETTINGS", primer.SETTINGS | {"smoke": settings})
    monkeypatch.setattr(primer, "volume_table", lambda: pd.concat([pd.DataFrame(
        {"potential": potential.name, "llc": potential.llc, "eps": primer.LEVELS,
         "volume": primer.LEVELS**potential.llc}) for potential in FIGURE_2]))
    monkeypatch.setattr(primer, "NBETAS", [100.0])
    monkeypatch.setattr(primer, "NETWORKS", primer.NETWORKS[:1])
    monkeypatch.setattr(primer, "SAMPLED", primer.SAMPLED[:1])
    monkeypatch.setattr(primer, "NETWORK_NBETAS", (100.0,))
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(results, "COMMITTED", tmp_path / "committed")
    return tmp_path


def test_compute_then_read(tiny):
    with pytest.raises(UserError, match="run primer --preset smoke --seed 3"):
        primer.primer("smoke", 3)
    made = primer.primer("smoke", 3, recompute=True)
    assert set(made.tables) == {"volumes", "means", "estimates", "ends", "powers", "networks",
                                "network_estimates", "sbc"}
    assert len(made["estimates"]) == len(A2_EXAMPLES) + len(FIGURE_2)
    assert made.description.startswith("smoke preset, seed 3: ")
    place = tiny / "runs" / "smoke" / "primer-seed3"
    times = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    for again in (primer.primer("smoke", 3), primer.primer("smoke", 3, recompute=True)):
        assert all(again[name].equals(made[name]) for name in made.tables)  # not computed anew
    assert times == {path: path.stat().st_mtime_ns for path in place.iterdir()}

    place.rename(tiny / "elsewhere")
    (tiny / "committed" / "smoke").mkdir(parents=True)
    (tiny / "elsewhere").rename(tiny / "committed" / "smoke" / "primer-seed3")
    assert primer.primer("smoke", 3)["sbc"].equals(made["sbc"])


def test_tables_of_other_settings_are_refused(tiny):
    primer.primer("smoke", 0, recompute=True)
    primer.SETTINGS["smoke"] = dataclasses.replace(primer.SETTINGS["smoke"], gibbs_draws=21)
    with pytest.raises(UserError, match="other settings"):
        primer.primer("smoke", 0)


def test_bad_preset_and_seed():
    with pytest.raises(UserError, match="no preset 'lap'"):
        primer.primer("lap", 0)
    for seed in (-1, True, "0"):
        with pytest.raises(UserError, match="seed"):
            primer.primer("laptop", seed)


def test_every_preset_has_settings():
    from devlib.presets import PRESETS

    assert set(primer.SETTINGS) == set(PRESETS)
    assert primer.FULL.toys.settled and not primer.SMOKE.toys.settled


def test_committed_tables_pass_the_gate():
    """The estimates of the committed page, where it judges them."""
    run = primer.primer("laptop", 0)
    sgld = run["network_estimates"]
    for found, error in ((run["estimates"], 0.0), (run["powers"], 0.0),
                         (sgld, sgld.reference_mcse)):
        assert primer.agrees(found, error).all()
