"""The built book, a browser, and what the browser sees on each page: shared by test_book and
test_reading, so that the book is built once and a page opened once."""

import functools
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
OWN_SCHEMES = ("file", "data", "blob", "about")
INSTALL = "pip install -r requirements.txt"
DESK, PHONE = 1280, 390  # CSS pixels
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]


def pages_of_toc():
    """Page names, as _toc.yml gives them; known before the book is built."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


@pytest.fixture(scope="session")
def book(tmp_path_factory, worker_id):
    """The folder of the built html, built once for all of pytest's workers."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip(f"no jupyter-book beside this Python: {INSTALL}")
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    html = shared / "book" / "_build" / "html"
    with FileLock(shared / "book.lock"):
        if not (shared / "book").exists():
            build(command, shared / "book")
    assert html.is_dir(), "another worker could not build the book; its test says why"
    return html


def build(command, out):
    """Builds the book under `out`, clean."""
    done = subprocess.run([command, "build", str(ROOT), "--path-output", str(out), "-W",
                           "--keep-going"], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    trouble = "\n".join(re.findall(r".*(?:WARNING|ERROR).*", said))
    if done.returncode:
        shutil.rmtree(out / "_build", ignore_errors=True)
    assert done.returncode == 0, f"the book does not build clean:\n{trouble or said[-3000:]}"


@pytest.fixture(scope="module")  # no longer: its event loop would stand in the way of nbclient's
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason=f"no playwright: {INSTALL}")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: install one of {', '.join(names)}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


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


@functools.cache
def links_of(path) -> Links:
    return Links(path)


def broken_links(path):
    """Links of a page to files or places that are not there."""
    links = links_of(path)
    broken = []
    for link in links.targets + links.loads:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        if not target.is_file():
            broken.append(link)
        elif url.fragment and target.suffix == ".html" and (
                unquote(url.fragment) not in links_of(target).anchors):
            broken.append(f"{link} (no such anchor)")
    return sorted(set(broken))


def outside_loads(path) -> list[str]:
    """What a page loads that is not a file of the book."""
    return [link for link in links_of(path).loads
            if urlsplit(link).netloc or urlsplit(link).scheme not in ("", "data")]


@dataclass
class Visit:
    """What a browser saw on one page, on two screens (`look_at`)."""

    outside: list = field(default_factory=list)  # requests that left the machine
    errors: list = field(default_factory=list)  # console errors and uncaught exceptions
    formulas: list = field(default_factory=list)  # texts of formulas left unrendered
    images: list = field(default_factory=list)  # (source, alt text)
    wide: list = field(default_factory=list)  # what reaches beyond a screen
    stuck: list = field(default_factory=list)  # boxes that scroll, on the second, by mouse alone
    faults: list = field(default_factory=list)  # what axe-core finds


LOOK = """async () => {
  const formulas = [...document.querySelectorAll('.math')];
  if (formulas.length && window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const bad = formulas.filter(f => !f.querySelector('mjx-container') ||
                                   f.querySelector('mjx-merror, [data-mjx-error]'));
  const images = [...document.querySelectorAll('article img, .bd-article img')];
  document.querySelectorAll('details').forEach(box => { box.open = true; });  // to be looked at too
  await Promise.all(document.getAnimations().map(move => move.finished));  // they fade in
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

STUCK = """() => [...document.querySelectorAll('.bd-article *')].filter(
  box => box.scrollWidth > box.clientWidth + 1 && box.tabIndex < 0
    && ['auto', 'scroll'].includes(getComputedStyle(box).overflowX)
).map(box => box.tagName + '.' + box.className + ': ' + box.textContent.trim().slice(0, 40))"""

DARK = "() => { document.documentElement.dataset.theme = 'dark'; }"

# Every rule of axe-core, the best practices among them. Left out is only fetching style sheets
# once more, which a browser refuses a page on disk. Contrast takes nine tenths of the time, 10 ms a
# text, and hangs on nothing but a text's own look and what lies behind it: one text of each kind.
AXE = """async () => {
  const kinds = new Map(), seen = new Set();
  const behind = e => {
    if (!e) return '';
    if (!kinds.has(e)) {
      const s = getComputedStyle(e);
      kinds.set(e, behind(e.parentElement) + [s.backgroundColor, s.backgroundImage, s.opacity,
        s.filter, s.mixBlendMode, s.position, s.zIndex] + ';');
    }
    return kinds.get(e);
  };
  for (const e of document.querySelectorAll('body *')) {
    e.removeAttribute('data-kind');
    if (![...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim())
        && !e.matches('input, select, textarea, button')) continue;
    const s = getComputedStyle(e), kind = behind(e) + [s.color, s.fontSize, s.fontWeight,
      s.textShadow, s.visibility, s.webkitTextStroke, e.checkVisibility(), e.tagName];
    if (!seen.has(kind)) e.dataset.kind = seen.add(kind).size;
  }
  const options = {resultTypes: ['violations'], preload: false}, contrast = 'color-contrast';
  const found = [
    await axe.run(document, {...options, rules: {[contrast]: {enabled: false}}}),
    await axe.run({include: ['[data-kind]']}, {...options, runOnly: [contrast]})];
  return found.flatMap(part => part.violations).flatMap(rule => rule.nodes.map(
    node => rule.id + ': ' + node.target + ': '
      + node.failureSummary.replace(/\\s+/g, ' ').slice(0, 200)));
}"""


@functools.cache
def axe_source() -> str:
    package = pytest.importorskip("axe_playwright_python", reason=f"no axe-core: {INSTALL}")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def axe(page) -> list[str]:
    """What axe-core finds on a page as it is shown now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe_source())
    theme = page.evaluate("() => document.documentElement.dataset.theme")
    return [f"{theme}, {page.viewport_size['width']} px: {fault}" for fault in page.evaluate(AXE)]


def watch(page) -> Visit:
    """A Visit that collects the page's requests and errors from now on."""
    result = Visit()
    page.on("request", lambda request: urlsplit(request.url).scheme in OWN_SCHEMES
            or result.outside.append(request.url))
    page.on("console", lambda message: message.type == "error"
            and result.errors.append(message.text))
    page.on("pageerror", lambda error: result.errors.append(str(error)))
    return result


def look_at(browser, url, ask_axe=True, light=DESK, dark=PHONE) -> Visit:
    """Opens a page, looks at it on a screen as wide as `light` in the light theme, then as wide
    as `dark` in the dark one, and closes it."""
    page = browser.new_page(viewport={"width": light, "height": 900}, color_scheme="light")
    try:
        result = watch(page)
        page.goto(url)
        seen = page.evaluate(LOOK)
        page.wait_for_timeout(200)  # for what scripts start after loading
        result.formulas, result.images = seen["formulas"], seen["images"]
        result.wide += page.evaluate(WIDE, light)
        result.faults += axe(page) if ask_axe else []
        page.evaluate(DARK)
        page.set_viewport_size({"width": dark, "height": 844})
        page.wait_for_timeout(600)  # the theme lays out anew, and sets tab stops 300 ms later
        result.wide += page.evaluate(WIDE, dark)
        result.stuck = page.evaluate(STUCK)
        result.faults += axe(page) if ask_axe else []
    finally:
        page.close()
    return result


@pytest.fixture(scope="module")
def visit(book, browser):
    """visit(page) -> Visit; a page is opened once."""
    seen = {}

    def look(name, query=""):
        if name + query not in seen:
            seen[name + query] = look_at(browser, (book / f"{name}.html").as_uri() + query)
        return seen[name + query]
    return look
