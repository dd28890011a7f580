"""The file of claims: its schema, and what a row cannot be written without."""

import json
import re

import pytest

from companion.claims import entries, ledger, measures, seeds
from companion.site.notebooks import names
from devlib.errors import UserError

IDS = re.findall(r"^  - id: (\S+)$", entries.PATH.read_text("utf-8"), re.M)  # LR-1, ...


def test_every_claim_has_an_entry_a_measurement_and_a_page():
    assert [claim.id for claim in ledger.entries()] == IDS
    assert {claim.page for claim in ledger.entries()} <= set(names())
    assert {kind for claim in ledger.entries() for kind in claim.tables} == set(ledger.KINDS)


def test_every_released_value_is_there_and_has_a_spread():
    rows = [row for claim in ledger.entries() for row in claim.rows if row.released]
    assert len(rows) > 60
    for row in rows:
        values = seeds.of_seeds(**row.released)
        assert len(values) >= 4 and values.std() > 0, row.what


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


ROW = {"what": "r", "expected": 1, "tolerance": 2, "effect": 3}
ENTRY = {"id": "X-1", "what": "w", "where": "p", "model": "LR", "page": "01_training", "unit": "u",
         "source": "s", "basis": "b", "rows": [ROW],
         "needs": {"tables": ["regression"], "seeds": 1, "scale": "laptop"}}


def without(key):
    return {name: value for name, value in ROW.items() if name != key}


@pytest.mark.parametrize(("change", "said"), [
    ({"basis": None}, "claim X-1.*basis: None is not of type"),
    ({"model": "CNN"}, "claim X-1.*model: 'CNN' is not one of"),
    ({"sauce": "s"}, "claim X-1.*'sauce' was unexpected"),
    ({"rows": []}, "claim X-1.*"),
    ({"rows": [without("effect")]}, "claim X-1.*row 1: 'effect' is a required property"),
    ({"rows": [ROW | {"effect": 0}]}, "row 1, effect: 0 is less than or equal to the minimum"),
    ({"rows": [without("tolerance")]}, "row 1: a row has one of released"),
    ({"rows": [ROW | {"at_least": 2}]}, "row 1: a row has one of released"),
    ({"rows": [ROW | {"expected": "1.5"}]}, "row 1.*'1.5' is not of type 'number'"),
    ({"rows": [ROW | {"tolerance": -1}]}, "row 1, tolerance: -1 is less than the minimum"),
    ({"rows": [ROW | {"scale": "huge"}]}, "row 1, scale: 'huge' is not one of"),
    ({"needs": {"tables": ["regression"], "seeds": 1}}, "needs: 'scale' is a required property"),
    ({"needs": {"tables": ["loss"], "seeds": 1, "scale": "paper"}}, "'loss' is not one of"),
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
