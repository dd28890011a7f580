"""The primer's tables: references against the page's examples, and where results are looked up."""

import dataclasses

import pandas as pd
import pytest

from companion import runs
from companion.known.potentials import A2_EXAMPLES, FIGURE_2, Powers, TwoMinima, quadratic
from companion.pages import primer
from companion.pages.volumes import LEVELS
from devlib.errors import UserError

# ---------------------------------------------------------------------------- exact answers


def test_references():
    """Quadratics against the closed form of the discrete chain; unused directions add nothing."""
    from companion.known.answers import gibbs_moments, quadratic_chain_mean
    from devlib.sampling.sgld import SGLD

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
        {"potential": potential.name, "llc": potential.llc, "eps": LEVELS,
         "volume": LEVELS**potential.llc}) for potential in FIGURE_2]))
    monkeypatch.setattr(primer, "NBETAS", [100.0])
    monkeypatch.setattr(primer, "NETWORKS", primer.NETWORKS[:1])
    monkeypatch.setattr(primer, "SAMPLED", primer.SAMPLED[:1])
    monkeypatch.setattr(primer, "NETWORK_NBETAS", (100.0,))
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runs, "COMMITTED", tmp_path / "committed")
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
    from companion.presets import PRESETS

    assert set(primer.SETTINGS) == set(PRESETS)
    assert primer.FULL.toys.settled and not primer.SMOKE.toys.settled


def test_committed_tables_pass_the_gate():
    """The estimates of the committed page, where it judges them."""
    run = primer.primer("laptop", 0)
    sgld = run["network_estimates"]
    for found, error in ((run["estimates"], 0.0), (run["powers"], 0.0),
                         (sgld, sgld.reference_mcse)):
        assert primer.agrees(found, error).all()
