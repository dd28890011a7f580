"""Draws: files from before there were distances, and what ArviZ says of a chain that diverged."""

import dataclasses
import json
import math

import h5py
import pytest

from devlib.errors import UserError
from devlib.llc import estimate_llc
from devlib.sampling.draws import Draws, import_arviz
from tests.sampling.test_chains import cliff_problem, run
from tests.sampling.test_kept import chains


def test_draws_stored_before_there_were_distances(tmp_path):
    """They have none, and their estimate is what it was."""
    draws = run(draws=60)
    old = dataclasses.replace(draws, distances=None, weight_rms=None)
    old.save(tmp_path / "old.nc")
    with h5py.File(tmp_path / "old.nc", "a") as file:  # as it was written then
        facts = json.loads(file["posterior"].attrs["devlib"])
        del facts["weight_rms"], facts["start"]
        file["posterior"].attrs["devlib"] = json.dumps(facts)
        del file["posterior"].attrs["sha256"]
    again = Draws.read(tmp_path / "old.nc")
    assert again.distances is None and again.weight_rms is None
    found, whole = estimate_llc(again), estimate_llc(draws)
    assert (found.mean, found.mcse, found.rhat) == (whole.mean, whole.mcse, whole.rhat)
    assert math.isnan(found.distance_rhat) and found.distance_burn_in is None
    with pytest.raises(UserError, match="without their distances"):
        again.distance_burn_in()


def test_arviz_s_summary_is_the_estimate_when_a_chain_diverged(tmp_path):
    """The chain is left out of the one as of the other; the file keeps it."""
    arviz = import_arviz()
    draws = run(cliff_problem(), chains=8, draws=40, burn_in=8, on_divergence="keep")
    assert draws.diverged and len(draws.healthy) > 1
    found = estimate_llc(draws)
    data = draws.to_inferencedata()
    assert data.posterior.chain.values.tolist() == draws.healthy
    row = arviz.summary(data, var_names="llc", round_to="none").iloc[0]
    assert row["mean"] == pytest.approx(found.mean)
    assert row["mcse_mean"] == pytest.approx(found.mcse)
    assert row["r_hat"] == pytest.approx(found.rhat)
    draws.save(tmp_path / "draws.nc")
    assert arviz.from_netcdf(tmp_path / "draws.nc").posterior.sizes["chain"] == 8
    with pytest.raises(UserError, match="every chain diverged"):
        dataclasses.replace(draws, diverged=dict.fromkeys(range(8), 0)).to_inferencedata()


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    for save in (run(draws=20).save, chains().save):
        with pytest.raises(UserError, match=r"absent is no folder; make it first"):
            save(tmp_path / "absent" / "file")
    assert list(tmp_path.iterdir()) == []
