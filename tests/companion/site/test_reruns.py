"""What each run found is filed whole, refused when it is damaged, and shown claims by runs."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from companion import presets, results
from companion.claims import ledger
from companion.places import project_root
from companion.runs import RunKey, rerun_folder
from companion.site import page_runs, reruns
from devlib.errors import UserError

ROOT = project_root()
SUM = Path(__file__).parents[2] / "notebook_cases" / "01_sum.ipynb"


def number(name, verdict, **other):
    """One number of a claim, as companion.claims.ledger.measure gives it."""
    return {"id": name, "what": f"number of {name}", "scale": "any", "measured": 1.25,
            "error": 0.125, "wanted": "1.0; 0.5 to 1.5", "power": "0.5 of 2", "effect": 2.0,
            "low": 0.5, "high": 1.5, "notice": 0.5, "p": 0.3, "verdict": verdict, "why": "",
            "unit": "LLC", "preset": "smoke", "seed": 0, "claim": f"Claim {name} holds.",
            "claim_verdict": verdict} | other


PAGE = {"commit": "abc123", "when": "2026-11-25T09:00:00+00:00", "seconds": 3.0, "failed": None,
        "recompute": True, "source": "0" * 64}


def run(preset, seed, settings=(), **verdicts):
    return reruns.Rerun(preset, seed, dict(settings), {"02_stage_boundaries": PAGE},
                      [number(name.replace("_", "-"), verdict)
                       for name, verdict in verdicts.items()])


def file(folder, found):
    place = folder / found.name
    place.mkdir(parents=True)
    reruns.write(place / "metrics.json", found)
    return place / "metrics.json"


# ------------------------------------------------------------------------------- names and files


@pytest.mark.parametrize("settings, name", [
    ({}, "laptop-seed3"),
    ({"gamma": 10.0, "eps": 1e-5}, "laptop-seed3-eps=1e-05-gamma=10.0"),
    ({"reuse": True, "corpus": "toy"}, "laptop-seed3-corpus=toy-reuse=True")])
def test_a_run_is_named_by_its_settings(settings, name):
    assert rerun_folder("laptop", 3, settings) == name


def test_names_of_folders_are_safe_and_tell_settings_apart():
    values = ["../../etc", ".._.._etc", "a/b", "a b", "a\nb", "x" * 500, "x" * 501, "\u00e9=/"]
    names = [rerun_folder("smoke", 0, {"label": value}) for value in values]
    assert len(set(names)) == len(values)
    assert all(re.fullmatch(r"smoke-seed0-label=[\w.+-]{1,60}", name) for name in names)


def test_a_file_is_read_back_and_no_changed_bit_is_believed(tmp_path):
    found = run("smoke", 1, {"eps": 1e-4}, LR_1="reproduced")
    path = file(tmp_path, found)
    assert reruns.read(path) == found
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
        try:
            assert reruns.read(path) == found  # a blank between two entries says nothing
        except UserError as error:
            assert str(path) in str(error)
    for broken in (b"", data[:-20], b"[]", b"{}", b"\xff", b'{"digest": 3}'):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"metrics\.json is damaged .* run the page again"):
            reruns.read(path)


@pytest.fixture
def job(tmp_path):
    """A page that was run."""
    found, = page_runs.jobs(SUM, [("smoke", 2, {"count": "4"})], tmp_path)
    found.out.parent.mkdir(parents=True)
    found.out.write_text("{}")
    reruns.record(found, 1.26)
    return found


def test_what_was_run_and_when_is_noted(job, tmp_path):
    found = reruns.read(tmp_path / "smoke-seed2-count=4" / "metrics.json")
    assert (found.preset, found.seed, found.settings) == ("smoke", 2, {"count": 4})
    page = found.pages["01_sum"]
    assert (page["seconds"], page["failed"], page["recompute"]) == (1.3, None, True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", page["when"])
    assert page.keys() >= {"commit", "python", "torch", "numpy", "processor", "source"}
    assert found.claims == []  # no tables, and so nothing measured


def test_pages_of_one_run_share_a_file_and_a_damaged_one_gives_way(job, tmp_path):
    path = tmp_path / job.name / "metrics.json"
    other = replace(job, page=job.page.with_name("02_other.ipynb"))
    reruns.record(other, 2.0, failed="02_other: cell 3 failed")
    assert {name: page["failed"] for name, page in reruns.read(path).pages.items()} == {
        "01_sum": None, "02_other": "02_other: cell 3 failed"}
    path.write_text("torn")
    reruns.record(job, 1.0)
    assert list(reruns.read(path).pages) == ["01_sum"]


def test_finished_is_what_was_computed_by_the_page_as_it_is(job, tmp_path):
    assert reruns.finished(job)
    assert not reruns.finished(replace(job, source="another"))
    assert not reruns.finished(replace(job, settings={}))
    reruns.record(replace(job, values=job.values | {"recompute": False}), 1.0)
    assert not reruns.finished(job)
    reruns.record(job, 1.0, failed="cell 2 failed")
    assert not reruns.finished(job)
    reruns.record(job, 1.0)
    job.out.unlink()
    assert not reruns.finished(job)


# ---------------------------------------------------------------------- claims of a run's tables


@pytest.mark.parametrize("settings", [
    {}, {"residual": "standard"}, {"reuse": True}, {"eps": 1e-4, "gamma": 0.0}, {"tolerance": 4.0},
    {"eps": 1e-4, "reuse": True}])
def test_claims_are_measured_in_the_folders_that_results_write(settings, monkeypatch):
    asked = []
    monkeypatch.setattr(results, "load_or_compute", lambda key, *rest, **more: asked.append(key))
    residual, reuse = settings.get("residual"), settings.get("reuse", False)
    sampler = {name: settings.get(name) for name in ("eps", "nbeta", "gamma")}
    results.regression("smoke", 0, True, residual, reuse, sampler)
    results.development("smoke", 0, True, residual, reuse)
    results.hessian("smoke", 0, True, residual, reuse)
    assert asked == [RunKey.of_page(kind, "smoke", 0, settings)
                     for kind in ("regression", "development", "hessian")]


def test_another_corpus_has_folders_of_its_own(monkeypatch):
    from companion import results_language

    asked = []
    monkeypatch.setattr(results_language, "load_or_compute",
                        lambda key, *rest, **more: asked.append(key))
    for layers in (2, 1):
        results_language.language("laptop", 0, True, layers, "toy")
    assert asked == [RunKey.of_page(kind, "laptop", 0, {"corpus": "toy"})
                     for kind in ("language-2layer", "language-1layer")]
    plain = RunKey.of_page("language-2layer", "laptop", 0, {"corpus": "offline"})
    assert plain == RunKey.of("language-2layer", "laptop", 0) and plain.corpus == "offline"
    assert plain.folder == "language-2layer-seed0"
    assert asked[0].folder == "language-2layer-toy-seed0"


def test_what_a_run_measures_is_what_the_ledger_measures():
    found = reruns.measured("laptop", 0)
    assert found == [number for number in ledger.measure("laptop", 0)
                     if number["verdict"] != "not run"]
    assert {"reproduced", "not reached"} <= {number["verdict"] for number in found}


def test_flips_are_within_a_preset_or_between_presets():
    runs = [run("smoke", 0, A="reproduced", B="reproduced", C="differs", D="reproduced"),
            run("smoke", 1, A="differs", B="reproduced", C="differs", E="reproduced"),
            run("laptop", 0, A="reproduced", B="not reached", C="reproduced", D="reproduced")]
    assert reruns.flips(runs, lambda number: number["id"]) == {
        "A": "flips", "C": "flips with the preset"}


# --------------------------------------------------------------------------------------- the page


class Tables(HTMLParser):
    """The cells of each table of a page, row by row."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data.strip("\n")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds the page of reruns alone: its html, and what the builder warned of."""
    Sphinx = pytest.importorskip("sphinx.application").Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    monkeypatch.setattr(reruns, "COMMITTED", tmp_path / "shipped")
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text((ROOT / "book" / "reruns.md").read_text())
    warnings = tmp_path / "warnings"

    def start():
        path = list(sys.path)
        with warnings.open("w") as said, patch_docutils(), docutils_namespace():
            app = Sphinx(source, None, tmp_path / "html", tmp_path / "trees", "html",
                         {"extensions": ["myst_parser", "preset_tables", "reruns"]},
                         status=None, warning=said)
            app.build()
        sys.path[:] = path
        return (tmp_path / "html" / "index.html").read_text(), warnings.read_text()
    yield start
    for name in ("preset_tables", "reruns"):
        sys.modules.pop(name, None)


def test_the_page_shows_claims_by_runs_and_what_flips(build, tmp_path):
    file(tmp_path / "runs", run("smoke", 3, LR_1="reproduced", LR_4="differs", X_1="reproduced"))
    file(tmp_path / "runs", run("smoke", 4, {"eps": 1e-5}, LR_1="differs", LR_4="differs"))
    torn = file(tmp_path / "runs", run("smoke", 5, LR_1="reproduced"))
    torn.write_bytes(torn.read_bytes()[:100])
    text, warnings = build()
    assert warnings == ""
    names, verdicts, numbers = Tables(text).tables
    assert [row[1:4] for row in names[1:3]] == [
        ["smoke-seed3", "yours", "02"], ["smoke-seed4-eps=1e-05", "yours", "02"]]
    assert ["laptop-seed0", "the book's tables"] in [
        [row[1], row[2].replace("\u2019", "'")] for row in names]
    by_id = {row[0].split()[0]: row for row in verdicts[1:]}
    assert by_id["LR-1"][0].endswith("\u21c4 flips")
    assert by_id["LR-1"][1:3] == ["reproduced", "differs"]
    assert by_id["X-1"][1:] == ["reproduced"] + ["\u2013"] * (len(names) - 2)
    assert by_id["LR-4"][1:3] == ["differs", "differs"]
    ours, = [row for row in numbers if row[0].startswith("X-1")]
    assert ours[1] == "1.25 \u00b1 0.12; reproduced"
    assert "LR-1" in re.search(r"not the same in every run: (.*?)\.</p>", text)[1]
    assert re.search(r"Left out: .*smoke-seed5.*metrics\.json is damaged", text)


def test_without_own_runs_the_book_s_are_shown_and_a_new_one_drops_in(build, tmp_path):
    file(tmp_path / "shipped", run("smoke", 0, LR_1="not reached"))
    text, warnings = build()
    names, verdicts, _ = Tables(text).tables
    assert warnings == ""
    assert [row[2] for row in names[1:]][-1] == "in the repository"
    assert "yours" not in [row[2] for row in names]
    measured = {number["id"] for preset in ("laptop", "published")
                for number in ledger.measure(preset, 0) if number["verdict"] != "not run"}
    assert {row[0].split()[0] for row in verdicts[1:]} == measured
    assert "companion sweep stage_boundaries" in re.sub("<.*?>", "", text)  # how to add one
    file(tmp_path / "runs", run("laptop", 7, LR_1="reproduced"))
    assert "laptop-seed7" in build()[0]  # although no file of the book is newer


def test_the_committed_reruns_are_whole_and_of_known_presets():
    found = reruns.collect(ROOT / "data" / "reruns")
    assert found.damaged == []
    assert {run.preset for run in found.runs} <= presets.PRESETS.keys()
    assert len(found.runs) >= 3 and all(run.pages for run in found.runs)
    known = {claim.id for claim in ledger.entries()}
    assert all(number["id"] in known for run in found.runs for number in run.claims)
