"""A page says what made it, from what it really read, and every address follows from one line."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from small_book import PAGE, build, lay_out, page

from companion import presets, provenance, results, results_language
from companion.cli import parser
from companion.pages import costs
from companion.places import project_root
from companion.scale import scale
from companion.site import cards, fixed_cells, notebooks, page_contract, page_parameters, page_runs
from companion.site.address import Repository, repository
from devlib.errors import UserError
from devlib.settings import as_dict

ROOT = project_root()
PAGES = notebooks.names()
CASES = Path(__file__).parents[1] / "notebook_cases"
COMMIT = "0123456789" * 4  # that the small book is built as if from


# --------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize("preset, model, expected", [
    # 6,300 of 500,000 steps; 4 x 350 x 64 of 10 x 5,000 x 1,024 samples
    ("laptop", "regression", ["1/79 of the paper's training tokens",
                              "1/571 of its samples in an LLC estimate"]),
    ("published", "regression", ["all of the paper's training tokens",
                                 "at most 1/50 of its samples in an LLC estimate"]),
    # 2,000 x 32 x 128 of 50,000 x 100 x 1,024 tokens; 4 x 60 x 4 of 20 x 200 x 100 samples
    ("laptop", "language", ["1/625 of the paper's training tokens",
                            "1/417 of its samples in an LLC estimate"]),
    # 4,001 x 16 x 256 of 50,000 x 100 x 1,024 tokens
    ("published", "one_layer", ["1/312 of the paper's training tokens",
                                "1/625 of its samples in an LLC estimate"]),
    # 600 x 64 x 8 of 500,000 x 256 x 16 tokens; 3 x 40 x 32 samples
    ("smoke", "regression", ["1/6,670 of the paper's training tokens",
                             "1/13,300 of its samples in an LLC estimate"]),
])
def test_scale_is_the_ratio_of_the_settings(preset, model, expected):
    assert scale(as_dict(getattr(presets.get(preset), model)), {"llc": ""}) == expected


def test_words_of_a_preset_give_the_same_share():
    """presets.py spells it for the lines under figures."""
    laptop = presets.get("laptop")
    share, *_ = scale(as_dict(laptop.language))
    assert re.findall(r"1/[\d,]+", laptop.language_description) == [share.split()[0]]


def test_scale_of_parts_of_a_run():
    laptop = presets.get("laptop")
    settings = {"regression": as_dict(laptop.regression), "metrics": as_dict(laptop.metrics)}
    assert scale(settings) == ["1/79 of the paper's training tokens"]
    settings["task_sets"] = as_dict(laptop.task_sets)
    assert scale(settings) == ["1/250 of the paper's training tokens on each finite task set"]
    assert scale({"toys": {}}) == []


# ------------------------------------------------------------------------------- what was read


@pytest.fixture
def record():
    """An empty record of what was read."""
    provenance.forget()
    yield provenance.noted
    provenance.forget()


def test_what_is_read_is_noted_once_with_its_hashes(record):
    for _ in range(2):
        run = results.regression("laptop", 0)
        bench = costs.load("sgld")
    tables, file = record()
    place = "data/results/laptop/regression-doubled-seed0"
    manifest = json.loads((ROOT / place / "manifest.json").read_text())
    assert (tables["place"], tables["sha256"]) == (place, manifest["tables"])
    assert tables["made with"] == run.manifest["made with"]
    assert (file["place"], file["made with"]) == ("data/bench/sgld.json", bench["made with"])
    content = (ROOT / "data" / "bench" / "sgld.json").read_bytes()
    assert file["sha256"] == {"sgld.json": hashlib.sha256(content).hexdigest()}


def test_a_language_run_names_its_text(record):
    results_language = pytest.importorskip("companion.results_language")
    results_language.language("laptop", 0)
    pinned = json.loads((ROOT / "data" / "corpus.json").read_text())["1024"]["train"]["sha256"]
    assert record()[0]["corpus"] == {"name": "offline", "sha256": pinned}
    assert f"corpus offline {pinned[:12]}" in provenance.hashes(record()[0])


@pytest.mark.parametrize("facts, expected", [
    ({}, "llc 2.0 min"), ({"pieces": True}, "llc 2.0 min (added up from pieces)")])
def test_time_added_up_from_pieces_is_called_that(record, tmp_path, facts, expected):
    provenance.note_tables(tmp_path, {"seconds": {"llc": 120}, "tables": {}} | facts)
    assert provenance.spent(provenance.noted()[0]) == expected
    said = cards.Card("a page", {}, {}, provenance.noted()).summary
    assert ("pieces" in said) == bool(facts) and "2 minutes" in said


def test_the_text_of_a_notebook_says_it_all(record):
    results.regression("laptop", 0)
    said = provenance.text(record())
    for part in ("Regression model, laptop preset, seed 0: the first 6,300", "1/79 of the paper's",
                 "training 5.5 min", "commit ", "torch ", "llc ", "data/results/laptop"):
        assert part in said
    assert max(map(len, said.splitlines())) <= 76


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_was_made_from_the_committed_tables(name):
    card = cards.read(ROOT / "notebooks" / f"{name}.ipynb")
    assert cards.stale(card, ROOT) == []
    for source in card.sources:
        assert source["place"].startswith("data/"), "a committed page reads committed files only"
        assert (ROOT / source["place"]).exists()


def test_a_changed_table_is_noticed(tmp_path):
    card = cards.read(ROOT / "notebooks" / "02_stage_boundaries.ipynb")
    place = card.sources[0]["place"]
    shutil.copytree(ROOT / "data" / "results", tmp_path / "data" / "results")
    assert cards.stale(card, tmp_path) == []
    path = tmp_path / place / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tables"]["llc"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert cards.stale(card, tmp_path) == [place]
    path.unlink()
    assert cards.stale(card, tmp_path) == [place]


# ----------------------------------------------------------------------------------- the rerun


@pytest.mark.parametrize("name", PAGES)
def test_the_rerun_line_is_a_command_that_devlib_takes(name):
    card = cards.read(ROOT / "notebooks" / f"{name}.ipynb")
    words = shlex.split(card.rerun)
    assert words[:3] == ["python", "-m", "companion"]
    given = parser().parse_args(words[3:])
    assert notebooks.find(given.notebook).stem == name
    known = page_parameters.parameters(notebooks.find(name))
    assert (given.preset, given.seed) == (known["preset"].default, known["seed"].default)


def test_the_rerun_line_of_a_run_makes_the_same_page_again(tmp_path):
    """Of a case of the tests, given parameters of its own: the same notebook, to the byte."""
    source = (CASES / "01_sum.py").read_text().replace(
        '# %% tags=["parameters"]',
        f'{fixed_cells.HIDDEN}\n{fixed_cells.head()}\n\n# %% tags=["parameters"]')
    (tmp_path / "01_sum.py").write_text(source)
    page_runs.refresh(folder=tmp_path)
    first = page_runs.run("01_sum", "smoke", 4, {"count": "5", "label": "the sum"},
                          tmp_path / "one", tmp_path)
    card = cards.read(first)
    assert card.changed == {"count": 5, "label": "the sum"}
    given = parser().parse_args(shlex.split(card.rerun)[3:])
    again = page_runs.run(given.notebook, given.preset, given.seed, dict(given.extra),
                          tmp_path / "two", tmp_path)
    assert again.read_bytes() == first.read_bytes()
    assert card.runs == [("smoke preset, seed 4", "")]


def test_a_page_that_says_nothing_is_refused():
    with pytest.raises(UserError, match=r"01_sum\.ipynb does not say what it has read"):
        cards.read(CASES / "01_sum.ipynb")


# ----------------------------------------------------------------------------------- the address


def tracked():
    """The files that git keeps, or skips where there is no git."""
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a checkout of git")
    return [ROOT / name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_other_file_holds_the_address():
    """Apart from the first cell of each page, outputs and all."""
    url = repository(ROOT).url.split("://", 1)[1]
    address = url.split("/", 1)[1].encode()  # owner/name, in whatever link
    cell = fixed_cells.head(ROOT)
    in_json = json.dumps([line + "\n" for line in cell.split("\n")][:-1], indent=1)
    in_json = "\n".join(line.strip() for line in in_json.splitlines()[1:-1])
    holding = []
    for path in tracked():
        content = path.read_bytes()
        if address in content and path.parent.name == "notebooks":
            text = "\n".join(line.strip() for line in content.decode().splitlines())
            plain = "\n".join(line.strip() for line in cell.splitlines())
            content = text.replace(plain, "").replace(in_json, "").encode()
        if address in content:
            holding.append(path.relative_to(ROOT).as_posix())
    assert holding == ["_config.yml"]


@pytest.fixture
def fork(tmp_path):
    """The pages beside a _config.yml with another address."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks",
                    ignore=shutil.ignore_patterns(".*"))
    config = (ROOT / "_config.yml").read_text().replace(
        repository(ROOT).url, "https://github.com/else/where.git")
    (tmp_path / "_config.yml").write_text(config)
    return tmp_path


def test_a_changed_address_reaches_every_page_and_nothing_else(fork):
    old = repository(ROOT).url
    before = {path: path.read_text() for path in (fork / "notebooks").iterdir() if path.is_file()}
    changed = fixed_cells.settle_all(fork / "notebooks", fork)
    assert {path.name for path in changed} == {
        f"{name}{kind}" for name in PAGES for kind in (".py", ".ipynb")}
    for path in changed:
        after = path.read_text()
        assert old not in after and " https://github.com/else/where.git where &&" in after
        old_folder = repository(ROOT).folder
        assert len(after.splitlines()) == len(before[path].splitlines())
        differing = [(a, b) for a, b in zip(before[path].splitlines(), after.splitlines(),
                                            strict=True) if a != b]
        assert len(differing) == 2  # what is fetched, and the folder that it goes into
        assert all(old in a or old_folder in a for a, _ in differing)
    assert page_contract.check(fork / "notebooks" / f"{PAGES[0]}.ipynb", fork) == []
    assert fixed_cells.settle_all(fork / "notebooks", fork) == []


def test_settle_adds_the_last_cell_and_keeps_it_last(tmp_path):
    source = tmp_path / "01_sum.py"
    text = (CASES / "01_sum.py").read_text()
    source.write_text(text)
    assert not fixed_cells.settle(source)  # no page of the book
    text = text.replace("# %% [markdown]", f"{fixed_cells.HIDDEN}\n{fixed_cells.head()}"
                        "\n\n# %% [markdown]", 1)
    source.write_text(text)
    assert fixed_cells.settle(source)
    last = f"\n\n{fixed_cells.HIDDEN}\n{fixed_cells.TAIL}\n"
    assert source.read_text() == text.rstrip() + last
    source.write_text(source.read_text() + "\n# %%\nprint()\n")
    assert fixed_cells.settle(source)
    assert source.read_text().endswith(f"# %%\nprint(){last}")
    assert source.read_text().count(fixed_cells.TAIL) == 1


def test_colab_opens_what_github_holds():
    found = Repository("https://github.com/a/b.git", "dev", "sub")
    assert found.in_colab("notebooks/x.ipynb") == (
        "https://colab.research.google.com/github/a/b/blob/dev/sub/notebooks/x.ipynb")
    assert (found.folder, found.clone) == ("b", "git clone https://github.com/a/b.git")
    assert Repository("https://example.org/a/b").in_colab("x.ipynb") is None


@pytest.mark.parametrize("config", ["title: T\n", "repository: {branch: main}\n", "repository: [",
                                    "repository: {url: 3}\n"])
def test_a_config_without_an_address_is_one_clear_line(tmp_path, config):
    (tmp_path / "_config.yml").write_text(config)
    with pytest.raises(UserError, match=r"_config\.yml names no repository"):
        fixed_cells.head(tmp_path)


# --------------------------------------------------------------------------------- on the page


@pytest.fixture(scope="module")
def fork_page(tmp_path_factory):
    """A page and the front page of a book built from a fork."""
    place = tmp_path_factory.mktemp("fork")
    nb = nbformat.read(ROOT / "notebooks" / f"{PAGE}.ipynb", 4)
    names = re.findall(r'data-figure=\\?"(\w+)', nbformat.writes(nb))
    figures = ", ".join(f"{PAGE}#figure-{name}" for name in names)
    lay_out(place, f"- {{figure: Fig. 9, shows: s, ours: [{figures}]}}\n",
            "https://github.com/else/where")
    config = place / "_config.yml"
    config.write_text(config.read_text().replace(
        "  config:\n", f"  config:\n    book_commit: {COMMIT}\n"))
    status, said = build(place)
    assert status == 0, said[-3000:]
    return page(place, f"notebooks/{PAGE}"), page(place, "book/index"), place


class Text(HTMLParser):
    """What a reader sees, without tags."""

    def __init__(self, html):
        super().__init__()
        self.parts = []
        self.feed(html)
        self.text = " ".join("".join(self.parts).split())

    def handle_data(self, data):
        self.parts.append(data)


def test_the_card_stands_under_the_title(fork_page):
    html = fork_page[0]
    title = html.rindex("<h1>")  # the theme has one of its own, for printing
    box, after = html.index('class="provenance', title), html.index("<h2>", title)
    assert box < after
    card = cards.read(ROOT / "notebooks" / f"{PAGE}.ipynb")
    seen = Text(html[box:after]).text.replace("\u2019", "'")
    for part in (card.rerun, card.summary, *(line for run in card.runs for line in run),
                 *(source["place"] for source in card.sources)):
        assert part in unescape(seen)
    assert "Where the numbers of this page come from" not in html  # no fact twice


def test_addresses_of_the_built_book_follow_the_config(fork_page):
    html, front, _ = fork_page
    colab = (f"https://colab.research.google.com/github/else/where/blob/book-{COMMIT}/notebooks/"
             f"{PAGE}.ipynb")
    assert html.count(colab) == 2  # the card's, and the theme's rocket
    assert "git clone https://github.com/else/where" in Text(front).text
    old = repository(ROOT).url.split("/", 3)[3]
    assert old not in html + front


def test_the_notebook_that_the_book_offers_fetches_its_commit(fork_page):
    html, _, place = fork_page
    offered = place / "_build" / "html" / "_sources" / "notebooks" / f"{PAGE}.ipynb"
    assert f'href="../_sources/notebooks/{PAGE}.ipynb"' in html
    found = nbformat.read(offered, 4).cells
    committed = nbformat.read(ROOT / "notebooks" / f"{PAGE}.ipynb", 4).cells
    assert found[0].source == fixed_cells.head(place, COMMIT)
    assert found[1:] == committed[1:]


def test_tables_beside_a_language_run_are_of_its_model():
    """Which was not said of those whose settings name the model in a part."""
    found = results_language.protocols("published", 0)
    noted, = [source for source in provenance.noted() if source["place"].endswith(
        "published/language-protocols-seed0")]
    assert noted["model"] == "Two-layer language model" and noted["corpus"]["name"] == "offline"
    assert noted["scale"] == ["1/74 of the paper's training tokens"] and found["estimates"].size
