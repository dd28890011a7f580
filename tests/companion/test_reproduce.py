"""`reproduce` trains the models first, each once, and every table finds its checkpoints."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from companion import curve, front, presets, regression, reproduce, results, results_language
from companion.checkpoint_rows import hessian_row
from companion.claims.table_rows import HESSIAN_ERRORS, plateaus_on
from companion.compute import parallel
from companion.corpus import corpora, files, offline
from companion.packed import open_run
from companion.pages import calibration, fidelity, primer, task_sets
from companion.runs import COMMITTED, MANIFEST, RunKey
from companion.site import book_copy
from companion.tables import load
from devlib.errors import UserError
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set

NAMES = {"regression": "regression-doubled-seed2", "two-layer": "language-2layer-seed2",
         "one-layer": "language-1layer-seed2"}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Which models `train_all` asked for, in this process."""
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    asked = []

    def each(function, items, **_):
        asked.extend(items)
        return parallel.each(function, items, jobs=1)

    monkeypatch.setattr(reproduce, "each", each)
    # in this process: starting others takes longer than the work
    monkeypatch.setattr(curve, "each", lambda work, items, **_: parallel.each(work, items, jobs=1))
    return asked


def test_all_three_models_are_trained_once_and_timed(trained, tmp_path):
    reproduce.train_all("smoke", 2)
    assert [key.folder for key in trained] == list(NAMES.values())
    for name in NAMES.values():
        place = tmp_path / "smoke" / name
        assert open_run(place / "checkpoints").steps
        assert json.loads((place / "seconds.json").read_text())["training"] > 0


def test_a_model_whose_tables_are_finished_is_left_alone(trained, tmp_path):
    for name in NAMES.values():
        place = tmp_path / "smoke" / name
        place.mkdir(parents=True)
        (place / results.MANIFEST).write_text("{}")
    reproduce.train_all("smoke", 2)
    assert trained == []
    (tmp_path / "smoke" / NAMES["one-layer"] / results.MANIFEST).unlink()
    reproduce.train_all("smoke", 2)
    assert [key.folder for key in trained] == [NAMES["one-layer"]]


def test_every_table_is_asked_for_at_the_same_scale(monkeypatch):
    asked = []

    def note(name):
        return lambda *scale, **options: asked.append((name, *scale, options))

    monkeypatch.setattr(reproduce, "train_all", note("train"))
    for name in ("regression", "development", "blocks", "hessian", "check", "protocols"):
        monkeypatch.setattr(results, name, note(name))
    monkeypatch.setattr(results_language, "language", note("language"))
    monkeypatch.setattr(results_language, "protocols", note("language protocols"))
    monkeypatch.setattr("companion.pages.task_sets.task_sets", note("task sets"))
    monkeypatch.setattr("companion.pages.primer.primer", note("primer"))
    monkeypatch.setattr("companion.pages.calibration.calibration", note("calibration"))
    monkeypatch.setattr("companion.pages.fidelity.fidelity", note("fidelity"))
    reproduce.compute_tables("smoke", 5, "toy")
    assert asked[0][0] == "train"
    assert all(call[1:3] == ("smoke", 5) for call in asked)
    assert {call[0] for call in asked} == {
        "train", "regression", "development", "blocks", "hessian", "check", "protocols",
        "task sets", "primer", "calibration", "fidelity", "language", "language protocols"}
    assert [call[4:] for call in asked if call[0] == "language"] == [(2, "toy", {}),
                                                                     (1, "toy", {})]


def test_the_check_has_the_paper_s_batch_and_burn_in(trained):
    paper, published = presets.PAPER.regression.llc, presets.PUBLISHED
    llc = results.by_the_paper(published.regression.llc, published.check)
    assert (llc.batch, llc.burn_in, llc.eps, llc.nbeta, llc.gamma) == (
        paper.batch, paper.burn_in, paper.eps, paper.nbeta, paper.gamma)
    table = results.check("smoke", 2, recompute=True)["llc"]
    assert table.step.tolist() == [96, 599]
    assert set(table.draws) == {30} and set(table.burn_in) == {15}
    assert results.check("laptop", 0) is None


def test_hessian_tables_are_those_of_the_checkpoints(trained, tmp_path):
    found = results.hessian("smoke", 2, recompute=True)
    settings, chosen = presets.SMOKE.regression, presets.SMOKE.hessian
    store = open_run(tmp_path / "smoke" / NAMES["regression"] / "checkpoints")
    statistics = found["statistics"]
    assert len(statistics) == chosen.checkpoints
    last = statistics.iloc[-1]
    wanted = hessian_row(per_sample_loss(build_model(settings, 0)), store.load(store.steps[-1]),
                         fixed_set(2, "hessian", chosen.samples, settings.task), chosen, 2,
                         microbatch=MICROBATCH)
    assert last.step == store.steps[-1]
    assert {key: last[key] for key in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    llc = results.regression("smoke", 2, recompute=True)["llc"]
    for column, error in HESSIAN_ERRORS.items():  # the page's rule takes even so few checkpoints
        assert set(plateaus_on(statistics[column], statistics[error], statistics.step, llc,
                               settings.stages)) <= set(statistics.step)
    density = found["density"]
    for _, part in density.groupby("step"):
        assert part.weight.sum() == pytest.approx(1, abs=1e-4)
    assert np.isin(density.step, store.steps).all()
    again = regression.hessian_tables(store, settings, chosen, 2, tmp_path / "other")
    np.testing.assert_allclose(again["statistics"].trace, statistics.trace, rtol=1e-4)


def test_it_says_what_another_seed_takes_over(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DEVLIB_CACHE", str(tmp_path))
    assert reproduce.reused("laptop", 1) == []
    for folder, name in ((offline.place(1024), files.MANIFEST), (
            RunKey.of("primer", "laptop", 1).own(), MANIFEST)):
        folder.mkdir(parents=True)
        (folder / name).touch()
    text, tables = reproduce.reused("laptop", 1)
    assert text == f"reused, whatever the seed: the text in 1,024 tokens, {offline.place(1024)}"
    assert tables == "reused, of seed 1: the tables of primer"
    assert reproduce.reused("laptop", 2) == [text]
    assert reproduce.reused("laptop", 2, "toy") == []


def test_every_part_of_the_work_is_expected_and_timed(monkeypatch):
    named, pages = [], ["01_one", "02_two"]

    @contextmanager
    def part(name):
        named.append(name)
        yield

    monkeypatch.setattr(reproduce, "part", part)
    for module, name in ((reproduce, "train_all"), *((results, name) for name in (
            "regression", "development", "blocks", "hessian", "check", "protocols")),
            (results_language, "language"), (results_language, "protocols"),
            (task_sets, "task_sets"), (primer, "primer"), (calibration, "calibration"),
            (fidelity, "fidelity")):
        monkeypatch.setattr(module, name, lambda *scale, **options: None)
    reproduce.compute_tables("laptop", 0)
    found = reproduce.expected("laptop", pages)
    assert list(found) == [*named, book_copy.PAGES, "the book"]
    assert found[book_copy.PAGES] == 2 * reproduce.PAGE / min(2, parallel.cores())
    # of the committed tables: 329.6 + 588.6 + 140.6 of training, 0.3 + 0.1 of making the text
    assert found["training"] == pytest.approx(1059.2)
    assert found["LLC curve of the regression model"] == pytest.approx(116.6 + 579.4)
    assert set(reproduce.expected("smoke", []).values()) == {0.0, reproduce.UNKNOWN,
                                                             reproduce.BOOK}


def test_the_findings_of_a_run_are_those_of_its_tables(tmp_path):
    """Of the laptop preset's, as if they had just been computed."""
    for kind in ("regression-doubled", "development-doubled", "hessian-doubled", "language-2layer"):
        shutil.copytree(COMMITTED / "laptop" / f"{kind}-seed0",
                        tmp_path / "laptop" / f"{kind}-seed0")
    found = reproduce.findings("laptop", 0, tmp_path)
    llc = load(COMMITTED / "laptop" / "regression-doubled-seed0")["llc"]
    top, end = llc.loc[llc.llc.idxmax()], llc.iloc[-1]
    assert len(found) == 5
    assert f"climbs to {top.llc:.0f} at step {top.step:,.0f} and ends at {end.llc:.0f}" in found[0]
    assert "Up to step 6,299" in found[0]
    assert not [line for line in found if "nan" in line or "**" in line or "](" in line]
    with pytest.raises(UserError, match="regression-doubled-seed1"):
        reproduce.findings("laptop", 1, tmp_path)


def test_a_run_that_ends_before_the_first_boundary_of_the_paper_says_so():
    run = load(COMMITTED / "laptop" / "regression-doubled-seed0")
    short = replace(run, tables={name: table[table.step <= 600] for name, table in
                                 run.tables.items() if "step" in table})
    said = front._stages(lambda stem: short)
    assert said.endswith("The run ends before the paper's first.")


def test_a_directory_that_cannot_be_written_is_refused_before_a_text_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a regular file")
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "file" / "runs"))
    monkeypatch.setattr(corpora, "load_corpus", lambda *_: pytest.fail("a text is made"))
    with pytest.raises(UserError, match="cannot write to"):
        reproduce.compute_tables("laptop", 0)
