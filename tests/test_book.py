"""The book builds without a warning, and every page reads offline, on a phone too.

Built once a session, with the Makefile's command. The browser tests need a Chromium on PATH and
skip, with the reason, where there is none.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

yaml = pytest.importorskip("yaml", reason="the book's requirements are not installed")

ROOT = Path(__file__).parents[1]
OWN_SCHEMES = ("file", "data", "blob", "about")
PHONE = 390  # CSS pixels
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]


def pages_of_toc():
    """Page names, as _toc.yml gives them; known before the book is built."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


CONTENT = pages_of_toc()
PAGES = [*CONTENT, "genindex", "search"]


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """The folder of the built html."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("jupyter-book is not installed beside this Python")
    out = tmp_path_factory.mktemp("book")
    done = subprocess.run([command, "build", str(ROOT), "--path-output", str(out), "-W",
                           "--keep-going"], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    trouble = "\n".join(re.findall(r".*(?:WARNING|ERROR).*", said))
    assert done.returncode == 0, f"the book does not build clean:\n{trouble or said[-3000:]}"
    return out / "_build" / "html"


# ---------------------------------------------------------------------------- without a browser


class Links(HTMLParser):
    """What a page points to, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name") if tag == "a" else None}
        if tag == "a" and attrs.get("href"):
            self.targets.append(attrs["href"])
        elif tag in ("img", "script", "iframe", "source", "video") and attrs.get("src"):
            self.loads.append(attrs["src"])
        elif tag == "link" and attrs.get("href") and attrs.get("rel") != "canonical":
            self.loads.append(attrs["href"])


def test_every_page_is_listed(book):
    """So that no built page escapes the tests below."""
    built = {path.relative_to(book).with_suffix("").as_posix() for path in book.rglob("*.html")
             if "_static" not in path.parts}
    assert built == {*PAGES, "index"}
    front = (book / "index.html").read_text(encoding="utf-8")  # only sends a reader on
    assert f"url={CONTENT[0]}.html" in front


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(book, page):
    path = book / f"{page}.html"
    links = Links(path)
    broken = []
    for link in links.targets + links.loads:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        if not target.is_file():
            broken.append(link)
        elif url.fragment and target.suffix == ".html" and (
                unquote(url.fragment) not in Links(target).anchors):
            broken.append(f"{link} (no such anchor)")
    assert not broken, f"{page}: broken links {sorted(set(broken))}"


@pytest.mark.parametrize("page", PAGES)
def test_loads_nothing_from_outside(book, page):
    outside = [link for link in Links(book / f"{page}.html").loads
               if urlsplit(link).netloc or urlsplit(link).scheme not in ("", "data")]
    assert not outside, f"{page}: {outside}"


@pytest.mark.parametrize("page", [page for page in CONTENT if page.startswith("notebooks/")])
def test_every_notebook_page_says_how_it_was_made(book, page):
    """Once: the card under its title, with the command that makes it again."""
    text = (book / f"{page}.html").read_text(encoding="utf-8")
    assert text.count('class="provenance') == 1
    name = page.removeprefix("notebooks/")
    assert f"python -m devlib run {name} --preset" in re.sub("<[^>]+>", "", text)


def test_preset_numbers_are_the_presets(book):
    """Settings on the presets page are those of devlib, symbols and all."""
    from devlib import presets

    text = unescape((book / "book" / "presets.html").read_text(encoding="utf-8"))
    for preset in presets.PRESETS.values():
        assert f"{preset.regression.llc.draws:,}" in text
        assert preset.words.replace("'", "\u2019") in text  # Sphinx writes typographic quotes
    for row in presets.describe(presets.PAPER.regression.training):
        assert f">{row['name']}<" in text


def test_claims_page_is_what_the_command_prints(book):
    bs4 = pytest.importorskip("bs4")
    page = bs4.BeautifulSoup((book / "book" / "claims.html").read_text(encoding="utf-8"),
                             "html.parser")
    done = subprocess.run([sys.executable, "-m", "devlib", "claims"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    *blocks, tally = done.stdout.split("\n\n")
    shown = [*page.select("div.claim"), page.select_one("ul.claims-tally")]
    for head in page.select("div.claim thead"):
        head.decompose()

    def plain(text):
        return "".join(text.translate(str.maketrans("\u2019\u201c\u201d", "'\"\"")).replace(
            "\u00b1", "+-").split())
    assert [plain(part.get_text()) for part in shown] == [plain(text) for text in (*blocks, tally)]
    assert len(blocks) == 28
    link = page.select_one('#claim-lr-1 a[href$="02_stage_boundaries.html"]')
    assert link.get_text() == "stage boundaries"


def test_the_example_of_the_book_runs():
    """The Python of book/use.md, and its known answer: 3/2, moved by gamma and eps."""
    torch = pytest.importorskip("torch")
    code, *more = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "use.md").read_text(), re.S)
    scope, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)  # four parameters: more threads only wait for one another
    try:
        for part in (code, *more):
            exec(compile(part, "book/use.md", "exec"), scope)
    finally:
        torch.set_num_threads(threads)
    sampler, estimate = scope["sampler"], scope["estimate"]
    kappa = sampler.nbeta + sampler.gamma  # unit curvature in each of three directions
    expected = 1.5 * sampler.nbeta / kappa / (1 - sampler.eps * kappa / 4)
    assert estimate.ess >= 200
    assert abs(estimate.mean - expected) < 4 * estimate.mcse
    assert scope["found"].sampler.nbeta == sampler.nbeta


# ------------------------------------------------------------------------------- with a browser


@dataclass
class Visit:
    """What a browser saw on one page."""

    outside: list = field(default_factory=list)  # requests that left the machine
    errors: list = field(default_factory=list)  # console errors and uncaught exceptions
    formulas: list = field(default_factory=list)  # texts of formulas left unrendered
    images: list = field(default_factory=list)  # (source, alt text)
    wide: list = field(default_factory=list)  # what reaches beyond a phone's screen


LOOK = """async () => {
  const formulas = [...document.querySelectorAll('.math')];
  if (formulas.length && window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const bad = formulas.filter(f => !f.querySelector('mjx-container') ||
                                   f.querySelector('mjx-merror, [data-mjx-error]'));
  const images = [...document.querySelectorAll('article img, .bd-article img')];
  return {
    formulas: bad.map(f => f.textContent.trim().slice(0, 80)),
    images: images.map(i => [i.getAttribute('src').slice(-60), i.getAttribute('alt') || '']),
  };
}"""

WIDE = """limit => {
  if (document.scrollingElement.scrollWidth <= limit + 1) return [];
  const wide = [...document.querySelectorAll('main *')].filter(
    e => e.getBoundingClientRect().right > limit + 1);
  return ['page is ' + document.scrollingElement.scrollWidth + ' wide'].concat(wide.slice(0, 5).map(
    e => e.tagName + '.' + e.className + ': ' + (e.textContent || '').trim().slice(0, 40)));
}"""


@pytest.fixture(scope="module")  # no longer: its event loop would stand in the way of nbclient's
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(book, browser):
    """visit(page) -> Visit; a page is opened once, on a desk's screen and then on a phone's."""
    seen = {}

    def look(name, query=""):
        if name + query not in seen:
            seen[name + query] = _visit(browser, (book / f"{name}.html").as_uri() + query)
        return seen[name + query]
    return look


def _visit(browser, url):
    result = Visit()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.on("request", lambda request: urlsplit(request.url).scheme in OWN_SCHEMES
                or result.outside.append(request.url))
        page.on("console", lambda message: message.type == "error"
                and result.errors.append(message.text))
        page.on("pageerror", lambda error: result.errors.append(str(error)))
        page.goto(url)
        seen = page.evaluate(LOOK)
        page.wait_for_timeout(200)  # for what scripts start after loading
        result.formulas, result.images = seen["formulas"], seen["images"]
        page.set_viewport_size({"width": PHONE, "height": 844})
        page.wait_for_timeout(100)  # the theme lays out anew
        result.wide = page.evaluate(WIDE, PHONE)
    finally:
        page.close()
    return result


@pytest.mark.parametrize("page", PAGES)
def test_asks_nothing_of_the_network(visit, page):
    assert not visit(page).outside, f"{page} asks for {visit(page).outside}"


@pytest.mark.parametrize("page", PAGES)
def test_console_is_silent(visit, page):
    assert not visit(page).errors, f"{page}: {visit(page).errors}"


@pytest.mark.parametrize("page", CONTENT)
def test_formulas_are_rendered(visit, page):
    assert not visit(page).formulas, f"{page}: left as text: {visit(page).formulas}"


def test_formulas_are_seen(visit, book):
    """Guards the test above: the notation page does have formulas, and MathJax is ours."""
    text = (book / "book" / "notation.html").read_text(encoding="utf-8")
    assert text.count('class="math') > 20
    assert 'src="../_static/mathjax/es5/tex-mml-chtml.js' in text


@pytest.mark.parametrize("page", CONTENT)
def test_images_say_what_they_show(visit, page):
    """Alt text is words, not the file's hash that stands there by default."""
    mute = [(source, alt) for source, alt in visit(page).images
            if len(re.findall("[A-Za-z]{2,}", alt)) < 2
            or re.search(r"[0-9a-f]{16}|\.(png|svg|jpe?g)$", alt)]
    assert not mute, f"{page}: images without a description {mute}"


@pytest.mark.parametrize("page", PAGES)
def test_fits_a_phone(visit, page):
    assert not visit(page).wide, f"{page} scrolls sideways at {PHONE} px: {visit(page).wide}"


def test_search_works_from_disk(visit):
    search = visit("search", "?q=learning+coefficient")
    assert not search.errors and not search.outside, (search.errors, search.outside)
