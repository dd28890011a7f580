"""What CITATION.cff says of the paper is what the book's list of references says."""

import re

import pytest
import yaml

from companion.places import project_root

ROOT = project_root()


def test_the_paper_is_cited_as_in_the_book_s_references():
    paper, = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    references = (ROOT / "book" / "references.bib").read_text()
    entry = re.search(r"@article\{hoogland2025,(.*?)\n\}", references, re.S)[1]
    found = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\}", entry, re.M))
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}"
                           for one in paper["authors"])
    assert found == {"author": authors, "title": paper["title"], "journal": paper["journal"],
                     "year": str(paper["year"]), "url": paper["url"]}


@pytest.mark.parametrize("place", ["README.md", "book/intro.md"])
def test_the_paper_has_one_title_everywhere(place):
    paper, = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    named = re.findall(r"Loss\s+Landscape\s+Degeneracy\s+and[\w\s]+?Transformers",
                       (ROOT / place).read_text())
    assert {" ".join(title.split()) for title in named} == {paper["title"]}


def test_the_companion_has_what_a_citation_needs():
    """The fields that the format asks for; no address, which stands in _config.yml alone."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited.keys() >= {"cff-version", "message", "title", "authors"}
    assert cited["title"].lower() == yaml.safe_load(
        (ROOT / "_config.yml").read_text())["title"].lower()
