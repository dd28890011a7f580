"""The fidelity page's tables, against exact answers and numbers worked out by hand."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from docutils.nodes import make_id

from companion import presets, results, runs
from companion.checkpoint_rows import llc_row
from companion.compute import parallel
from companion.known.potentials import MeanModel, quadratic
from companion.pages import fidelity
from companion.pages.fidelity_tables import (
    PROBES,
    HalfGamma,
    burn_in_row,
    look_after,
    order_row,
    paired,
    probe_rows,
    trace_rows,
)
from devlib.errors import UserError
from devlib.regression.model import build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.sampling.chains import Chains
from devlib.sampling.draws import Draws
from devlib.sampling.sgld import SGLD
from devlib.settings import StageSettings
from devlib.stages import PAPER_STAGE_ENDS

PAGE = Path(__file__).parents[3] / "notebooks" / "13_fidelity.py"


# ------------------------------------------------------------------------ before the step, or after


def test_on_the_whole_set_after_a_step_is_before_the_next():
    toy = quadratic((1.0, 3.0))
    run = Chains(toy.loss, toy.params, toy.data, SGLD(1e-2, 10.0, 1.0), chains=3, seed=1,
                 compile=False)
    after = look_after(run, 20)
    np.testing.assert_allclose(after[:, :-1], run.draws(0).losses[:, 1:], rtol=1e-6)


def test_read_after_the_step_it_is_low_by_the_exact_amount():
    """The mean of a Gaussian: with a = eps nbeta / 2 and u = w - mean of the batch, a step takes
    u^2 / 2 to ((1 - a)^2 u^2 + eps) / 2, and both variances in u are known."""
    eps, nbeta, batch, dim = 4e-3, 50.0, 4, 3
    xs = np.random.default_rng(0).normal(size=(256, dim))
    toy = MeanModel.make(xs)
    run = Chains(toy.loss, toy.params, toy.data, SGLD(eps, nbeta, 0.0), chains=48, seed=0,
                 batch_size=batch, vectorised=True)
    draws_after = look_after(run, 160)
    row = order_row(run.draws(60), draws_after)
    a, noise = eps * nbeta / 2, xs.var(0) / batch
    variance = (a**2 * noise + eps) / (1 - (1 - a) ** 2)
    exact = nbeta / 2 * (((1 - a) ** 2 - 1) * (variance + noise) + eps).sum()
    assert row["batch"] == batch and row["change_se"] < abs(exact) / 20
    assert abs(row["change"] - exact) < 4 * row["change_se"]


# ------------------------------------------------------------------------------ gamma, and burn-in


def test_twice_gamma_in_the_codes_update_is_gamma_in_ours_to_the_bit():
    gen = torch.Generator().manual_seed(0)
    w, gradient, anchor, noise = torch.randn(4, 50, generator=gen)
    ours, _ = SGLD(3e-4, 66.7, 20 / 3).step(w, None, gradient, anchor, noise)
    theirs, _ = HalfGamma(3e-4, 66.7, 40 / 3).step(w, None, gradient, anchor, noise)
    unconverted, _ = SGLD(3e-4, 66.7, 40 / 3).step(w, None, gradient, anchor, noise)
    assert torch.equal(ours, theirs) and not torch.equal(ours, unconverted)


def draws_of(llc, burn_in):
    """Draws of nbeta 2 whose LLC at each draw is given, (C, T)."""
    llc = np.asarray(llc, float)
    return Draws(llc / 2 + 1, np.ones_like(llc), 1.0, SGLD(1e-3, 2.0, 1.0), burn_in, 4, 0)


def test_what_the_first_draws_lack():
    """Ten draws about 10 after a climb 0, 4, 8: the settled mean is 10 and the climb lacks 18."""
    climb = np.array([0.0, 4, 8, *[9, 11] * 5])
    row = burn_in_row(draws_of([climb, climb + 2], burn_in=3))
    assert row["llc"] == pytest.approx(11) and row["lack"] == pytest.approx(18)
    assert row["lack_se"] == pytest.approx(0, abs=1e-9)
    assert row["change"] == pytest.approx(-18 / 13) and row["draws"] == 13
    assert row["llc_all"] == pytest.approx(11 - 18 / 13)
    traces = trace_rows(draws_of([climb, climb + 2], burn_in=3))
    assert [line["llc"] for line in traces[:3]] == [1, 5, 9]
    assert [line["running"] for line in traces[:3]] == [1, 3, 5]
    assert traces[-1] == {"draw": 13, "llc": 12, "running": pytest.approx(row["llc_all"])}


def test_differences_are_taken_chain_by_chain():
    values = np.array([[1.0, 3.0], [11.0, 13.0], [21.0, 23.0]])
    mean, error = paired(values + np.array([[1], [2], [3]]), values)
    assert mean == 2 and error == pytest.approx(1 / 3**0.5)
    assert np.isnan(paired(values[:1], values[:1])[1])


# --------------------------------------------------------------------------------- the whole thing


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The tables at the smoke preset, and where they were made."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVLIB_RUNS", str(place))
        patch.setattr(parallel, "cores", lambda: 1)
        return fidelity.fidelity("smoke", 2, recompute=True), place


def test_the_llc_is_that_of_the_curve(smoke):
    """Same settings, seed and draws as `llc_row`: the page's LLC is the book's."""
    made, place = smoke
    settings = presets.SMOKE.regression
    store = results.CheckpointStore(place / "smoke/regression-doubled-seed2/checkpoints")
    assert set(made["burn_in"].step) <= set(store.steps)
    step = int(made["burn_in"].step.max())
    row = llc_row(per_sample_loss(build_model(settings, 0)), store.load(step),
                  fixed_set(2, "llc", settings.llc.samples, settings.task), settings.llc, 2,
                  compile=False)
    found = made["burn_in"].set_index("step").loc[step]
    assert [found.llc, found.mcse] == pytest.approx([row["llc"], row["mcse"]], rel=1e-3)


def test_gamma_and_probes_of_the_tables(smoke):
    made, _ = smoke
    gamma, probes, hessian = made["gamma"], made["probes"], presets.SMOKE.hessian
    assert (gamma[gamma.reading == "code, 2 gamma"].largest == 0).all()
    assert (gamma[gamma.reading == "(8), 2 gamma"].largest > 0).all()
    assert probes.groupby("step").size().eq(PROBES).all()
    assert made.manifest["settings"]["hessian"]["samples"] == hessian.samples


def test_probes_are_z_h_z_of_signs():
    """On a loss whose Hessian is the identity every probe is the number of weights."""
    settings = presets.SMOKE.regression
    params = dict(build_model(settings, 0).named_parameters())
    count = sum(p.numel() for p in params.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("companion.pages.fidelity_tables.model_loss",
                      lambda settings: lambda params, batch: sum(
                          p.square().sum() / 2 for p in params.values()).expand(len(batch[0])))
        rows = probe_rows(settings, presets.SMOKE.hessian, 0, params)
    assert [row["value"] for row in rows] == pytest.approx([count] * PROBES, rel=1e-4)


def test_no_table_and_no_recompute_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    with pytest.raises(UserError, match="run 13_fidelity --preset smoke --seed 9"):
        fidelity.fidelity("smoke", 9)


def test_the_largest_committed_scale_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "COMMITTED", tmp_path)
    assert fidelity.largest("primer", "laptop", 0) == ("laptop", 0)
    place = tmp_path / "published" / "primer-seed1"
    place.mkdir(parents=True)
    assert fidelity.largest("primer", "laptop", 0) == ("laptop", 0)  # not finished
    for seed in (1, 3):
        place = tmp_path / "published" / f"primer-seed{seed}"
        place.mkdir(exist_ok=True)
        (place / results.MANIFEST).write_text("{}")
    assert fidelity.largest("primer", "laptop", 0) == ("published", 1)
    assert fidelity.largest("primer", "laptop", 3) == ("published", 3)
    assert fidelity.largest("primer", "paper", 0) == ("paper", 0)
    assert fidelity.largest("calibration", "laptop", 0) == ("laptop", 0)
    assert fidelity.largest("primer", "laptop", 0, recompute=True) == ("laptop", 0)


# ------------------------------------------------------------------- the artefact, and boundaries


def test_the_predicted_shift_turns_the_released_curve_into_the_corrected_one():
    llc = presets.PAPER.language.llc
    table = fidelity.artefact_removed(llc.nbeta, llc.chains, llc.draws)
    assert table.step.tolist() == [0, *PAPER_STAGE_ENDS["LM"].values()]
    assert (table.removed - table.corrected).abs().max() < 0.15  # losses are given to 0.005


def test_the_artefact_of_a_table():
    """Two chains of two draws, nbeta 8: the first is held against half its loss in one draw of
    two, so the shift is 8 L / 8 and the spread 4 L sqrt(1/8)."""
    llc = pd.DataFrame({"step": [7], "llc_plain": [3.0], "mcse_whole_set": [0.1],
                        "llc_running": [8.0], "init_loss": [5.0], "sd_running": [5 * 2**0.5]})
    row = fidelity.artefact_table(llc, 8.0, 2, 2).iloc[0]
    assert row.added == row.predicted == 5.0 and row.spread_ratio == pytest.approx(1.0)


def test_the_papers_boundaries_are_the_checkpoints_before_those_found():
    given = fidelity.released()["boundaries_regression"]
    early = fidelity.one_early(given["found"], fidelity.paper_schedule())
    assert dict(zip(given["found"], early, strict=True))[1_124] == 984
    assert set(given["published"].values()) == {984, 126_262} <= set(early)
    assert fidelity.one_early([0], [0, 5]) == [0]


@pytest.fixture
def climb():
    """A curve with rests at steps 22 and 12,391, as of tests.test_boundaries."""
    steps = np.array(fidelity.paper_schedule()[::2])
    x = np.log1p(steps)
    return pd.DataFrame({"step": steps, "llc": 20 * x + 20 * np.sin(x), "mcse": 0.5,
                         "mcse_whole_set": 1.5})


def test_slip_tolerance_and_kernel_of_a_curve(climb):
    settings, steps = StageSettings(restarts=0), climb.step.tolist()
    table = fidelity.slip_table(climb, settings)
    assert [steps.index(f) - steps.index(p) for f, p in zip(table.found, table.printed,
                                                          strict=True)] == [1, 1]
    np.testing.assert_allclose(np.log1p(table.found), [np.pi, 3 * np.pi], atol=0.3)
    assert (table.factor < 1).all()
    many = fidelity.tolerance_table(climb, settings, (8.0, 1e6))
    assert many["count"].tolist()[0] == 2
    assert many.boundaries[0].split() == [str(step) for step in table.found]
    assert many["count"].tolist()[1] == 0  # nothing moves faster than such a tolerance
    tight = StageSettings(restarts=0, length_high=0.6)
    kernels = fidelity.kernel_table(climb, tight).set_index("noise")
    assert "length" in kernels["on a bound"]["none"]
    stiff = StageSettings(restarts=0, amplitude_low=25, amplitude_high=25 + 1e-9, length=1e3,
                          length_low=1e3, length_high=1e3 + 1e-9)  # all but a matrix of 25s
    np.testing.assert_allclose(fidelity.condition_number(climb, stiff), 25 * len(climb) / 1e-10,
                               rtol=1e-3)


def test_squared_errors_count_draws(climb):
    assert (fidelity.baseline_gain(climb) == 9).all()


# ------------------------------------------------------------------------ the page's text and data


def test_every_released_number_says_where_it_is_from():
    for name, group in fidelity.released().items():
        assert len(group.pop("source").split()) > 4 and group, name
    fidelity.released.cache_clear()


def test_residuals_beside_the_released():
    step = [0, 984, 4_232]
    run = {"evaluation": pd.DataFrame({"step": step, "loss": [4.4, 4.16, 2.9], "loss_se": 0.01,
                                       "weight_norm": [25.0, 25.2, 26.2]}),
           "llc": pd.DataFrame({"step": step, "llc": [4.0, 19.0, 100.0], "mcse": 0.5})}
    other = {**run, "evaluation": run["evaluation"].assign(loss=[4.5, 4.2, 2.84])}
    other["llc"] = run["llc"].assign(llc=[5.0, 21.0, 100.0])[:2]
    table = fidelity.residual_table({("doubled", 3): run},
                                    {("standard", 0): run, ("standard", 1): other})
    ours = table[table.who == "ours, seed 3"]
    assert ours.step.tolist() == [984, 4_232]  # the later ones are beyond this run
    assert ours.LLC.tolist() == ["19.0 +- 0.5", "100.0 +- 0.5"]
    both = table[table.who == "ours, 2 seeds"]
    assert both.residual.unique().tolist() == ["standard"]
    assert both.loss.tolist() == ["4.16 to 4.2", "2.84 to 2.9"]
    assert both["weight norm"].tolist() == ["25.2", "26.2"]
    assert both.LLC.tolist() == ["20.0, sd 1.4", "100.0"]  # one has no LLC there
    assert {"released", "pilot"} < set(table.who)
    assert "2.75 to 3.07" in table.loss.tolist()


def test_claims_of_several_runs_side_by_side():
    runs = {f"seed {seed}": {"regression": results.regression("laptop", seed)} for seed in (0, 1)}
    table = fidelity.verdict_table(runs, "LR-1", "LR-12")
    assert list(table) == ["claim", "what", "wanted", *runs]
    assert set(table.claim) == {"LR-1", "LR-12"}
    at = table.set_index("what").loc["step 984, end of LR1"]
    assert at.tolist() == ["LR-1", "5 seeds 18.2 to 20.1; 13.5 to 25",
                           "19.8 +- 2.6: reproduced", "21.9 +- 2.7: reproduced"]
    assert "not reached" in table["seed 0"].tolist()


def test_the_table_on_top_leads_to_sections_that_there_are():
    text = PAGE.read_text()
    headings = {make_id(line) for line in re.findall(r"^# ## (.+)$", text, re.M)}
    anchors = re.findall(r'"anchor": "([^"]+)"', text)
    assert len(anchors) >= 10 and set(anchors) == headings
    row = {"what": "a < b", "anchor": "there", "where": "w", "here": "h", "size": "1 & 2"}
    table = fidelity.summary([row])
    assert '<a href="#there">a &lt; b</a>' in table and "1 &amp; 2" in table
    assert table.count("<th ") == 4 == table.count("data-label")


def test_the_best_head_is_named_by_each_reading():
    rows = pd.DataFrame({"step": [5, 5, 9, 9], "layer": [1, 2, 1, 2], "head": [3, 4, 3, 4],
                         "after": [0.1, 0.2, 0.4, 0.3], "after_se": 0.01,
                         "itself": [0.5, 0.2, 0.1, 0.6], "itself_se": 0.02})
    found = fidelity.best_heads(rows)
    assert found["head, after"].tolist() == ["2:4", "1:3"]
    assert found["head, itself"].tolist() == ["1:3", "2:4"]
    assert found["code: token after A"].tolist() == ["0.200 ± 0.010", "0.400 ± 0.010"]
