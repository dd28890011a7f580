"""Versions of measurements: raised when their code finds other numbers, and kept apart."""

import json

import pandas as pd
import pytest

from companion import measurements, runs
from companion.measurements import MEASUREMENTS, TABLES, Versioned
from companion.results import load, regression
from companion.runs import RunKey
from tests import measured_code
from tests.companion.test_results import TINY, Calls, inject
from tests.measured_code import RECORD, definitions, digest, digests

NOW = digests()


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_code_of_a_measurement_is_that_on_record(name):
    known = json.loads(RECORD.read_text()).get(name)
    assert NOW[name] == known, (
        f"The code behind {name!r} is not that on record. Where it finds other numbers for the "
        "same settings, or other columns, raise its version in book/companion/measurements.py, so "
        "that nothing it measured before is taken for the new; where all stays what it was, leave "
        "the version. Then put the code on record: python -m tests.measured_code")


def test_the_record_names_no_other():
    assert json.loads(RECORD.read_text()).keys() == MEASUREMENTS.keys()


def test_every_table_says_what_it_is_made_of():
    assert TABLES.keys() == {*runs.KINDS}
    assert {name for names in TABLES.values() for name in names} == {*MEASUREMENTS}


@pytest.mark.parametrize("name, rests_on", [
    ("LLC", {"llc_row", "estimate_llc", "Chains", "sgld_step", "RegressionTransformer",
             "fixed_set", "stream_seed"}),
    ("language LLC", {"running_init_llc", "per_sample_loss", "fixed_contexts"}),
    ("Hessian", {"density_rows", "lanczos", "trace", "RegressionTransformer"}),
    ("calibration", {"_sample", "Descent", "mala_acceptance", "status", "_init_losses"})])
def test_what_a_measurement_rests_on_is_found(name, rests_on):
    found = {definition for _, definition in definitions(MEASUREMENTS[name].begins)}
    assert rests_on <= found
    assert not found & {"write_sealed", "each", "UserError", "adopt", "roughness"}


def test_what_is_no_part_of_a_measurement_is_there():
    for module, _, name in (place.partition(":") for place in measured_code.NO_PART):
        assert measured_code.path(module), f"there is no {module}"
        assert not name or name in measured_code.read(module)[0], f"{module} defines no {name}"


# ---------------------------------------------------------------------------- the digest of code

CODE = '''
"""A module."""
from {package} import errors
from {package}.numbers import HALF, shift as moved

FACTOR = 2

def measure(x):
    """What it does."""
    return helper(x) * HALF + moved(x)  # why

def helper(x):
    return FACTOR * x

def other(x):
    return -x
'''
NUMBERS = "HALF = 0.5\n\ndef shift(x):\n    return x + 1\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """`code(text, numbers)` -> the digest of `measure` in a package of these two modules."""
    made = []

    def write(text=CODE, numbers=NUMBERS):
        package = f"package{len(made)}"
        made.append(package)
        monkeypatch.setitem(measured_code.ROOTS, package, tmp_path)
        (tmp_path / package).mkdir()
        for name, content in (("code", text.format(package=package)), ("numbers", numbers),
                              ("errors", ""), ("__init__", "")):
            (tmp_path / package / f"{name}.py").write_text(content)
        return digest([f"{package}.code:measure"])

    measured_code.read.cache_clear()
    return write


@pytest.mark.parametrize("old, new", [
    ("  # why", ""), ('"""What it does."""', '"""Something else."""'),
    ('    """What it does."""\n', ""), ("-x", "x"), ("import errors", "import errors as wrong"),
    ("    return FACTOR * x", "    return (FACTOR *\n            x)"),
    ("def helper(x):\n    return FACTOR * x\n\n", ""),  # see below: it stands elsewhere
])
def test_what_changes_no_number_by_itself_changes_no_digest(code, old, new):
    assert old in CODE
    before, text, numbers = code(), CODE.replace(old, new), NUMBERS
    if "def helper" in old:
        text = text.replace("HALF, ", "HALF, helper, FACTOR, ").replace("FACTOR = 2\n", "")
        numbers += "\nFACTOR = 2\n\ndef helper(x):\n    return FACTOR * x\n"
    assert code(text, numbers) == before


@pytest.mark.parametrize("old, new", [
    ("FACTOR = 2", "FACTOR = 3"), ("FACTOR * x", "FACTOR + x"), ("+ moved(x)", "- moved(x)"),
    ("HALF = 0.5", "HALF = 0.25"), ("x + 1", "x + 2"), ("def helper(x)", "def helper(x=1)")])
def test_any_other_change_does(code, old, new):
    assert code() != code(CODE.replace(old, new), NUMBERS.replace(old, new))


def test_a_place_that_is_none_is_named(code):
    with pytest.raises(LookupError, match="defines no measure"):
        code("")


def test_the_record_is_made_anew_and_says_what_that_declares(tmp_path, monkeypatch, capsys):
    path = tmp_path / "record.json"
    monkeypatch.setattr(measured_code, "RECORD", path)
    old = NOW | {"LLC": {"version": 0, "code": "-"}, "path": NOW["path"] | {"code": "-"}}
    path.write_text(json.dumps(old))
    measured_code.refresh()
    assert json.loads(path.read_text()) == NOW
    assert capsys.readouterr().out.splitlines() == [
        f"LLC: version {NOW['LLC']['version']}", "path: changed, and every number as before"]


# ------------------------------------------------------------------------- old and new kept apart


@pytest.fixture
def first_versions(monkeypatch):
    """Every measurement in version 1, whatever it has come to."""
    for name, measurement in MEASUREMENTS.items():
        monkeypatch.setitem(MEASUREMENTS, name, Versioned(1, measurement.begins))


def raise_version(monkeypatch, name):
    old = MEASUREMENTS[name]
    monkeypatch.setitem(MEASUREMENTS, name, Versioned(old.version + 1, old.begins))


def test_a_new_version_is_measured_anew_and_nothing_else_is(tmp_path, monkeypatch,
                                                            first_versions):
    place, calls = inject(monkeypatch, tmp_path), Calls(monkeypatch)
    first = regression("tiny", 0, recompute=True)
    assert "versions" not in first.manifest
    checkpoints, points = len(first["evaluation"]), len(first["llc"])
    assert calls.since() == (TINY.training.steps, checkpoints, points)
    pieces = sorted((place / "llc").glob("*_step_*.json"))
    raise_version(monkeypatch, "LLC")
    assert regression("tiny", 0).manifest == first.manifest  # what is stored is shown as ever
    assert calls.since() == (0, 0, 0)
    second = regression("tiny", 0, recompute=True)
    assert calls.since() == (0, 0, points)
    assert second.manifest["versions"] == {"LLC": 2}
    assert load(RunKey.of("regression", "tiny", 0).own()).manifest == second.manifest
    pd.testing.assert_frame_equal(second["llc"], first["llc"])
    assert {*pieces} < {*(place / "llc").glob("*_step_*.json")}  # the old ones stay, unread
    regression("tiny", 0, recompute=True)
    assert calls.since() == (0, 0, 0)
    raise_version(monkeypatch, "evaluation")
    regression("tiny", 0, recompute=True)
    assert calls.since() == (0, checkpoints, 0)


def test_version_1_is_left_out_of_the_key():
    assert all(measurements.version_key(name) == (
        {} if found.version == 1 else {"version": found.version})
        for name, found in MEASUREMENTS.items())


def test_versions_above_1_are_said(monkeypatch, first_versions):
    assert measurements.versions("regression") == {}
    raise_version(monkeypatch, "LLC")
    assert measurements.versions("regression") == {"LLC": 2}
