"""The ledger: every measurement on made-up tables that hold the released numbers, which run is
taken, and the words."""

import functools
import json
import math
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from companion import health, presets
from companion.claims import ledger, llc, text
from companion.claims.entries import Row
from companion.claims.explain import explain
from companion.claims.interval import Interval, Reading, interval, judge
from companion.claims.judge import Judged, Measured
from companion.claims.verdicts import (
    COARSE,
    DIFFERS,
    ILL,
    NOT_REACHED,
    NOT_RUN,
    REPRODUCED,
    VERDICTS,
)
from companion.results import Results, save
from devlib.errors import UserError
from devlib.settings import StageSettings, as_dict
from tests.companion.claims.made_up import (
    ENDS,
    TABLES,
    calibration,
    language,
    primer,
    put,
    regression,
)

IDS = [claim.id for claim in ledger.entries()]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Runs at the paper's scale with its numbers: five seeds of regression, one of all else."""
    root = tmp_path_factory.mktemp("released")
    for kind, make in TABLES.items():
        for seed in range(5) if kind == "regression" else (0,):
            put(root, "paper", kind, seed, make())
    return root


@pytest.fixture
def found_stages(monkeypatch):
    """The paper's stage boundaries wherever stages are looked for: finding them is tested with
    devlib.stages, and takes seconds."""
    def find(llc, loss, settings, prefix="LR"):
        one_layer = [400, 900] if llc.llc.max() == 100 else None
        return None, one_layer or (
            [900, 6_500, 8_500, 17_000] if prefix == "LM" else list(ENDS[1:-1])), None
    monkeypatch.setattr(health, "find_stages", find)
    monkeypatch.setattr(ledger.Run, "regression_rule", StageSettings(restarts=0))


@functools.cache
def ledger_of(released):
    return {judged.claim.id: judged for judged in ledger.ledger(runs=released)}


@pytest.mark.parametrize("claim", IDS)
def test_the_released_numbers_are_reproduced(released, found_stages, claim):
    """Every row is, or its seeds lie so far apart that no single run could tell."""
    found = ledger_of(released)[claim]
    wrong = [text.cells(m) for m in found.rows if m.verdict not in (REPRODUCED, COARSE)]
    assert not wrong
    for m in found.rows:
        assert (m.verdict == COARSE) == m.interval.coarse
        if m.verdict == COARSE:  # our errors are next to nothing here: the spread alone decides
            alone = interval(m.row, replace(m.reading, error=0.0))
            assert alone.coarse or claim == "LM-10"  # checkpoints here are a factor apart
    assert found.verdict == (COARSE if any(m.verdict == COARSE for m in found.rows)
                             else REPRODUCED)
    assert (found.preset, found.seed) == ("paper", 0)


def long_chains(*steps, diverged=0):
    """Tables of chains as long as the paper's, of an LLC of 100 + 1 at these steps."""
    return {"estimates": pd.DataFrame({
        "protocol": "as published", "step": steps, "llc": 101.0, "mcse": 0.5, "chain_sd": 3.0,
        "chains": 4, "diverged": diverged})}


def short(tables, draws=1_000):
    """The same curve by chains of a relaxation."""
    return tables | {"llc": tables["llc"].assign(draws=draws)}


def lr_1(root, seed=None):
    return next(found for found in ledger.ledger(runs=root, seed=seed)
                if found.claim.id == "LR-1")


def test_the_llc_of_a_stage_s_end_is_that_of_the_paper_s_long_chains(tmp_path, found_stages):
    """Where a run has them; elsewhere its curve's, with the error that shorter chains have."""
    put(tmp_path, "published", "regression", 1, short(regression()))
    before = lr_1(tmp_path)
    put(tmp_path, "published", "protocols", 1, long_chains(984, 40_404, 328_282))
    rows = lr_1(tmp_path).rows
    assert [(m.value, m.error) for m in rows[:3:2]] == [(101.0, 1.5)] * 2  # 40,404 for 40,292
    assert [m.reading for m in rows[3:]] == [m.reading for m in before.rows[3:]]
    assert min(m.error for m in (rows[1], *rows[3:])) >= health.SLOW  # 328,282 is not 318,181
    assert DIFFERS in {m.verdict for m in rows[:3:2]}


def test_chains_as_long_as_the_paper_s_have_no_error_of_short_ones(tmp_path, found_stages):
    put(tmp_path, "published", "regression", 1, regression())
    assert max(m.error for m in lr_1(tmp_path).rows) < 1


def test_long_chains_that_diverged_are_no_measurement(tmp_path, found_stages):
    put(tmp_path, "published", "regression", 1, regression())
    put(tmp_path, "published", "protocols", 1, long_chains(984, diverged=1))
    assert lr_1(tmp_path).rows[0].why == "step 984: 1 diverged"


def test_long_chains_are_not_those_of_another_sampler_or_run(tmp_path, found_stages):
    put(tmp_path, "published", "protocols", 1, long_chains(984))
    places = ledger.places_beside("published", 1, tmp_path)
    claim = next(claim for claim in ledger.entries() if claim.id == "LR-1")

    def first_of(**changes):
        settings = as_dict(presets.get("published").regression)
        for part, values in changes.items():
            settings[part] = settings[part] | values
        run = Results(regression(), {"preset": "published", "seed": 1, "settings": settings})
        return ledger.judged(claim, ledger.Run("published", 1, {"regression": run},
                                               places=places)).rows[0].value

    assert first_of() == first_of(evaluation={"samples": 7}) == 101.0
    assert 101.0 not in (first_of(llc={"eps": 1e-4}), first_of(training={"batch": 7}))


def test_a_change_of_the_llc_has_both_ends_errors(tmp_path, found_stages):
    """As if they were independent; of long chains at both ends, at one, and at none."""
    put(tmp_path, "published", "regression", 1, short(regression()))
    put(tmp_path, "published", "protocols", 1, long_chains(984, 40_404))
    run = ledger.open_run("published", 1, tmp_path)
    both, one, none = (llc.llc_between(run, *ends) for ends in (
        (984, 40_292), (40_292, 126_262), (126_262, 318_181)))
    assert (both.value, both.error) == (0.0, pytest.approx(1.5 * 2**0.5))
    assert one.error > health.SLOW and none.error > health.SLOW * 2**0.5
    assert one.value == pytest.approx(llc.llc_at(run, 126_262).value - 101)


def test_a_seed_without_a_curve_stands_beside_the_judged_one(tmp_path, found_stages):
    """Its loss and norm, and its LLC where it has long chains."""
    put(tmp_path, "published", "regression", 1, regression())
    put(tmp_path, "published", "evaluation", 0, {"evaluation": regression()["evaluation"]})
    put(tmp_path, "published", "protocols", 0, long_chains(984))
    found = {judged.claim.id: judged for judged in ledger.ledger(runs=tmp_path)}
    assert found["LR-1"].seed == found["LR-12"].seed == 1
    assert [m.spread for m in found["LR-1"].rows] == [(101.0,), *[()] * 5]
    norms = [m.value for m in found["LR-12"].rows]
    assert [m.spread for m in found["LR-12"].rows] == [(norm,) for norm in norms]
    assert found["LR-13"].verdict == NOT_RUN


def test_seeds_are_spread(released, found_stages):
    assert [len(m.spread) for m in ledger_of(released)["LR-1"].rows] == [4] * 6
    assert ledger_of(released)["LM-1"].rows[0].spread == ()


def untrained(tables):
    """The same tables if nothing ever changed after step 0."""
    return {name: table.assign(**{
        column: table[column][table.step == table.step.min()].iloc[0] for column in table
        if column not in ("step", "layer", "head", "tasks", "earlier_head", "later_head")
        and pd.api.types.is_numeric_dtype(table[column])})
        if "step" in table and table.step.min() == 0 else table for name, table in tables.items()}


# given their stages here; LR-14 reads heads at the end, which `untrained` leaves as they are
NOT_BY_TABLES = {"LR-14", "LR-15", "LR-17", "LM-12"}


@pytest.mark.parametrize("kind", ["regression", "development", "language-2layer"])
def test_an_untrained_run_reproduces_no_claim(released, tmp_path, found_stages, kind):
    """Each claim fails where there is nothing to it; stages are given to all runs here."""
    for name in {kind, "regression"}:
        put(tmp_path, "paper", name, 0, untrained(TABLES[name]()))
    for judged in ledger.ledger(runs=tmp_path):
        if judged.claim.tables[0] == kind and judged.claim.id not in NOT_BY_TABLES:
            assert judged.verdict == DIFFERS, text.block(judged)


# --------------------------------------------------------------------------- which run is taken


def test_each_claim_takes_the_largest_preset(tmp_path, found_stages):
    """Tables that arrive are taken up: published before laptop, claim by claim."""
    short = {name: table[table.step <= 6_300] for name, table in regression().items()}
    put(tmp_path, "laptop", "regression", 0, short)
    put(tmp_path, "laptop", "language-2layer", 0, language())
    found = {judged.claim.id: judged for judged in ledger.ledger(runs=tmp_path)}
    assert (found["LR-1"].preset, found["LR-1"].verdict) == ("laptop", NOT_REACHED)
    assert found["LR-1"].rows[0].verdict == REPRODUCED
    assert found["LR-5"].verdict == found["LM-10"].verdict == NOT_RUN
    by_scale = {(m.row.scale, m.verdict) for m in found["LM-2"].rows}
    assert by_scale == {("any", REPRODUCED), ("steps", NOT_RUN), ("paper", NOT_RUN)}
    assert found["LM-2"].verdict == NOT_RUN
    put(tmp_path, "published", "regression", 1, regression())
    found = {judged.claim.id: judged for judged in ledger.ledger(runs=tmp_path)}
    assert (found["LR-1"].preset, found["LR-1"].seed) == ("published", 1)
    assert found["LR-1"].verdict == COARSE
    assert "published preset, seed 1" in found["LR-1"].description
    assert found["LM-1"].preset == "laptop"
    assert found["LR-15"].verdict == NOT_RUN
    assert found["LR-15"].rows[0].why == "5 seeds are needed; of this preset there are 1"
    forced = {judged.claim.id: judged for judged in ledger.ledger("laptop", tmp_path)}
    assert forced["LR-1"].verdict == NOT_REACHED


def test_rows_of_the_papers_steps_are_judged_where_the_optimiser_is_the_papers(
        tmp_path, found_stages):
    """Published has the paper's rate, laptop another; of a run the manifest says which."""
    put(tmp_path, "published", "language-2layer", 0, language())
    put(tmp_path, "published", "language-2layer", 1, language(), training=as_dict(
        presets.PUBLISHED.language.training) | {"lr": 3e-3})
    put(tmp_path, "laptop", "language-2layer", 0, language())

    def kinds(preset, seed):
        found = {judged.claim.id: judged for judged in ledger.ledger(preset, tmp_path, seed)}
        return {(m.row.scale, m.verdict == NOT_RUN) for m in found["LM-2"].rows}

    assert kinds("published", 0) == {("any", False), ("steps", False), ("paper", True)}
    assert kinds("published", 1) == kinds("laptop", 0) == {
        ("any", False), ("steps", True), ("paper", True)}


def test_measure_gives_plain_dictionaries(released, found_stages):
    found = ledger.measure("paper", 3, released)
    json.dumps(found, allow_nan=False)
    assert {"id", "what", "scale", "measured", "error", "wanted", "power", "low", "high", "notice",
            "effect", "p", "verdict", "why", "unit", "preset", "seed", "claim", "claim_verdict"
            } == set(found[0])
    assert len(found) == sum(len(claim.rows) for claim in ledger.entries())  # every row
    by = {(row["id"], row["what"]): row for row in found}
    row = by["LR-1", "step 984, end of LR1"]
    assert (row["measured"], row["error"], row["seed"]) == (pytest.approx(19.23), 0.05, 3)
    assert (row["verdict"], row["claim_verdict"]) == (REPRODUCED, COARSE)
    assert row["low"] < 16.9 and row["high"] > 21.6
    assert row["notice"] == pytest.approx(2.41, abs=0.01)
    assert by["LR-5", "step 984"]["verdict"] == NOT_RUN  # no development tables of seed 3
    with pytest.raises(UserError, match="no preset"):
        ledger.measure("large", 0)


def test_measure_takes_tables_of_other_settings(tmp_path, found_stages):
    save(tmp_path / "paper" / "regression-standard-seed0", regression(),
         {"preset": "paper", "seed": 0, "seconds": {},
          "settings": {"llc": {"eps": 3e-4, "gamma": 20 / 3, "nbeta": 200 / 3}}})
    assert ledger.measure("paper", 0, tmp_path)[-1]["verdict"] == NOT_RUN
    found = ledger.measure("paper", 0, tmp_path, {"residual": "standard"})
    assert {row["verdict"] for row in found if row["id"] == "LR-12"} == {REPRODUCED, COARSE}


def test_the_command_prints_the_tally_without_torch(tmp_path):
    put(tmp_path, "paper", "primer", 0, primer())
    put(tmp_path, "laptop", "calibration", 0, calibration())
    code = ("import sys; from companion.cli import main; "
            f"main(['claims', '--runs', {str(tmp_path)!r}]); assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = ("A-1", "A-2", "LR-16", "LR-21")
    rest = [claim for claim in IDS if claim not in found]
    *_, last = done.stdout.rstrip().splitlines()
    assert (f"reproduced: 4 ({', '.join(found)})\ndiffers: 0\ntoo coarse to tell: 0\nnot a "
            f"measurement: 0\nnot reached: 0\nnot run: {len(rest)} ({', '.join(rest)})\n"
            f"{last}\n") == done.stdout[done.stdout.index("\nreproduced: 4") + 1:]
    count = sum(len(claim.rows) for claim in ledger.entries())
    assert last.startswith(f"rows: {count} (") and sum(
        int(part.split()[0]) for part in last[last.index("(") + 1:-1].split(", ")) == count
    done = subprocess.run([sys.executable, "-m", "companion", "claims", "--preset", "large"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no preset" in done.stderr


def test_every_row_of_the_committed_tables_counts_and_has_its_power():
    found = ledger.ledger()
    rows = [m for judged in found for m in judged.rows]
    assert len(rows) == sum(len(claim.rows) for claim in ledger.entries())
    assert {m.verdict for m in rows} <= set(VERDICTS)
    assert f"rows: {len(rows)} (" in text.tally(found)
    for m in rows:
        if m.verdict in (REPRODUCED, DIFFERS, COARSE, ILL):
            assert m.interval is not None and " of " in text.power(m)
            if m.verdict == REPRODUCED:
                assert not m.interval.coarse
        else:
            assert m.why or m.row.seen_from or m.verdict == NOT_RUN


def test_a_page_shows_its_own_run(released, capsys):
    run = ledger.open_run("paper", 2, released).results["regression"]
    ledger.show("LR-12", "LR-13", regression=run)
    said = " ".join(capsys.readouterr().out.split())
    assert ("LR-12: too coarse to tell (of 5 rows 4 reproduced, 1 too coarse to tell). The norm of "
            "all weights") in said
    assert ("step 40,292: 32; the paper's 5 seeds 31.8 to 32.4; 31.3 to 32.7; notices 0.695 of 7: "
            "reproduced") in said
    assert "Together, norms: p = 1.00 of 5 numbers: too coarse to tell" in said
    assert "LR-13: not run. Hessian" in said
    with pytest.raises(UserError, match="no claim 'LR-0'"):
        ledger.show("LR-0", regression=run)


def test_explain_shows_the_whole_arithmetic(released, found_stages, capsys):
    from companion.cli import main

    found = ledger_of(released)
    for judged in found.values():
        said = explain(judged)
        for m in judged.rows:
            assert m.row.what in said
        assert said.count("  power: notices ") == said.count("times the tolerance; ") / 2
    said = explain(found["LR-12"])
    assert "released, weight_norm, step 40,292: 31.967, 31.874, 31.852, 32.359, 31.784" in said
    assert "t(4) sd sqrt(1/1 + 1/5) = " in said
    assert "reproduced at 0.5 times the tolerance; reproduced at 1 times" in said
    with pytest.raises(SystemExit):
        main(["claims", "--explain", "LR-0", "--runs", str(released)])
    assert "no claim 'LR-0'" in capsys.readouterr().err


@pytest.mark.parametrize("value, error, expected", [
    (173.559, 3.36542, "173.6 +- 3.4"), (655, 13, "655 +- 13"), (0.0123456, 0.00021,
     "0.01235 +- 0.00021"), (522.082, 0.000051, "522.082"), (0, 0.02, "0.000 +- 0.020"),
    (3052.31, None, "3,052"), (float("nan"), 1, "none found")])
def test_a_number_has_the_digits_that_its_error_and_its_table_allow(value, error, expected):
    assert text.number(value, error) == expected


@pytest.mark.parametrize("low, high, said", [
    (1.495, 1.505, "1.495 to 1.505"), (154.2, 160.4, "154 to 160"), (0, math.inf, "0 to any"),
    (-math.inf, 0.125, "any to 0.125"), (2_799.4, 5_756.1, "2,799 to 5,756"), (4, 4, "4 to 4")])
def test_the_ends_of_an_interval_are_told_apart(low, high, said):
    assert text.ends(Interval(low, high, 0, 0, 1, 0, 0)) == said


def test_explain_gives_the_half_width_that_it_uses():
    """Of the spread and our error in quadrature, or of what the reading is blind to."""
    row = Row("r", effect=100, released={"curve": "early_icl_half"}, log=True)

    def said(reading):
        verdict, found = judge(row, reading)
        return explain(Judged(ledger.entries()[0], "paper", 0, "",
                              (Measured(row, verdict, reading, found),)))

    assert "0 of our error, in quadrature; agrees from 2,799 to 5,756" in said(Reading(3_707.0))
    assert "in quadrature, and no less than what it is blind to, 2; agrees from" in said(
        Reading(3_707.0, blind=2.0))
