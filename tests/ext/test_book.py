"""The book builds without a warning, and every page reads offline, on a phone, in the dark, and
without eyes or a mouse.

Built once a session, with the Makefile's command (browsing.py). The browser tests need a Chromium
on PATH and skip, with the reason, where there is none.
"""

import re
import subprocess
import sys
from html import unescape

import pytest
from browsing import PHONE, ROOT, broken_links, outside_loads, pages_of_toc

from companion.claims import ledger

pytest.importorskip("yaml", reason="the book's requirements are not installed")

CONTENT = pages_of_toc()
PAGES = [*CONTENT, "genindex", "search"]

# ---------------------------------------------------------------------------- without a browser


def test_every_page_is_listed(book):
    """So that no built page escapes the tests below."""
    built = {path.relative_to(book).with_suffix("").as_posix() for path in book.rglob("*.html")
             if "_static" not in path.parts}
    assert built == {*PAGES, "index", "single"}
    front = (book / "index.html").read_text(encoding="utf-8")  # only sends a reader on
    assert f"url={CONTENT[0]}.html" in front


@pytest.mark.parametrize("page", [*PAGES, "single"])
def test_links_resolve(book, page):
    broken = broken_links(book / f"{page}.html")
    assert not broken, f"{page}: broken links {broken}"


@pytest.mark.parametrize("page", [*PAGES, "single"])
def test_loads_nothing_from_outside(book, page):
    outside = outside_loads(book / f"{page}.html")
    assert not outside, f"{page}: {outside}"


@pytest.mark.parametrize("page", [page for page in CONTENT if page.startswith("notebooks/")])
def test_every_notebook_page_says_how_it_was_made(book, page):
    """Once: the card under its title, with the command that makes it again."""
    text = (book / f"{page}.html").read_text(encoding="utf-8")
    assert text.count('class="provenance') == 1
    name = page.removeprefix("notebooks/")
    assert f"python -m companion run {name} --preset" in re.sub("<[^>]+>", "", text)


@pytest.mark.parametrize("page", [page for page in CONTENT if page.startswith("notebooks/")])
def test_the_rocket_and_the_download_lead_to_one_commit(book, page):
    """To the tag of the commit that the book was built from; of changed files, to the branch."""
    name = page.removeprefix("notebooks/")
    html = (book / f"{page}.html").read_text(encoding="utf-8")
    opened = set(re.findall(rf"colab\.research[^\"]*/blob/([^/]+)/notebooks/{name}\.ipynb", html))
    head = (book / "_sources" / f"{page}.ipynb").read_text(encoding="utf-8")
    fetched, = re.findall(r"checkout -q ([\w-]+)", head)
    assert opened == {f"book-{fetched}" if re.fullmatch("[0-9a-f]{40}", fetched) else "main"}


def test_preset_numbers_are_the_presets(book):
    """Settings on the presets page are those of devlib, symbols and all."""
    from companion import presets
    from devlib.settings import describe

    text = unescape((book / "book" / "presets.html").read_text(encoding="utf-8"))
    for preset in presets.PRESETS.values():
        assert f"{preset.regression.llc.draws:,}" in text
        assert preset.description.replace("'", "\u2019") in text  # Sphinx writes typographic quotes
    for row in describe(presets.PAPER.regression.training):
        assert f">{row['name']}<" in text


def test_claims_page_is_what_the_command_prints(book):
    bs4 = pytest.importorskip("bs4")
    page = bs4.BeautifulSoup((book / "book" / "claims.html").read_text(encoding="utf-8"),
                             "html.parser")
    done = subprocess.run([sys.executable, "-m", "companion", "claims"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    *blocks, calibration, tally = done.stdout.split("\n\n")
    assert calibration.startswith("calibration: ")  # the page has the counts in its text
    shown = page.select("div.claim")
    for head in page.select("div.claim thead"):
        head.decompose()

    def plain(text):
        return "".join(text.translate(str.maketrans("\u2019\u201c\u201d", "'\"\"")).replace(
            "\u00b1", "+-").split())
    assert [plain(part.get_text()) for part in shown] == [plain(text) for text in blocks]
    counts = [page.select_one(f".claims-{name}").get_text() for name in ("tally", "rows")]
    assert plain("".join(counts)) == plain(tally)
    assert len(blocks) == len(ledger.entries())
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


@pytest.mark.parametrize("page", PAGES)
def test_boxes_scroll_by_keyboard(visit, page):
    assert not visit(page).stuck, f"{page}: Tab passes by {visit(page).stuck}"


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(visit, page):
    """Light on a desk, dark on a phone; the other two in make test-slow."""
    assert not visit(page).faults, f"{page}: " + "\n".join(visit(page).faults)


def test_search_works_from_disk(visit):
    search = visit("search", "?q=learning+coefficient")
    assert not search.errors and not search.outside, (search.errors, search.outside)
