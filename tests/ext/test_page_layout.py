"""How cells lie on a page: the summary first, folded code under what it shows, figures in tabs."""

import pytest
from docutils import nodes
from small_book import PAGE, ROOT, build, lay_out, page

from companion.tabs import Tab


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """A page of the real book, built."""
    bs4 = pytest.importorskip("bs4")
    place = tmp_path_factory.mktemp("layout")
    lay_out(place, "[]\n")
    build(place)  # it says that the list of figures is empty; the page is there
    return bs4.BeautifulSoup(page(place, f"notebooks/{PAGE}"), "html.parser")


def test_the_summary_stands_between_the_title_and_the_card(html):
    order = html.select("article h1, article .page-summary, article .provenance, article img")
    kinds = [node.get("class", [node.name])[0] for node in order[:3]]
    assert kinds == ["h1", "page-summary", "provenance"]
    assert len(html.select(".page-summary")) == 1


def test_all_code_is_folded_and_lies_under_its_output(html):
    cells = html.select("article div.cell")
    with_both = [cell for cell in cells if cell.select(".cell_input") and cell.select(
        ".cell_output")]
    assert len(with_both) > 10
    for cell in with_both:
        parts = [part.name if part.name == "details" else part["class"][0]
                 for part in cell.find_all(recursive=False)]
        assert parts == ["cell_output", "details"]
        assert cell.select_one("details summary").get_text(" ", strip=True) == "Code Code"
    assert not [node for node in html.select("article .cell_input") if not node.find_parent(
        "details")]


def test_tables_have_captions(html):
    tables = html.select("article table.shown-table")
    assert len(tables) > 5
    assert all(table.caption.get_text().strip() for table in tables)


@pytest.fixture
def layout(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import page_layout

    return page_layout


def test_each_figure_of_a_cell_is_behind_a_tab(layout):
    """From its anchor to the next: picture and line."""
    parts = [nodes.target(ids=["a"]), nodes.image(uri="a.png"), nodes.raw("", "files of a"),
             nodes.target(ids=["b"]), nodes.image(uri="b.png"), nodes.raw("", "files of b")]
    output = nodes.container("", *parts, nb_element="cell_code_output")
    cell = nodes.container("", nodes.container("", nb_element="cell_code_source"), output)
    layout.put_behind_tabs(cell)
    tabs, = output.children
    labels = [item[0].astext() for item in tabs]
    assert labels == ["log time", "linear time"]
    assert [list(item[1].children) for item in tabs] == [parts[:3], parts[3:]]


def test_named_parts_are_behind_tabs_of_these_names(layout):
    """Each with all that follows its name: figures, tables and text."""
    def named(words):
        return nodes.container("", nodes.raw("", Tab(words)._repr_html_(), format="html"),
                               nodes.literal_block(text=repr(Tab(words))))

    parts = [nodes.target(ids=["a"]), nodes.image(uri="a.png"), nodes.raw("", "a table")]
    above = nodes.raw("", "data of all")
    output = nodes.container("", above, named("A & B"), *parts[:2], named("C"), parts[2],
                             nb_element="cell_code_output")
    layout.put_behind_tabs(nodes.container("", output))
    assert output.children[0] is above
    _, tabs = output.children
    assert [item[0].astext() for item in tabs] == ["A & B", "C"]
    assert [list(item[1].children) for item in tabs] == [parts[:2], parts[2:]]


def test_a_cell_with_another_number_of_figures_is_refused(layout):
    output = nodes.container("", nodes.target(ids=["a"]), nodes.image(uri="a.png"),
                             nb_element="cell_code_output")
    with pytest.raises(ValueError):
        layout.put_behind_tabs(nodes.container("", output))


def test_every_figure_of_a_page_has_a_box_of_its_own(html):
    """Which scrolls on a phone, where the figure keeps a size at which its labels can be read."""
    figures = html.select('article .cell_output img[src*="_images/"]')
    assert len(figures) > 3
    assert all("scroll-box" in figure.parent.get("class", ()) for figure in figures)
