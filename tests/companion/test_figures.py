"""Each figure comes with its files, and the index knows every figure of paper and book."""

import ast
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from small_book import PAGE, ROOT, build, lay_out, page

from companion import figures as plots
from companion import presets
from companion.site import data_links, figure_index
from companion.site.figure_index import Entry
from devlib.errors import UserError

LIST = ROOT / figure_index.FILE


# --------------------------------------------------------------------------------------- files


def drawing(points=50, label="the paper's \"best\" < 5 & more"):
    """A figure with a curve, a scatter and a text that has every awkward character."""
    fig, ax = plots.figure()
    xs = np.linspace(0, 1, points)
    ax.plot(xs, xs**2, label=label)
    ax.scatter(xs, xs)
    ax.set_ylabel(label)
    return fig


def svg_of(link):
    return ElementTree.fromstring(unquote_to_bytes(link.removeprefix(data_links.SVG)))


def test_svg_keeps_its_text_and_is_the_same_every_time():
    links = []
    for _ in range(2):
        fig = drawing()
        links.append(data_links.svg_link(fig))
        plt.close(fig)
    assert links[0] == links[1] and links[0].startswith("data:image/svg+xml,")
    texts = [node.text for node in svg_of(links[0]).iter("{http://www.w3.org/2000/svg}text")]
    assert "the paper's \"best\" < 5 & more" in texts
    assert not re.search("[\n#%]", re.sub("%[0-9A-F]{2}", "", links[0]))


def test_dense_axes_become_pixels_and_their_labels_do_not():
    images, sizes = [], []
    for points in (50, 100_000):
        fig = drawing(points)
        link = data_links.svg_link(fig)
        plt.close(fig)
        drawn = svg_of(link)
        images.append(len(list(drawn.iter("{http://www.w3.org/2000/svg}image"))))
        sizes.append(len(link))
        assert len(list(drawn.iter("{http://www.w3.org/2000/svg}text"))) > 5
    assert images[0] == 0 < images[1]
    assert sizes[1] < 100_000  # as curves they would take millions


def test_the_line_under_a_figure_gives_its_files_back():
    fig = drawing()
    links = {"csv": data_links.csv_link(pd.DataFrame({"x": [1.0, 1 / 3]})),
             "svg": data_links.svg_link(fig)}
    plt.close(fig)
    line = data_links.line("name", "a & b", **links)
    assert re.findall(r'download="([^"]*)"', line) == ["name.csv", "name.svg"]
    found = [re.sub("&quot;", '"', href).replace("&amp;", "&")
             for href in re.findall(r'href="([^"]*)"', line)]
    assert found == list(links.values())
    assert "Made by the a &amp; b. " in line


# --------------------------------------------------------------------------------------- index


def test_the_list_has_the_figures_of_the_paper():
    """Main text and appendices, as far as the paper's text names them."""
    names = [entry.figure for entry in figure_index.load(LIST)]
    numbers = ["1a", "1b", "2", "3", "4a", "4b", "4c", "4d", "4e", "4f", "5a", "5b", "5c", "A.3",
               "A.4", "A.5", "A.6", "B.1", "B.2", "B.3a", "B.3b", "B.4", "C.1", "C.2", "C.3",
               "C.4", "D.1", "D.3", "D.4", "D.5", "D.6", "D.7", "D.8", "D.9"]
    expected = {"Table 1", "Figures of E", *(f"Fig. {number}" for number in numbers)}
    assert expected <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("preset, entry, expected", [
    ("laptop", Entry("F", "s", ("a#b",)), "drawn in full, at preset laptop"),
    ("laptop", Entry("F", "s", ("a#b",), "laptop"), "drawn in full, at preset laptop"),
    ("laptop", Entry("F", "s", ("a#b",), "published"),
     "drawn in part, at preset laptop: whole from preset published on"),
    ("paper", Entry("F", "s", ("a#b",), "published"), "drawn in full, at preset paper"),
    ("paper", Entry("F", "s", ("a#b",), lacks="half of it"),
     "drawn in part, at preset paper: half of it"),
    (None, Entry("F", "s", ("a#b",)), "drawn in full, for every preset"),
    ("laptop", Entry("F", "s", ("a#b",), drawn_from="published"),
     "not drawn, at preset laptop: from preset published on"),
    ("published", Entry("F", "s", ("a#b",), drawn_from="published"),
     "drawn in full, at preset published"),
    (None, Entry("F", "s", lacks="no time"), "not yet: no time"),
    (None, Entry("F", "s", nothing="a sketch"), "nothing to compute: a sketch"),
])
def test_status_follows_the_preset(preset, entry, expected):
    assert entry.status(preset) == expected


@pytest.mark.parametrize("entry, message", [
    ("{figure: F, shows: s, our: x}", "F has our, which is not one of"),
    ("{figure: F, shows: s, ours: x, whole_from: big}", "F is whole from big"),
    ("{figure: F, shows: s, ours: x, drawn_from: big}", "F is drawn from big"),
    ("{figure: F, shows: s}", "F names no figure of ours and does not say why"),
])
def test_a_bad_entry_is_named(tmp_path, entry, message):
    path = tmp_path / "figures.yaml"
    path.write_text(f"- {entry}\n")
    with pytest.raises(UserError, match=message):
        figure_index.load(path)


def test_places_that_no_page_has_are_named():
    entries = [Entry("Fig. 1", "s", ("01_a#figure-x", "01_a#gone")),
               Entry("Fig. 2", "s", ("b/c#d",))]
    anchors = {"notebooks/01_a": {"figure-x", "figure-y"}, "b/c": {"d"}}
    lacking = ["Fig. 1: there is no notebooks/01_a#gone"]
    assert figure_index.problems(entries, anchors, {}) == lacking
    entries[0] = replace(entries[0], drawn_from="published")  # a smaller page need not have it
    assert figure_index.problems(entries, anchors, {"notebooks/01_a": "laptop"}) == []
    assert figure_index.problems(entries, anchors, {"notebooks/01_a": "paper"}) == lacking


def test_figures_that_no_entry_names_are_the_book_s_own():
    """By what their pictures' alternative text says; a curve by linear time goes with its twin."""
    entries = [Entry("Fig. 1", "s", ("01_a#figure-x",))]
    a, b = "notebooks/01_a", "notebooks/02_b"
    alts = {(a, "x"): "theirs", (a, "x_linear"): "alone", (a, "y_linear"): "twin",
            (a, "y"): "a curve", (b, "y"): "another", (b, "all_heads"): ""}
    assert figure_index.own(entries, alts) == [
        Entry("x linear", "alone", (f"{a}#figure-x_linear",)),
        Entry("y", "a curve", (f"{a}#figure-y", f"{a}#figure-y_linear")),
        Entry("y", "another", (f"{b}#figure-y",)),
        Entry("all heads", "", (f"{b}#figure-all_heads",))]


def test_a_figure_that_a_page_draws_for_some_presets_says_from_which():
    """Or the main job, which makes all pages with one preset, would fail with the book. Not what
    hangs on stored figures of this machine, nor the book's own, which are listed as they are."""
    drawn_from = {place: entry.drawn_from for entry in figure_index.load(LIST)
                  for place in map(figure_index.split, entry.ours)}
    some = {(path.stem, call.args[2].value, ast.unparse(branch.test))
            for path in (ROOT / "notebooks").glob("*.py")
            for branch in ast.walk(ast.parse(path.read_text())) if isinstance(branch, ast.If)
            for call in ast.walk(branch) if isinstance(call, ast.Call)
            and ast.unparse(call.func) == "figures.show"}
    assert some
    for where, name, test in some:
        assert test.startswith("costs.measured") or (
            drawn_from.get((f"notebooks/{where}", f"figure-{name}")) != "smoke"), (where, name)


# ------------------------------------------------------------------------------- a built book


def figures_of(name):
    """The figures of a committed page, in its order."""
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text()
    return re.findall(r'data-figure=\\"(\w+)', text)


def test_every_committed_figure_is_a_csv_and_an_svg():
    pages = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sum(len(figures_of(name)) for name in pages) > 50
    for name in pages:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text()
        pictures = text.count('"image/png"')
        assert len(re.findall(r'download=\\"\w+\.svg', text)) == pictures
        assert len(re.findall(r'download=\\"\w+\.csv', text)) >= pictures


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book whose list leaves a figure out and names one that is not there: (status, said, place).
    """
    place = tmp_path_factory.mktemp("built")
    last = figures_of(PAGE)[-1]
    ours = [f"{PAGE}#figure-{name}" for name in figures_of(PAGE) if name != last]
    entries = [{"figure": "Fig. 9", "shows": "costs", "ours": [*ours, f"{PAGE}#figure-gone"],
                "whole_from": "paper"},
               {"figure": "Fig. 10", "shows": "a sketch", "nothing": "drawn by hand"}]
    lay_out(place, yaml.safe_dump(entries))
    return *build(place), place


def test_what_does_not_fit_fails_the_build_by_name(built):
    status, said, _ = built
    assert status != 0
    warning, = [line for line in said.splitlines() if "WARNING" in line]
    assert f"Fig. 9: there is no notebooks/{PAGE}#figure-gone" in warning


def test_files_of_a_figure_lie_beside_the_page(built):
    html, folder = page(built[2], f"notebooks/{PAGE}"), built[2] / "_build" / "html" / "notebooks"
    assert "data:text/csv" not in html and "data:image/svg" not in html
    for name in figures_of(PAGE):
        links = dict(re.findall(rf'<a download="{name}\.(\w+)" href="([^"]+)"', html))
        assert set(links) == {"csv", "png", "svg"}
        files = {kind: (folder / link).resolve() for kind, link in links.items()}
        assert not pd.read_csv(files["csv"]).empty
        assert files["png"].read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(files["svg"]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        anchor, image = html.index(f'id="figure-{name}"'), html.index(links["png"])
        assert anchor < image < html.index(f'data-figure="{name}"')


def test_the_index_leads_to_figures_and_files(built):
    html, folder = page(built[2], "book/index"), built[2] / "_build" / "html" / "book"
    for name in figures_of(PAGE)[:-1]:
        assert f'href="../notebooks/{PAGE}.html#figure-{name}"' in html
        for kind in ("csv", "svg"):
            link = f"../_figures/notebooks/{PAGE}/{name}.{kind}"
            assert f'href="{link}"' in html and (folder / link).resolve().is_file()
    own = html[html.index("drawn by hand"):]  # what the list leaves out, by its picture's text
    assert f'href="../notebooks/{PAGE}.html#figure-{figures_of(PAGE)[-1]}"' in own
    assert "CPU milliseconds a step against the number of parameters" in own
    assert "drawn in full, at preset laptop" in own
    assert "drawn in part, at preset laptop: whole from preset paper on" in html
    assert "nothing to compute: drawn by hand" in html
    assert list(presets.PRESETS)[-1] == "paper"  # the order that the words rest on


# -------------------------------------------------------------------------------- stage names


def test_names_of_stages_do_not_touch():
    """Of a narrow band only the number, of a narrower one nothing; wide ones have their name."""
    stages = pd.DataFrame({"stage": ["LR1", "LR2", "LR3", "LR4"],
                           "start": [0, 1_000, 3_000, 100_000],
                           "end": [1_000, 3_000, 100_000, 120_000]})
    fig, axes = plots.figure(1, 3)
    for ax in axes:
        ax.set_xlim(0, 120_000)
        plots.log_steps(ax)
        plots.stage_bands(ax, stages)
    drawn = re.findall(r">([LR\d]+)</text>", unquote_to_bytes(data_links.svg_link(fig)).decode())
    plt.close(fig)
    assert [name for name in drawn if name in ("LR1", "LR2", "LR3", "LR4", "2", "4")] == [
        "LR1", "2", "LR3"] * 3
