"""The language LLC by other batches, starts and springs: what a row says, and what it hangs on."""

import dataclasses

import numpy as np
import pytest
import torch

from companion import presets, protocols_language, results_language
from companion.compute import parallel
from companion.language import llc_data, model_loss, unigram_loss
from companion.runs import RunKey
from devlib.language.parameters import initial_parameters
from devlib.llc import estimate_llc
from devlib.sampling import SGLD, sample_chains

SETTINGS, CHOSEN = presets.SMOKE.language, presets.SMOKE.language_protocols


@pytest.fixture(scope="module")
def params():
    return initial_parameters(SETTINGS.model, seed=3)


def test_the_chains_of_the_target_are_those_of_the_library(params):
    rows = protocols_language.measure_target(SETTINGS, CHOSEN, 5, params)["estimates"]
    assert [(row["batch"], row["start"], row["draws"]) for row in rows] == [
        (4, "w0", 20), (4, "prior", 20), (4, "prior", 10), (8, "prior", 10)]
    llc = SETTINGS.llc
    twin = estimate_llc(sample_chains(
        model_loss(SETTINGS.model), params, llc_data(SETTINGS, 5),
        SGLD(llc.eps, llc.nbeta, llc.gamma), chains=CHOSEN.target_chains,
        draws=CHOSEN.target_draws, burn_in=CHOSEN.target_draws // 2, seed=5, batch_size=4,
        compile=False, vectorised=False, warn=False))
    assert (rows[0]["llc"], rows[0]["mcse"]) == pytest.approx((twin.mean, twin.mcse))


def test_the_springs_are_shares_of_the_weights(params):
    rows = protocols_language.measure_profile(SETTINGS, CHOSEN, 5, params)["estimates"]
    ratios = [row["spring_ratio"] for row in rows]
    assert ratios == pytest.approx(np.repeat(CHOSEN.profile_ratios, 2), rel=1e-4)
    assert {row["nbeta"] for row in rows} == set(CHOSEN.profile_nbetas)
    assert all(row["eps"] * row["nbeta"] * row["curvature"] <= 0.4 + 1e-6 for row in rows)
    tight = [row for row in rows if row["spring_ratio"] < 0.2]
    assert all(abs(row["chain_loss"] - row["init_loss"]) < 0.2 for row in tight)


def test_the_unigram_loss_is_that_of_counting():
    predicted = llc_data(SETTINGS, 0)[0][:, 1:].flatten()
    found = unigram_loss(SETTINGS, 0)
    own = torch.bincount(predicted, minlength=64).double()
    share = own / own.sum()
    entropy = float(-(share[share > 0] * share[share > 0].log()).sum())
    assert entropy <= found < np.log(64)  # the best share there is, and knowing nothing


def test_the_second_half_of_a_climb_averages_to_the_estimate(params):
    found = protocols_language.measure_long(SETTINGS, CHOSEN, 5, params)
    for row in found["estimates"]:
        later = [block["llc"] for block in found["climb"]
                 if block["start"] == row["start"] and block["draw"] >= row["burn_in"]]
        assert len(later) == 6 and np.mean(later) == pytest.approx(row["llc"])


def test_a_part_hangs_on_its_own_settings_alone():
    other = dataclasses.replace(CHOSEN, target_draws=7)
    assert (protocols_language.settings_of("profile", other)
            == protocols_language.settings_of("profile", CHOSEN))
    assert protocols_language.settings_of("target", other)["target_draws"] == 7


def test_its_folder_is_of_the_two_layer_run():
    key = RunKey.of("language-protocols", "smoke", 3)
    assert key.folder == "language-protocols-seed3" and key.trained.kind == "language-2layer"
    assert RunKey.parse("smoke", key.folder) == key and key.settings == SETTINGS
    other = RunKey.of("language-protocols", "smoke", 3, corpus="offline")
    assert other.folder == "language-protocols-offline-seed3"
    assert other.trained.corpus == "offline"


def test_the_table_says_what_the_page_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(parallel, "cores", lambda: 1)  # two processes would take longer to begin
    found = results_language.protocols("smoke", 0, recompute=True)["estimates"]
    assert found.groupby("protocol").size().to_dict() == {
        "profile": 8, "target": 8, "long": 2}
    climb = results_language.protocols("smoke", 0)["climb"]
    assert climb.groupby("start").llc.count().to_dict() == {"w0": 12, "prior": 12}
    assert found.step.unique().tolist() == [0, 299]
    assert {"unigram_loss", "chain_loss", "init_loss", "rhat", "mcse"} <= set(found)
