"""Tables and summaries as pages show them: both forms say the same, and the same every time."""

import re
from html import unescape

import nbformat
import numpy as np
import pandas as pd
import pytest

from companion.places import project_root
from companion.shown_tables import ShownTable
from companion.site import notebooks
from companion.summary import Summary

TABLE = pd.DataFrame({"stage": ["LR1", "A & B"], "end": [984, np.nan], "llc": [1.25, -0.04],
                      "draws": [12_345, 3], "holds": [True, False]})
MOST = 25  # lines of plain text that one cell prints


def shown(**options):
    return ShownTable(TABLE, "A caption < here", **options)


def cells(html):
    """The text of each row's cells in a table's HTML."""
    return [[unescape(cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", html, re.S)]


def test_numbers_are_formed_by_column_and_gaps_are_marked():
    rows = cells(shown(digits={"llc": 1}, units={"llc": "no unit"})._repr_html_())
    assert rows == [["stage", "end", "LLC (no unit)", "draws", "holds"],
                    ["LR1", "984", "1.2", "12,345", "yes"],
                    ["A & B", "-", "0.0", "3", "no"]]  # no minus before a zero


@pytest.mark.parametrize("digits, expected", [(None, ["1.250", "-0.040"]), (2, ["1.25", "-0.04"]),
                                              (".1e", ["1.2e+00", "-4.0e-02"])])
def test_digits_are_a_number_or_a_format(digits, expected):
    rows = cells(shown(digits=digits)._repr_html_())
    assert [row[2] for row in rows[1:]] == expected


def test_the_terminal_and_the_page_say_the_same():
    table = shown(digits=1)
    lines = repr(table).splitlines()
    assert lines[0] == "A caption < here" and "<caption>A caption &lt; here</caption>" in (
        table._repr_html_())
    said = [re.split(r"\s{2,}", line.strip()) for line in [lines[2], *lines[4:]]]
    assert said == cells(table._repr_html_())


def test_numbers_are_set_to_the_right_and_words_to_the_left():
    html = shown()._repr_html_()
    assert re.search(r'text-align: right;">\s*984</td>', html) and "<td>LR1" in html


def test_html_is_the_same_every_time():
    """nbval compares it: no random name, no style that depends on one."""
    assert shown()._repr_html_() == shown()._repr_html_()
    assert not re.search("id=|<style", shown()._repr_html_())


def test_an_unknown_column_is_named():
    with pytest.raises(KeyError, match="no column 'lcc'; the table has stage, end, llc"):
        shown(units={"lcc": "nats"})


def test_a_summary_has_the_same_words_in_both_forms():
    box = Summary("It *rises* < 3.", ["One.", "Two."], {"LR-1": "reproduced"})
    text = unescape(re.sub("<[^>]+>", " ", box._repr_html_()))
    assert "<em>rises</em> &lt; 3." in box._repr_html_()
    for words in ("One.", "Two.", "LR-1", "reproduced"):
        assert words in text and words in repr(box)


@pytest.mark.parametrize("name", notebooks.names())
def test_no_cell_prints_more_than_a_screen(name):
    """Lines of plain text: all that is printed, and what has no form of its own for a page. The
    cells that a page leaves out are left out."""
    nb = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", 4)
    long = {cell.id: lines for cell in nb.cells if cell.cell_type == "code"
            if "remove-cell" not in cell.metadata.get("tags", ())
            if (lines := sum(map(plain_lines, cell.outputs))) > MOST}
    assert not long


def plain_lines(output):
    """Lines of an output that a page shows as plain text."""
    if output.output_type == "stream":
        return output.text.count("\n")
    data = output.get("data", {})
    rendered = any(kind == "text/html" or kind.startswith("image/") for kind in data)
    return 0 if rendered or "text/plain" not in data else data["text/plain"].count("\n") + 1


@pytest.mark.parametrize("name", notebooks.names())
def test_every_page_begins_with_its_summary(name):
    """One box, after the cells that read the tables and before any figure."""
    nb = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", 4)
    tagged = [number for number, cell in enumerate(nb.cells)
              if "summary" in cell.metadata.get("tags", ())]
    pictures = [number for number, cell in enumerate(nb.cells) for output in
                cell.get("outputs", ()) if "image/png" in output.get("data", ())]
    assert len(tagged) == 1
    assert "page-summary" in nb.cells[tagged[0]].outputs[0].data["text/html"]
    assert not pictures or tagged[0] < min(pictures)
