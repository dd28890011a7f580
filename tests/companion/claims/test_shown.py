"""Claims as pages show them: what the terminal says is on the page, cell by cell, in the same bytes
each time; and the overview of all of them."""

import re
from dataclasses import replace
from html import unescape

import pytest

from companion.claims import ledger, overview, text
from companion.claims.chips import CLASSES, chip
from companion.claims.judge import SEEN
from companion.claims.shown import MANY, ShownClaims
from companion.claims.verdicts import ILL, VERDICTS

bs4 = pytest.importorskip("bs4")


@pytest.fixture(scope="module")
def found():
    """Every claim on the committed tables."""
    return {judged.claim.id: judged for judged in ledger.ledger()}


def plain(words):
    return words.replace("+-", "\u00b1")


def test_a_claim_on_a_page_has_all_that_the_terminal_says(found):
    said = bs4.BeautifulSoup(ShownClaims(found)._repr_html_(), "html.parser")
    blocks = said.select(".claim-shown")
    assert [block.strong.text for block in blocks] == list(found)
    for block, judged in zip(blocks, found.values(), strict=True):
        head = block.select_one(".claim-head").text
        assert judged.claim.what in head and f" {judged.verdict} " in head
        rows = [[cell.text for cell in row.select("td")] for row in block.select("tbody tr")]
        assert sorted(rows) == sorted([plain(cell) for cell in text.cells(m)] for m in judged.rows
                                      if m.verdict in (*SEEN, ILL))
        unfolded = block.select(":scope > table tbody tr")
        assert len(unfolded) == (len(rows) if len(rows) <= MANY else 1)
        folded = [item.text for item in block.select("details li")]
        assert folded == [plain(line) for line in (*text.joints(judged), *text.reasons(judged),
                                                   *text.missing(judged))]
        words = re.sub(r"\s+", " ", repr(ShownClaims({judged.claim.id: judged})))
        for line in (*text.joints(judged), *text.missing(judged)):
            assert line in words


def test_the_page_s_form_is_the_same_every_time(found):
    """nbval compares it."""
    assert ShownClaims(found)._repr_html_() == ShownClaims(dict(found))._repr_html_()


def test_a_terminal_prints_the_text(found, capsys):
    ledger.show({"LR-4": found["LR-4"]})
    assert capsys.readouterr().out == text.brief(found["LR-4"]) + "\n"


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_chip_says_its_verdict_and_has_a_mark_of_its_own(kind):
    assert chip(kind) == f'<span class="chip {CLASSES[kind]}">{kind}</span>'
    assert len(set(CLASSES.values())) == len(VERDICTS)


@pytest.mark.parametrize("where, sections", [
    ("A.2, Fig. 2", ["A"]), ("Fig. 1b, B.3", ["B", "1"]), ("7.3, D.2.4, Figs. 5c, D.8", ["7", "D"]),
    ("D.2.3, Figs. D.5 to D.7", ["D"]), ("Table 1, Fig. 1a, 6, B.2", ["6", "B", "1", "5"]),
    ("App. E", ["E"]), ("abstract (the function-space method)", ["abstract"]),
    ("5, 7, Fig. 1b, B.1, B.3", ["5", "7", "B", "1"])])
def test_sections_are_those_of_the_text(found, where, sections):
    judged = found["LR-1"]
    assert overview.sections(replace(judged, claim=replace(judged.claim, where=where))) == sections


def test_every_claim_has_a_line_a_section_and_the_row_that_decides(found):
    page = bs4.BeautifulSoup(overview.page(list(found.values())), "html.parser")
    lines = page.select("tbody tr")
    assert [line.a["href"] for line in lines] == [f"#claim-{name.lower()}" for name in found]
    options = [option["value"] for option in page.select("option")]
    for line, judged in zip(lines, found.values(), strict=True):
        assert line.select_one(".chip").text == judged.verdict
        assert set(line["class"]) <= set(options) and len(line["class"]) > 1
        m = overview.telling(judged)
        cells = [cell.text for cell in line.select("td")]
        assert m.row.what in cells[0] and judged.claim.what in cells[0]
        assert cells[2:] == [plain(cell) for cell in text.cells(m)[1:4]]
        if judged.verdict in (*SEEN, ILL) and any(row.verdict == judged.verdict
                                                  for row in judged.rows):
            assert m.verdict == judged.verdict


def test_the_filter_counts_the_claims_of_each_verdict(found):
    words = unescape(overview.page(list(found.values())))
    for kind in VERDICTS:
        assert f"{kind} ({sum(j.verdict == kind for j in found.values())})" in words
