"""The LLC by three protocols: what a row says, which step is stable, what each part hangs on."""

import dataclasses

import numpy as np
import pytest
import torch

from companion import presets, protocols, results
from companion.compute import parallel
from companion.regression import model_loss
from devlib.llc import estimate_llc
from devlib.regression.model import build_model
from devlib.regression.task import fixed_set
from devlib.sampling import SGLD, sample_chains
from devlib.settings import as_dict

SETTINGS, CHOSEN = presets.SMOKE.regression, presets.SMOKE.protocols


@pytest.fixture(scope="module")
def params():
    return {name: p.detach() for name, p in build_model(SETTINGS, seed=3).named_parameters()}


def test_the_chains_of_both_starts_are_those_of_the_library(params):
    found = protocols.measure_starts(SETTINGS, CHOSEN, 5, params)
    rows = {(row["protocol"], row["start"]): row for row in found["estimates"]}
    assert set(rows) == {(protocol, start) for protocol in ("equilibrium", "local")
                         for start in ("w0", "prior")}
    draws = sample_chains(model_loss(SETTINGS), params,
                          fixed_set(5, "llc", CHOSEN.samples, SETTINGS.task),
                          SGLD(SETTINGS.llc.eps, SETTINGS.llc.nbeta, SETTINGS.llc.gamma),
                          chains=CHOSEN.chains, draws=CHOSEN.draws, burn_in=CHOSEN.burn_in, seed=5,
                          batch_size=CHOSEN.batch, compile=False, warn=False)
    twin, row = estimate_llc(draws), rows["equilibrium", "w0"]
    assert row["llc"] == pytest.approx(twin.mean, rel=1e-5)
    assert row["chain_loss"] == pytest.approx(row["init_loss"] + row["llc"] / row["nbeta"])
    assert row["chain_sd"] == pytest.approx(np.std(twin.chain_means, ddof=1), rel=1e-3)
    assert rows["equilibrium", "prior"]["llc"] != row["llc"]


def test_the_blocks_of_a_climb_average_to_the_estimate(params):
    found = protocols.measure_long(SETTINGS, CHOSEN, 5, params)
    estimate, = found["estimates"]
    assert estimate["burn_in"] == 0 and estimate["draws"] == CHOSEN.long_draws
    assert len(found["climb"]) == CHOSEN.long_draws // CHOSEN.block
    assert np.mean([row["llc"] for row in found["climb"]]) == pytest.approx(estimate["llc"])


def test_the_step_of_a_local_target_is_stable_and_its_spring_a_share_of_the_weights(params):
    rms = torch.cat([p.flatten() for p in params.values()]).square().mean().sqrt().item()
    for curvature in (1e-6, 500.0):
        eps, nbeta, gamma = protocols.stable(66.7, 0.1, curvature, params)
        assert gamma**-0.5 == pytest.approx(0.1 * rms, rel=1e-5) and nbeta == 66.7
        assert max(eps * nbeta * curvature, eps * gamma) == pytest.approx(protocols.STEEPEST)


def test_the_largest_curvature_is_that_of_the_dense_hessian(params):
    few = dataclasses.replace(CHOSEN, curvature_samples=8)
    found = protocols.largest_curvature(SETTINGS, few, 5, params)
    data = tuple(part[:8] for part in fixed_set(5, "llc", CHOSEN.samples, SETTINGS.task))
    double = {name: p.double() for name, p in params.items()}
    flat = torch.cat([p.flatten() for p in double.values()])

    def mean_loss(w):
        parts, start = {}, 0
        for name, p in double.items():
            parts[name] = w[start:start + p.numel()].view_as(p)
            start += p.numel()
        return model_loss(SETTINGS)(parts, tuple(part.double() for part in data)).mean()

    # the curvature along the direction found from 60 plain power iterations, a slow twin
    gradient = torch.func.grad(mean_loss)
    v = torch.ones_like(flat) / len(flat)**0.5
    for _ in range(60):
        _, product = torch.func.jvp(gradient, (flat,), (v,))
        product = product + 50 * v  # positive: the largest signed eigenvalue, not by magnitude
        v = product / product.norm()
    assert found == pytest.approx(product.norm().item() - 50, rel=0.03)


def test_a_part_hangs_on_its_own_settings_alone():
    changed = {"starts": {"local_ratio": 0.2}, "long": {"long_draws": 7},
               "prior": {"prior_draws": 9}, "small": {"small_factor": 3.0},
               "profile": {"profile_ratios": (0.5,)}}
    for part, change in changed.items():
        other = dataclasses.replace(CHOSEN, **change)
        for name in changed:
            same = protocols.settings_of(name, other) == protocols.settings_of(name, CHOSEN)
            assert same == (name != part), (part, name)
    shared = dataclasses.replace(CHOSEN, batch=31)
    assert all(protocols.settings_of(name, shared)["batch"] == 31 for name in changed)
    assert "compile" in as_dict(CHOSEN)


def test_the_tables_say_what_the_page_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(parallel, "cores", lambda: 1)  # two processes would take longer to begin
    chosen = dataclasses.replace(CHOSEN, steps=(0, 599), profile_nbetas=(60.0,))
    monkeypatch.setitem(presets.PRESETS, "smoke",
                        dataclasses.replace(presets.SMOKE, protocols=chosen))
    found = results.protocols("smoke", 0, recompute=True)
    assert set(found.tables) == {"estimates", "climb", "positions", "profile"}
    estimates = found["estimates"]
    counted = estimates.groupby("protocol").step.nunique().to_dict()
    assert counted == {"equilibrium": 2, "local": 2, "as published": 1, "long from the prior": 1,
                       "small step": 1}
    climb = found["climb"]
    assert climb[climb.start == "prior, long"].draw.max() == chosen.prior_draws - chosen.block // 2
    assert (estimates.spring_ratio[estimates.protocol == "local"] - 0.1).abs().max() < 1e-5
    positions = found["positions"]
    assert (positions.what == "model").sum() == 2 and len(positions) == 2 * 5
    loss = positions.filter(like="loss_").mean(axis=1)
    assert loss.between(0.5 * SETTINGS.task.task_dim, 2 * SETTINGS.task.task_dim).all()
