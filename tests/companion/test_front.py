"""The front page's figure and sentences: each number again by a second way, from the CSVs."""

import csv
import json
import re
import statistics

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from companion import front
from companion.claims import seeds
from companion.health import ill
from companion.places import project_root
from companion.runs import RunKey
from devlib.errors import UserError

DATA = project_root() / "data"
RUN = DATA / "results" / "published" / "regression-doubled-seed1"


def rows(path):
    return list(csv.DictReader(path.open()))


def test_the_run_is_the_largest_that_is_committed():
    run, _, _ = front.regression()
    assert (run.manifest["preset"], run.manifest["seed"]) == ("published", 1)
    assert front.largest("primer").manifest["preset"] == "laptop"


def test_side_tables_are_those_of_a_run_with_a_curve(monkeypatch):
    """Seed 0 has long chains before it has a curve: the page shows those of seed 1."""
    kinds = ("protocols", "protocols", "evaluation", "regression", "regression")
    keys = [RunKey.of(kind, "published", seed) for kind, seed in zip(
        kinds, (0, 1, 0, 1, 2), strict=True)]
    monkeypatch.setattr(front, "finished", lambda preset, place: [
        key for key in keys if key.preset == preset])
    monkeypatch.setattr(front, "load", lambda place: place)
    assert front.largest.__wrapped__("protocols-doubled") == keys[1].committed
    assert front.largest.__wrapped__("evaluation-doubled") == keys[2].committed
    assert front.others("protocols-doubled") == [keys[0].committed]
    assert front.others("evaluation-doubled", "regression-doubled") == [
        keys[2].committed, keys[4].committed]


def test_further_seeds_are_drawn_beside_the_run(monkeypatch):
    run = front.regression()[0]
    tables = {"evaluation": run["evaluation"], "estimates": front.largest("protocols-doubled")[
        "estimates"]}
    monkeypatch.setattr(front, "others", lambda *stems: [tables, tables])
    fig = front.headline()
    try:
        for ax in fig.axes:
            further = [line for line in ax.lines if line.get_linewidth() == 0.7]
            labels = ax.get_legend_handles_labels()[1]
            assert len(further) == 2 and labels.count("the same, further seeds") == 1
    finally:
        plt.close(fig)


def test_tables_that_are_not_there_are_named():
    with pytest.raises(UserError, match="no tables of regression-tripled"):
        front.largest("regression-tripled")


def test_the_released_curve_is_that_of_five_seeds_at_our_checkpoints():
    curve = seeds.curve("llc")
    assert curve.step.tolist() == [int(row["step"]) for row in rows(RUN / "llc.csv")]
    assert (curve.least <= curve["mean"]).all() and (curve["mean"] <= curve.greatest).all()
    most = 1.001 * 4 / 5**0.5 * curve.sd  # Samuelson: how far one of five can be from their mean
    assert (curve.greatest - curve["mean"] <= most).all()
    assert seeds.curve("llc", 1_000).step.max() <= 1_000


def test_the_numbers_of_the_curve_are_those_of_the_table():
    llc = [(float(row["llc"]), int(row["step"])) for row in rows(RUN / "llc.csv")]
    theirs = {int(row["step"]): float(row["mean"]) for row in rows(DATA / "released/curves.csv")
              if row["curve"] == "llc"}
    top, step = max(llc)
    far = max(abs(value - theirs[at]) for value, at in llc if at <= 40_000)
    said = front.findings()[0]
    for words in (f"climbs to {top:.0f} at step {step:,}", f"ends at {llc[-1][0]:.0f}",
                  f"never more than {far:.0f} from"):
        assert words in said


@pytest.mark.parametrize("value, error, where", [
    (1.0, 0.5, "below"), (1.6, 0.5, "within"), (3.0, 0.1, "within"), (4.4, 0.5, "within"),
    (5.0, 0.5, "above")])
def test_a_value_is_beside_the_released_range(value, error, where):
    theirs = pd.Series({"least": 2.0, "greatest": 4.0})
    assert front._beside(value, error, theirs) == where


def test_five_findings_and_three_news_each_lead_to_their_page():
    assert (len(front.findings()), len(front.news())) == (5, 3)
    for line in (*front.findings(), *front.news()):
        pages = re.findall(r"\(\.\./(notebooks/\w+)\)", line)
        assert pages and all((project_root() / f"{page}.ipynb").exists() for page in pages)
        assert re.search(r"\d", line) and "nan" not in line


def test_the_news_of_health_and_of_the_released_curve():
    llc = rows(RUN / "llc.csv")
    precise = statistics.mean(float(r["mcse"]) <= 0.02 * abs(float(r["llc"])) for r in llc)
    released = json.loads((DATA / "released.json").read_text())["llc_language_2layer"]
    _, health, corrections = front.news()
    assert f"at {precise:.0%} of {len(llc)} checkpoints" in health
    used = json.loads((RUN / "manifest.json").read_text())["settings"]["llc"]
    loss = [float(r["init_loss"]) + float(r["llc"]) / used["nbeta"] for r in llc]
    unsound = sum((mean < 0.97 * loss[0] and float(r["burn_in"]) < 4 / used["eps"] / used["gamma"])
                  or float(r["rhat"]) > 1.05 or 2 * int(r["burn_in"]) >= int(r["draws"])
                  for r, mean in zip(llc, loss, strict=True))
    assert f"At {unsound} of the checkpoints" in health
    assert f"{released['llc'][0]:.0f} at step 0" in corrections
    assert f"it would be {released['corrected'][0]:.0f} " in corrections


def test_the_news_of_the_curve():
    values = [float(row["value"]) for row in rows(DATA / "released/plateaus.csv")
              if row["curve"] == "correlation to 40404"]
    said, folder = front.news()[0], DATA / "results/published/protocols-doubled-seed1"
    assert len(values) == 5 and f"r = {min(values):.5f} or more" in said
    prior, = [float(row["llc"]) for row in rows(folder / "estimates.csv")
              if row["protocol"] == "long from the prior" and row["step"] == "499999"]
    late = [float(row["llc"]) for row in rows(folder / "climb.csv")
            if row["start"] == "w0, long" and row["step"] == "499999" and int(row["draw"]) > 1_000]
    w0 = sum(late) / len(late)  # of 5,000 draws, the first fifth left out
    assert len(late) == 40 and f"say {w0:.0f}, chains from the prior {prior:.0f}" in said
    assert "within the 95% interval of its seeds at 17 of 17 checkpoints" in said


def test_the_headline_draws_ours_over_the_released_range():
    fig = front.headline()
    try:
        llc = [float(row["llc"]) for row in rows(RUN / "llc.csv")]
        for ax in fig.axes[2:]:
            mean, ours, bad = (line.get_ydata() for line in ax.lines[:3])
            assert list(ours) == pytest.approx(llc, rel=1e-5) and len(mean) == len(llc)
            run = front.largest("regression-doubled")  # open: what the claims count as no LLC
            assert list(bad) == [value for value, step in zip(ours, run["llc"].step, strict=True)
                                 if ill(run, step)] and 0 < len(bad) < len(ours)
            long = ax.lines[3].get_ydata()  # as the paper runs them
            published = front.largest("protocols-doubled")["estimates"]
            assert list(long) == published.llc[published.protocol == "as published"].tolist()
        assert [ax.get_xscale() for ax in fig.axes[:2]] == ["function", "linear"]
    finally:
        plt.close(fig)


def test_the_language_headline_draws_the_released_run_less_its_artefact():
    released = [row for row in rows(DATA / "released" / "language.csv")
                if row["model"] == "language-2layer"]
    run = DATA / "results" / "published" / "language-2layer-seed0"
    wanted = {**{(name, "theirs"): [float(row["value"]) for row in released
                                    if row["curve"] == name] for name in ("loss", "llc")},
              ("loss", "ours"): [float(row["loss"]) for row in rows(run / "behaviour.csv")],
              ("llc", "ours"): [float(row["llc"]) for row in rows(run / "llc.csv")]}
    fig = front.headline_language()
    try:
        for ax, name in zip(fig.axes, ("loss", "llc"), strict=True):
            for line, whose in zip(ax.lines, ("theirs", "ours"), strict=False):
                assert list(line.get_ydata()) == pytest.approx(wanted[name, whose], rel=1e-5)
    finally:
        plt.close(fig)
