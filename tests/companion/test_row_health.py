"""The one rule of health: of a row, of a curve, of what a claim rests on, and what a page says."""

import numpy as np
import pandas as pd
import pytest

from companion import results
from companion.checkpoint_rows import llc_row
from companion.figures import llc_curve
from companion.health import curve_health, ill, row_health, say_health
from companion.known.answers import quadratic_chain_mean
from companion.known.potentials import quadratic
from devlib.sampling import SGLD
from devlib.settings import LLCSettings, StageSettings
from devlib.stages import find_stages, is_unsound

CHAINS = LLCSettings(precision=0.02, burn_in=None)
SOUND = {"llc": 100.0, "mcse": 1.9, "ess": 300.0, "rhat": 1.01, "burn_in": 499, "draws": 1000,
         "escaping": 0, "diverged": 0}


@pytest.mark.parametrize("change, words", [
    ({}, ""), ({"burn_in": 500}, "burn-in at its bound"), ({"rhat": 1.06}, "R-hat 1.06"),
    ({"rhat": np.nan}, "R-hat nan"), ({"mcse": 2.5}, "imprecise: error 2.5%"),
    ({"ess": 150.4}, "imprecise: ESS 150"), ({"diverged": 2}, "2 diverged"),
    ({"escaping": 1, "rhat": 1.2}, "1 escaping, R-hat 1.20"),
    ({"burn_in": 500, "rhat": 1.23, "mcse": 4.0},
     "burn-in at its bound, R-hat 1.23, imprecise: error 4.0%"),
    ({"mcse": 0.0, "ess": np.nan, "rhat": np.nan, "llc": 0.0}, "")])  # nothing moved the loss
def test_the_health_of_a_row(change, words):
    assert row_health(SOUND | change, CHAINS) == words
    assert is_unsound(pd.Series([words]))[0] == (bool(words) and not words.startswith("imprecise"))


def test_a_burn_in_that_was_given_has_no_bound_and_no_precision_is_none_missed():
    fixed = LLCSettings(burn_in=500, precision=None)
    assert row_health(SOUND | {"burn_in": 500, "mcse": 30.0}, fixed) == ""


@pytest.mark.parametrize("draws, words", [(16, "imprecise"), (600, "")])
def test_a_measured_row_has_it(draws, words):
    toy = quadratic((1.0, 2.0, 4.0))
    llc = LLCSettings(eps=2e-2, nbeta=20, gamma=1, batch=1, chains=8, draws=draws, burn_in=8)
    row = llc_row(toy.loss, toy.params, toy.data, llc, 0)
    assert row["health"] == row_health(row, llc)
    assert words in row["health"] if words else row["health"] == ""


class Tables(dict):
    """A Results as `ill` takes it: an untrained checkpoint and one more, by chains of 1,000 draws,
    half of them burn-in. The spring relaxes in 1,000 draws."""

    def __init__(self, **last):
        first = SOUND | {"step": 0, "llc": 12.0, "init_loss": 4.26, "burn_in": 499, "mcse": 0.2}
        second = first | {"step": 900, "llc": 160.0, "init_loss": 2.04} | last  # chain loss 4.44
        super().__init__(llc=pd.DataFrame([first, second]))
        self.manifest = {"settings": {"llc": {
            "eps": 3e-4, "gamma": 20 / 3, "nbeta": 200 / 3, "burn_in": None, "precision": 0.02}}}


@pytest.mark.parametrize("last, said", [
    ({}, ""),  # it has forgotten the model
    ({"llc": 100.0}, "step 900: the chains still know the model (their loss 3.54, that of "
                     "chains from untrained weights 4.44) after a burn-in of 499 draws, and "
                     "the spring relaxes in 1,000"),
    ({"llc": 100.0, "burn_in": 2_000, "draws": 6_000}, ""),  # it knows the model, and is settled
    ({"rhat": 1.06}, "step 900: R-hat 1.06"), ({"mcse": 9.0}, ""),  # imprecise, and it says so
    ({"diverged": 2}, "step 900: 2 diverged")])
def test_an_llc_is_a_measurement_if_its_chains_settled_or_forgot(last, said):
    """And curve, open markers and claims say the same of it."""
    found = Tables(**last)
    assert ill(found, 900) == ill(found, 0, 900) == said and ill(found, 0) == ""
    health = curve_health(found["llc"], LLCSettings(**found.manifest["settings"]["llc"]))
    assert list(is_unsound(health)) == [False, bool(said)]


def test_without_an_untrained_checkpoint_no_chains_count_as_having_forgotten():
    table = Tables()
    table["llc"] = table["llc"].iloc[1:]
    assert "still know the model" in ill(table, 900)


@pytest.mark.parametrize("precision", [None, 0.5])
def test_a_row_carries_the_step_bias_where_it_was_measured(precision):
    toy = quadratic((1.0, 2.0, 4.0))
    llc = LLCSettings(eps=2e-2, nbeta=20, gamma=1, batch=1, chains=8, draws=600, burn_in=8,
                      precision=precision)
    bare, row = (llc_row(toy.loss, toy.params, toy.data, llc, 0, health=health)
                 for health in (False, True))
    at, twice = (quadratic_chain_mean((1.0, 2.0, 4.0), SGLD(eps, 20, 1)) for eps in (2e-2, 4e-2))
    assert abs(row["step_bias"] - (twice - at)) < 4 * row["step_bias_mcse"]
    assert row["slope_share"] == 0
    assert row.keys() - bare.keys() == {"step_bias", "step_bias_mcse", "slope_share"}
    if row["draws"] == bare["draws"]:  # to a precision the bias counts
        assert all(row[name] == value for name, value in bare.items() if name.startswith("chain_"))


def test_the_committed_tables_have_it_without_being_rewritten():
    """Up to step 80,808 the chains had forgotten the model; of those after 151,663 none had come to
    rest, and none between has waited for the spring."""
    run = results.regression("published", 1)
    settings = results.regression_settings("published")
    llc = run["llc"]
    health = curve_health(llc, settings.llc)
    bad = is_unsound(health)
    assert not bad[llc.step <= 80_808].any() and bad[llc.step > 80_808].all()
    assert bad.sum() == 96 and all(bool(ill(run, step)) == sick
                                   for step, sick in zip(llc.step, bad, strict=True))
    assert health[llc.step == 217_171].item() == (
        "burn-in at its bound, R-hat 1.15, the chains still know the model (their loss 3.60, that "
        "of chains from untrained weights 4.43) after a burn-in of 500 draws, and the spring "
        "relaxes in 1,000, "
        "imprecise: error 2.4%")
    lines = say_health(llc, run["evaluation"], settings.llc, settings.stages)
    assert f"{bad.sum()} of {len(llc)} estimates" in lines[0] and "318,181" in lines[0]
    assert "the spring alone relaxes in 1,000 draws" in lines[-1] and "0.2 to 1.0" in lines[-1]


def test_unsound_points_are_drawn_open():
    steps = np.array([0, 10, 100, 1000, 5000])
    llc = pd.DataFrame({"step": steps, "llc": np.log1p(steps), "mcse": 0.1,
                        "health": ["", "imprecise: ESS 90", "R-hat 1.2", "", "R-hat 1.3"]})
    loss = pd.DataFrame({"step": steps, "loss": 1.0, "loss_se": 0.1})
    settings = StageSettings(restarts=0)
    with pytest.warns(UserWarning, match="2 of 5 estimates"):
        curve, _, stages = find_stages(llc, loss, settings)
    fig = llc_curve(llc, curve, stages, {}, loss)
    drawn = {container.get_label(): container[0] for container in fig.axes[1].containers}
    closed, opened = drawn["estimate, 2 standard errors"], drawn[
        "not sound: a check of its error failed"]
    assert list(closed.get_xdata()) == [0, 10, 1000] and list(opened.get_xdata()) == [100, 5000]
    assert opened.get_markerfacecolor() == "white" != closed.get_markerfacecolor()
