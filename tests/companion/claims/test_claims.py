"""The ledger of claims: its file, its verdicts, and every measurement on made-up tables that hold
the released numbers."""

import functools
import json
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from companion.claims import entries, ledger, measures, text
from companion.claims.judge import AGREES, DIFFERS, NOT_REACHED, NOT_RUN, judge, overall
from companion.results import save
from companion.runs import RunKey
from companion.site.notebooks import names
from devlib import stages
from devlib.errors import UserError
from devlib.settings import StageSettings

IDS = re.findall(r"^  - id: (\S+)$", entries.PATH.read_text("utf-8"), re.M)  # LR-1, ...


# ------------------------------------------------------------------------------------- the file


def test_every_claim_has_an_entry_a_measurement_and_a_page():
    assert [claim.id for claim in ledger.entries()] == IDS
    assert {claim.page for claim in ledger.entries()} <= set(names())
    kinds = {kind for needs in measures.NEEDS.values() for kind in needs}
    assert kinds == set(ledger.KINDS)


@pytest.fixture
def counterparts(monkeypatch):
    """A registry of measurements that a test may change."""
    monkeypatch.setattr(measures, "MEASURES", dict(measures.MEASURES))
    ledger.entries.cache_clear()
    yield measures.MEASURES
    ledger.entries.cache_clear()


def test_a_claim_without_a_measurement_is_refused(counterparts):
    del counterparts["LR-7"]
    with pytest.raises(UserError, match=r"claim LR-7 of data/claims.yaml .* needs a measurement"):
        ledger.entries()


def test_a_measurement_without_a_claim_is_refused(counterparts):
    counterparts["LR-99"] = len
    with pytest.raises(UserError, match="claim LR-99 of "
                       r"book/companion/claims/measures.py .* an entry"):
        ledger.entries()


ENTRY = {"id": "X-1", "what": "w", "where": "p", "model": "LR", "page": "01_training", "unit": "u",
         "source": "s", "basis": "b", "rows": [{"what": "r", "expected": 1, "tolerance": 2}]}


@pytest.mark.parametrize(("change", "said"), [
    ({"basis": None}, "claim X-1.*: basis must be text"),
    ({"model": "CNN"}, "claim X-1.*: model must be one of LR"),
    ({"sauce": "s"}, "claim X-1.* unknown field sauce"),
    ({"rows": []}, "claim X-1.*: rows must be a list"),
    ({"rows": [{"what": "r", "expected": 1}]}, "claim X-1.*row 1 has no tolerance"),
    ({"rows": [{"what": "r", "expected": "1.5", "tolerance": 2}]}, "row 1: expected must be a num"),
    ({"rows": [{"what": "r", "expected": 1, "tolerance": "factor 0.5"}]}, "tolerance must be"),
    ({"rows": [{"what": "r", "expected": 1, "tolerance": -1}]}, "tolerance must be a number of 0"),
    ({"rows": [{"what": "r", "expected": 1, "tolerance": 1, "side": "over"}]}, "side must be one"),
    ({"rows": [{"what": "r", "expected": 1, "tolerance": 1, "scale": "paper"}]},
     "claim X-1.*some row must be measured at every scale"),
])
def test_malformed_entries_are_refused(tmp_path, change, said):
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps({"claims": [ENTRY]}))  # JSON is YAML
    assert entries.load_entries(path)[0].id == "X-1"
    path.write_text(json.dumps({"claims": [ENTRY | change]}))
    with pytest.raises(UserError, match=said):
        entries.load_entries(path)


def test_twice_and_torn_are_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps({"claims": [ENTRY, ENTRY]}))
    with pytest.raises(UserError, match=r"claim X-1 is in claims.yaml twice"):
        entries.load_entries(path)
    path.write_text("claims: [")
    with pytest.raises(UserError, match="cannot be read"):
        entries.load_entries(path)


# ------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(("row", "inside", "outside"), [
    (dict(expected=10, tolerance=2), (8, 10, 12), (7.9, 12.1, math.nan)),
    (dict(expected=10, tolerance=2, errors=3), (6.5, 13.5), (6.4, 13.6)),  # 3 times 0.5 besides
    (dict(expected=-10, tolerance="20%"), (-8, -12), (-7.9, -12.1)),
    (dict(expected=10, tolerance="factor 2"), (5, 20), (4.9, 20.1, math.inf)),
    (dict(expected=10, tolerance=4, side="at least"), (6, 1e9), (5.9, math.nan)),
    (dict(expected=10, tolerance=4, side="at most"), (14, -1e9), (14.1, math.inf)),
])
def test_judge(row, inside, outside):
    row = entries.Row("r", **row)
    assert {judge(row, value, 0.5) for value in inside} == {AGREES}
    assert {judge(row, value, 0.5) for value in outside} == {DIFFERS}


def test_half_and_double():
    row = entries.Row("r", 10, 2, errors=2)
    found = [judge(row, 12.5, 0.5, scale) for scale in (1, 0.5, 2)]
    assert found == [AGREES, DIFFERS, AGREES]  # 3, 1.5 and 6 are allowed
    row = entries.Row("r", 10, "factor 4")
    assert [judge(row, value, None, 0.5) for value in (20, 21)] == [AGREES, DIFFERS]
    assert [judge(row, value, None, 2) for value in (160, 161)] == [AGREES, DIFFERS]


def test_overall():
    assert overall([AGREES, DIFFERS, NOT_REACHED, NOT_RUN]) == DIFFERS
    assert overall([AGREES, NOT_REACHED, NOT_RUN]) == NOT_RUN
    assert overall([AGREES, NOT_REACHED]) == NOT_REACHED
    assert overall([AGREES, AGREES]) == AGREES


# ------------------------------------------------------------------- a run as the released one is


def through(nodes, steps):
    """A curve through {step: value}, straight between them in log(step + 1)."""
    return np.interp(np.log1p(steps), np.log1p(list(nodes)), list(nodes.values()))


def steps_to(last, *special):
    """Steps spread over log(step + 1), the special ones among them."""
    spread = np.geomspace(1, last + 1, 40).round() - 1
    return np.array(sorted({*spread.astype(int), *special, last}))


ENDS = (0, 984, 40_292, 126_262, 318_181, 499_999)
LR_STEPS = steps_to(499_999, *ENDS, 1_673, 2_500, 10_101, 12_000, 14_000, 23_737, 101_010, 116_000,
                    172_000)


def regression():
    """Tables of a regression run that holds the released numbers."""
    def curve(*values, more=None):
        nodes = dict(zip(ENDS, values, strict=True)) | (more or {})
        return through(dict(sorted(nodes.items())), LR_STEPS)

    level = curve(-0.1, 19.2, 169.95, 156.9, 123.4, 127.9, more={10_101: 155.9})
    return {"evaluation": pd.DataFrame({
                "step": LR_STEPS, "loss": curve(4.452, 4.165, 1.896, 1.828, 1.780, 1.747,
                                                more={10_101: 2.103}),
                "loss_se": 0.004, "msp_se": 1e-4,
                "msp": curve(0.3, 0.03, 2.0, 2.1, 2.2, 2.2, more={1_673: 0.013}),
                "weight_norm": curve(24.9, 24.9, 31.9, 68.7, 211, 236)}),
            "llc": pd.DataFrame({"step": LR_STEPS, "llc": level, "mcse": 0.4})}


def development():
    """Tables of Appendix D with the released numbers."""
    def curve(nodes):
        return through(nodes, LR_STEPS)

    early = curve({0: 0, 984: -0.11, 40_292: -2.51, 126_262: -2.64, 499_999: -2.75})
    late = curve({0: 0, 984: 0.2, 2_500: 0.3, 23_737: -0.935, 499_999: -0.97})
    ood = {"input": ((2.22, 2.89, 3.65, 3.96), (2.22, 3.38, 3.79, 3.95)),
           "task": ((1.97, 2.45, 3.19, 3.94), (1.65, 2.02, 2.88, 3.96))}
    behaviour = {"step": LR_STEPS, "icl_early": early, "icl_early_slip": early, "icl_late": late,
                 "icl_late_slip": late}
    for family, (middle, end) in ood.items():
        for gain, *values in zip((3, 5, 10, 100), middle, end, strict=True):
            behaviour[f"ood_{family}_{gain}"] = curve(dict(zip((40_292, 499_999), values,
                                                               strict=True)))
    behaviour |= {f"{name}_se": 0.02 for name in [*behaviour][1:]}
    fifth = curve({0: 0.134, 40_292: 0.031, 101_010: 0.029, 499_999: 0.015})
    structure = {"step": LR_STEPS, "embed_5": fifth,
                 **{f"embed_{i}": (1 - fifth) / 4 for i in range(1, 5)},
                 "unembed_ln_collapsed": curve({0: 0, 80_808: 0.02, 126_262: 0.48, 318_181: 0.92,
                                                499_999: 0.94}),
                 **{f"blocks.{block}.ln{place}_collapsed": end for (block, place), end in
                    zip(((0, 1), (0, 2), (1, 1), (1, 2)), (0.52, 0.16, 0.02, 0.02), strict=True)}}
    heads = pd.DataFrame({"step": 499_999, "self": 0.0, "previous": [0.95, 0, 0, 0.5],
                          "x": [1, 0.95, 0.05, 0.5], "y": [0, 0.05, 0.95, 0.5],
                          "variability": [0.01, 0.01, 0.01, 0.5]})
    return {"behaviour": pd.DataFrame(behaviour), "structure": pd.DataFrame(structure),
            "heads": heads}


def hessian():
    trace = {0: 130, 12_000: 3465, 40_292: 1808, 172_000: 292, 499_999: 819}
    top = {0: 40, 14_000: 499, 40_292: 189, 116_000: 16.9, 499_999: 102}
    return {"statistics": pd.DataFrame({
        "step": LR_STEPS, "trace": through(trace, LR_STEPS), "trace_se": 1.0,
        "eig_1": through(top, LR_STEPS), "residual_1": 0.1})}


LM_STEPS = steps_to(49_999, 0, 400, 700, 900, 2_000, 6_400, 6_500, 8_500, 17_000, 25_000)


def language(layers=2):
    """Tables of a language run with the released numbers."""
    def curve(nodes):
        return through(nodes, LM_STEPS)

    behaviour = {
        "loss": curve({0: 7.94, 900: 4.35 if layers == 2 else 4.29, 6_500: 3.63, 8_500: 3.56,
                       17_000: 3.30, 49_999: 3.22 if layers == 2 else 3.52}),
        "bigram": curve({0: 8, 700 if layers == 2 else 900: 4.618, 6_500: 5.32, 49_999: 5.92}),
        "ablation": curve({0: 0, 700: 0.009, 900: 0.031, 2_000: 0.35, 6_500: 0.80, 17_000: 1.41,
                           49_999: 1.62}),
        "ngram_2": curve({0: 1, 900: 1.09, 6_500: 1.34, 49_999: 1.46}),
        "ngram_3": curve({0: 1, 900: 1.07, 6_500: 2.84, 49_999: 4.05}),
        "ngram_4": curve({0: 1, 900: 0.99, 6_500: 2.29, 49_999: 3.97}),
        "icl": curve({0: 0, 6_500: -0.049, 8_500: -0.062, 17_000: -0.211, 49_999: -0.218})}
    behaviour["bigram_excess"] = behaviour["bigram"] - 4.288
    behaviour |= {f"{name}_se": 0.004 for name in behaviour} | {"step": LM_STEPS}
    level = ({0: 42, 900: 105.3, 6_500: 135.2, 8_500: 134.3, 17_000: 145.7, 49_999: 148.2}
             if layers == 2 else {0: 10, 400: 80, 900: 50, 6_500: 90, 49_999: 100})
    previous = curve({0: 0.029, 6_500: 0.039, 17_000: 0.288, 49_999: 0.288})
    prefix = curve({0: 0.0104, 6_500: 0.008, 17_000: 0.074, 49_999: 0.074})
    heads = pd.concat([pd.DataFrame({
        "step": LM_STEPS, "layer": layer, "previous": previous if layer == 1 else 0.029,
        "prefix": prefix if layer == 2 else 0.0104, "previous_se": 0.001, "prefix_se": 0.001})
        for layer in (1, 2)])
    pair = pd.DataFrame({"step": LM_STEPS, **{kind: curve({0: 0.0625, 17_000: 0.1225,
                                                           49_999: 0.1225}) for kind in "qkv"}})
    return {"behaviour": pd.DataFrame(behaviour),
            "llc": pd.DataFrame({"step": LM_STEPS, "llc": curve(level), "mcse": 0.2}),
            "structure": pd.DataFrame({"step": LM_STEPS, "position_pc_1": curve(
                {0: 0.05, 6_400: 0.943, 49_999: 0.9})}),
            "heads": heads, "composition": pair,
            "corpus": pd.DataFrame({"source": ["all"], "bigram_loss": [4.288]})}


def calibration():
    table = pd.DataFrame({"step": [1_000, 4_000, 9_000], "llc": [19.0, 90, 150], "mcse": 1.0})
    return {"runs": pd.concat([table.assign(part="seeded"),
                               table.assign(part="likelihood", llc=table.llc + 3)])}


def primer():
    """The exact examples, estimates one standard error off."""
    rows = [("A.2", "three quadratic directions", 1.5), ("A.2", "one of three unused", 1),
            ("A.2", "one quadratic, two quartic", 1), ("Fig. 2", "quadratic", 1),
            ("Fig. 2", "quartic", 0.5), ("Fig. 2", "crossing lines", 0.25),
            ("Fig. 2", "flat point beside a line", 0.25)]
    table = pd.DataFrame(rows, columns=["group", "potential", "llc"])
    return {"estimates": table.assign(limit=table.llc, reference=table.llc, mcse=0.01, ess=500,
                                      estimate=table.llc + 0.01)}


TABLES = {"development": development, "hessian": hessian, "regression": regression,
          "calibration": calibration, "primer": primer, "language-2layer": language,
          "language-1layer": lambda: language(1)}


def put(root, preset, kind, seed, tables, about="regression"):
    settings = {"toys": {"burn_in": 1_000, "eps": 1e-3, "gamma": 4.0}}
    save(RunKey.of(kind, preset, seed).own(root), tables,
         {"preset": preset, "seed": seed, "settings": settings, "seconds": {},
          "about": "language" if kind.startswith("language") else about})


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
        return None, [900, 6_500, 8_500, 17_000] if prefix == "LM" else list(ENDS[1:-1]), None
    monkeypatch.setattr(stages, "find_stages", find)
    monkeypatch.setattr(ledger.Run, "regression_rule", StageSettings(restarts=0))


@functools.cache
def ledger_of(released):
    return {judged.claim.id: judged for judged in ledger.ledger(runs=released)}


@pytest.mark.parametrize("claim", IDS)
def test_the_released_numbers_agree(released, found_stages, claim):
    found = ledger_of(released)[claim]
    wrong = [text.cells(m) for m in found.rows if m.verdict != AGREES]
    assert found.verdict == AGREES and not wrong
    assert len(found.rows) == len(found.claim.rows)  # those of the paper's scale too
    assert (found.preset, found.seed) == ("paper", 0)


def test_seeds_are_spread(released, found_stages):
    assert [len(m.spread) for m in ledger_of(released)["LR-1"].rows] == [4] * 6
    assert ledger_of(released)["LM-1"].rows[0].spread == ()


def untrained(tables):
    """The same tables if nothing ever changed after step 0."""
    return {name: table.assign(**{
        column: table[column][table.step == table.step.min()].iloc[0] for column in table
        if column not in ("step", "layer") and pd.api.types.is_numeric_dtype(table[column])})
        if "step" in table and table.step.min() == 0 else table for name, table in tables.items()}


@pytest.mark.parametrize("kind", ["regression", "development", "language-2layer"])
def test_an_untrained_run_agrees_with_no_claim(released, tmp_path, found_stages, kind):
    """Each claim fails where there is nothing to it; LR-14 and LR-11 read the last step alone."""
    put(tmp_path, "paper", kind, 0, untrained(TABLES[kind]()))
    own = [claim for claim, needs in measures.NEEDS.items() if needs[0] == kind
           and claim not in ("LR-11", "LR-13", "LR-14", "LR-15")]
    found = {judged.claim.id: judged.verdict for judged in ledger.ledger(runs=tmp_path)}
    assert {claim: found[claim] for claim in own} == dict.fromkeys(own, DIFFERS)


# --------------------------------------------------------------------------- which run is taken


def test_each_claim_takes_the_largest_preset(tmp_path, found_stages):
    """Tables that arrive are taken up: published before laptop, claim by claim."""
    short = {name: table[table.step <= 6_300] for name, table in regression().items()}
    put(tmp_path, "laptop", "regression", 0, short)
    put(tmp_path, "laptop", "language-2layer", 0, language())
    found = {judged.claim.id: judged for judged in ledger.ledger(runs=tmp_path)}
    assert (found["LR-1"].preset, found["LR-1"].verdict) == ("laptop", NOT_REACHED)
    assert found["LR-1"].rows[0].verdict == AGREES
    assert found["LR-5"].verdict == found["LM-10"].verdict == NOT_RUN
    assert len(found["LM-2"].rows) == 2  # not those of the paper's scale
    put(tmp_path, "published", "regression", 1, regression())
    found = {judged.claim.id: judged for judged in ledger.ledger(runs=tmp_path)}
    assert (found["LR-1"].preset, found["LR-1"].seed) == ("published", 1)
    assert found["LR-1"].verdict == AGREES
    assert "published preset, seed 1" in found["LR-1"].description
    assert found["LM-1"].preset == "laptop"
    assert found["LR-15"].verdict == NOT_REACHED  # one seed of five
    forced = {judged.claim.id: judged for judged in ledger.ledger("laptop", tmp_path)}
    assert forced["LR-1"].verdict == NOT_REACHED


def test_measure_gives_plain_dictionaries(released, found_stages):
    found = ledger.measure("paper", 3, released)
    json.dumps(found, allow_nan=False)
    assert {"id", "what", "measured", "error", "expected", "tolerance", "verdict", "verdict_half",
            "verdict_double", "unit", "preset", "seed"} <= set(found[0])
    by = {(row["id"], row["what"]): row for row in found}
    row = by["LR-1", "step 984, end of LR1"]
    assert (row["measured"], row["error"], row["seed"]) == (pytest.approx(19.2), 0.4, 3)
    assert row["verdict"] == row["claim_verdict"] == AGREES
    assert by["LR-5", "step 984"]["verdict"] == NOT_RUN  # no development tables of seed 3
    with pytest.raises(UserError, match="no preset"):
        ledger.measure("large", 0)


def test_measure_takes_tables_of_other_settings(tmp_path, found_stages):
    save(tmp_path / "paper" / "regression-standard-seed0", regression(),
         {"preset": "paper", "seed": 0, "settings": {}, "seconds": {}})
    assert ledger.measure("paper", 0, tmp_path)[-1]["verdict"] == NOT_RUN
    found = ledger.measure("paper", 0, tmp_path, {"residual": "standard"})
    assert {row["verdict"] for row in found if row["id"] == "LR-12"} == {AGREES}


def test_the_command_prints_the_tally_without_torch(tmp_path):
    put(tmp_path, "paper", "primer", 0, primer())
    put(tmp_path, "laptop", "calibration", 0, calibration())
    code = ("import sys; from companion.cli import main; "
            f"main(['claims', '--runs', {str(tmp_path)!r}]); assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rest = set_apart("LR-16")
    assert done.stdout.endswith("agrees: 3 (A-1, A-2, LR-16)\ndiffers: 0\nnot reached at this "
                                f"scale: 0\nnot run: {len(rest)} ({', '.join(rest)})\n")
    done = subprocess.run([sys.executable, "-m", "companion", "claims", "--preset", "large"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no preset" in done.stderr


def set_apart(name):
    """The claims on trained models but for one."""
    return [claim for claim in IDS[2:] if claim != name]


def test_a_page_shows_its_own_run(released, capsys):
    run = ledger.open_run("paper", 2, released).results["regression"]
    ledger.show("LR-3", "LR-13", regression=run)
    said = " ".join(capsys.readouterr().out.split())
    assert "LR-3: agrees; differs at half tolerance. The trained model" in said
    assert "last loss: 1.7470 +- 0.0040; the paper's 1.747, within 0.016 + 3 se: agrees" in said
    assert "LR-13: not run. Hessian" in said
    with pytest.raises(UserError, match="no claim 'LR-0'"):
        ledger.show("LR-0", regression=run)


@pytest.mark.parametrize("value, error, expected", [
    (173.559, 3.36542, "173.6 +- 3.4"), (655, 13, "655 +- 13"), (0.0123456, 0.00021,
     "0.01235 +- 0.00021"), (522.082, 0.000051, "522.082"), (0, 0.02, "0.000 +- 0.020"),
    (3052.31, None, "3,052"), (float("nan"), 1, "none found")])
def test_a_number_has_the_digits_that_its_error_and_its_table_allow(value, error, expected):
    assert text.number(value, error) == expected
