"""The command that runs the book's numbers under other arithmetic, and a run's last word."""

from types import SimpleNamespace

import pytest

from conftest import not_run
from tests import elsewhere


def skipped(reason):
    return SimpleNamespace(longrepr=("tests/test_x.py", 1, f"Skipped: {reason}"))


def test_the_last_word_counts_by_reason():
    assert not_run([]) is None
    reports = [skipped("no browser: install one")] * 3 + [skipped("no GPU")]
    assert not_run(reports) == "NOT RUN: 4 tests: 3 (no browser: install one); 1 (no GPU)"


def test_a_setting_beyond_this_processor_is_said_and_not_run(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert elsewhere.lacking(elsewhere.OLDEST) is None
    assert elsewhere.lacking(elsewhere.NEWEST) == "avx512_f"
    assert elsewhere.main(["skylakex"]) == 0
    assert capsys.readouterr().out == "skylakex: NOT RUN: this processor has no avx512_f\n"


@pytest.mark.parametrize("passed, ledgers, code", [
    (True, ["one", "one"], 0), (True, ["one", "other"], 1), (False, ["one", "one"], 1)])
def test_what_differs_fails(monkeypatch, capsys, passed, ledgers, code):
    printed = iter(ledgers)
    monkeypatch.setattr(elsewhere, "pages_and_tables", lambda setting: (passed, "5 passed"))
    monkeypatch.setattr(elsewhere, "ledger", lambda setting: next(printed))
    assert elsewhere.main(["prescott", "threads-4"]) == code
    assert ("differs from the first: the ledger" in capsys.readouterr().out) == (
        ledgers[0] != ledgers[1])
