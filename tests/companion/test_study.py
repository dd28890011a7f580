"""The command `study`: a further seed, table by table, broken off and gone on with."""

import pytest

from companion import results
from companion.cli import main
from companion.compute import parallel
from companion.runs import MANIFEST, RunKey

KINDS = ["evaluation", "development", "blocks", "protocols", "hessian"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What was asked of `results`, which computes nothing here."""
    calls = []
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    for kind in KINDS:
        monkeypatch.setattr(results, kind, lambda *scale, kind=kind: calls.append((kind, *scale)))
    return calls


@pytest.mark.parametrize("residual", ["doubled", "standard"])
def test_it_asks_for_every_table_of_the_run_and_says_where_they_lie(asked, capsys, residual,
                                                                    tmp_path):
    main(["study", "--preset", "published", "--seed", "3", "--residual", residual])
    assert asked == [(kind, "published", 3, True, residual) for kind in KINDS]
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "published" / f"{kind}-{residual}-seed3") for kind in KINDS]


@pytest.mark.parametrize("wrong, word", [
    (["--preset", "big"], "no preset 'big'"), (["--seed", "-1"], "seed must be 0 or more"),
    (["--residual", "none"], "invalid choice"), (["--runs", ""], "names no directory")])
def test_what_is_wrong_is_said_before_any_work(asked, capsys, wrong, word):
    with pytest.raises(SystemExit) as end:
        main(["study", "--preset", "smoke", *wrong])
    assert end.value.code == 2 and word in capsys.readouterr().err and asked == []


def test_broken_off_it_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 1)  # no process that is not interrupted
    real, trained = results.development, []
    for kind in KINDS[2:]:  # they take half a minute
        monkeypatch.setattr(results, kind, lambda *scale: None)
    monkeypatch.setattr(results, "development", broken_off)
    arguments = ["study", "--preset", "smoke", "--seed", "1", "--runs", str(tmp_path)]
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 130
    first = RunKey.of("evaluation", "smoke", 1)
    before = (first.own() / MANIFEST).read_bytes()
    monkeypatch.setattr(results, "development", real)
    monkeypatch.setattr("devlib.regression.train.Trainer.update",
                        lambda *update: trained.append(update))
    main(arguments)
    assert trained == [] and (first.own() / MANIFEST).read_bytes() == before
    assert all((RunKey.of(kind, "smoke", 1).own() / MANIFEST).exists() for kind in KINDS[:2])


def broken_off(*scale):
    raise KeyboardInterrupt
