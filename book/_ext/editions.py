"""Three more editions of the book, made of its pages once they are written.

single.html: every page, in order, on one; book.pdf: that page as Chromium prints it; book.zip: all
files of the book but the PDF, to read elsewhere without a network. They lie beside the pages, so
that a link to them is never broken. Without a Chromium there is no PDF and no link to it
(`<span class="pdf-edition">`, in which `<span class="pdf-size">` becomes its size). In the zip, and
in what is unzipped, there is no link to the zip (`<span class="zip-edition">`): it cannot hold
itself.

DEVLIB_PDF=no in the environment leaves the PDF out: it takes half a minute.
"""

import os
import posixpath
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.util import logging

SINGLE, ZIP, PDF, FOLDER = "single.html", "book.zip", "book.pdf", "stagewise-book"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--no-pdf-header-footer",
         "--virtual-time-budget=60000")  # milliseconds of its own clock, for the formulas
PATIENCE = 300  # seconds
ARTICLE = re.compile(r'(?<=<article class="bd-article">).*(?=</article>)', re.S)
ASSET = re.compile(r'<link rel="stylesheet"[^>]*>|<script\b[^>]*\bsrc="[^>]*></script>')
INERT = re.compile(r"(<(script|style)\b[^>]*>)(.*?)(</\2>)", re.S)  # what they hold is no HTML
POINTER = re.compile(r'(\s(?:href|src|action))="([^"]*)"')
RADIO = re.compile(r'(<input\b[^>]*\sname)="([^"]*)"')
NAME = re.compile(r'(\s(?:id|for|aria-labelledby|aria-describedby|aria-controls))="([^"]*)"')
ZIP_LINK = re.compile(r'<span class="zip-edition">.*?</span>', re.S)
PDF_LINK = re.compile(r'<span class="pdf-edition">.*?<!-- pdf --></span>', re.S)
PDF_SIZE = re.compile(r'(?<=<span class="pdf-size">)[^<]*(?=</span>)')
NEIGHBOURS = re.compile(r'<footer class="prev-next-footer.*?</footer>', re.S)
logger = logging.getLogger(__name__)
YEAR_ONE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def single_page(html: Path, pages: list[str]) -> str:
    """The pages (names without .html) as one: the first one's frame, and in it all articles. Names
    of places get their page in front, and links between pages become links to places."""
    texts = {page: _at_root((html / f"{page}.html").read_text(encoding="utf-8"), page, pages)
             for page in pages}
    frame, assets = texts[pages[0]], []
    for text in texts.values():
        head = text[:text.index("</head>")]
        assets += [tag for tag in ASSET.findall(head) if tag not in frame and tag not in assets]
    articles = "\n".join(f'<div id="{anchor(page)}" class="chapter">'
                         f"{_named(ARTICLE.search(text)[0], page)}</div>"
                         for page, text in texts.items())
    frame = NEIGHBOURS.sub("", ARTICLE.sub(lambda _: articles, frame))
    return (frame.replace("</head>", "\n".join([*assets, "</head>"]), 1)
            .replace('data-content_root="../"', 'data-content_root="./"', 1))


def anchor(page, fragment="") -> str:
    """The name on the single page of a page, or of a place on it."""
    return "--".join(filter(None, [page.replace("/", "-"), fragment]))


def _at_root(text, page, pages):
    """A page's HTML with its links as seen from the root; those into an article are places."""
    places = {name for _, names in NAME.findall(ARTICLE.search(text)[0]) for name in names.split()}

    def point(match):
        url = urlsplit(match[2])
        of_frame = not url.path and url.fragment and url.fragment not in places
        if url.scheme or url.netloc or of_frame:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), url.path)
                                  if url.path else f"{page}.html")
        if path.removesuffix(".html") in pages:
            return f'{match[1]}="#{anchor(path.removesuffix(".html"), url.fragment)}"'
        rest = (f"?{url.query}" if url.query else "") + (f"#{url.fragment}" if url.fragment else "")
        return f'{match[1]}="{path}{rest}"'
    return _outside_scripts(lambda part: POINTER.sub(point, part), text)


def _named(article, page):
    """An article whose names of places say which page they are of."""
    def name(match):
        return f'{match[1]}="{" ".join(anchor(page, word) for word in match[2].split())}"'
    article = RADIO.sub(lambda match: f'{match[1]}="{anchor(page, match[2])}"', article)
    return _outside_scripts(lambda part: NAME.sub(name, part), article)


def _outside_scripts(change, text):
    parts, end = [], 0
    for found in INERT.finditer(text):
        parts += [change(text[end:found.start(3)]), found[3]]
        end = found.end(3)
    return "".join([*parts, change(text[end:])])


def zip_book(html: Path) -> Path:
    """Packs the folder into book.zip in it: the same files give the same bytes."""
    path = html / ZIP
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(html.rglob("*")):
            if not file.is_file() or file in (path, html / PDF) or file.name == ".buildinfo":
                continue
            data = file.read_bytes()
            if file.suffix == ".html":
                data = PDF_LINK.sub("", ZIP_LINK.sub("", data.decode())).encode()
            entry = zipfile.ZipInfo(f"{FOLDER}/{file.relative_to(html).as_posix()}", YEAR_ONE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return path


def print_book(html: Path) -> Path | None:
    """Prints single.html as book.pdf; None, and no file, where no browser is there or it fails."""
    path = html / PDF
    path.unlink(missing_ok=True)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or os.environ.get("DEVLIB_PDF") == "no":
        return None
    with tempfile.TemporaryDirectory() as home:
        try:
            subprocess.run([browser, *FLAGS, f"--user-data-dir={home}", f"--print-to-pdf={path}",
                            (html / SINGLE).as_uri()], capture_output=True, timeout=PATIENCE,
                           check=True)
        except (OSError, subprocess.SubprocessError) as error:
            logger.info(f"no PDF of the book: {error}")
            path.unlink(missing_ok=True)
    return path if path.exists() else None


def say_size(html: Path, pdf: Path | None):
    """Puts the PDF's size into the pages that link to it; without one, takes the link out."""
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if not PDF_SIZE.search(text):
            continue
        text = (PDF_LINK.sub("", text) if pdf is None else
                PDF_SIZE.sub(f"{pdf.stat().st_size / 1e6:.0f} MB", text))
        page.write_text(text, encoding="utf-8")


def make_editions(app, exception):
    if exception is not None or app.builder.name != "html":
        return
    html = Path(app.outdir)
    pages = [app.config.root_doc, *_in_order(app.env, app.config.root_doc)]
    (html / SINGLE).write_text(single_page(html, pages), encoding="utf-8")
    say_size(html, print_book(html))
    zip_book(html)


def _in_order(env, page):
    """Names of the pages below a page, as the table of contents has them."""
    for child in env.toctree_includes.get(page, []):
        yield child
        yield from _in_order(env, child)


def setup(app):
    app.connect("build-finished", make_editions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
