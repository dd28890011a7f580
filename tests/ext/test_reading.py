"""Reading comfort: everything by the keyboard, the stage slider, the two further editions, and
what a reader who has only opened the introduction finds in two clicks."""

import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from browsing import (
    DESK,
    LOOK,
    PHONE,
    ROOT,
    broken_links,
    look_at,
    outside_loads,
    pages_of_toc,
)

pytest.importorskip("yaml", reason="the book's requirements are not installed")

INTRO, CLAIMS, SLIDER = "book/intro", "book/claims", "notebooks/12_stage_slider"


@pytest.fixture
def opened(book, browser):
    """opened(page, width=..., **context) -> a page of the book in a browser of its own."""
    pages = []

    def open_page(name, width=DESK, **options):
        pages.append(browser.new_page(viewport={"width": width, "height": 900}, **options))
        pages[-1].goto((book / f"{name}.html").as_uri())
        return pages[-1]
    yield open_page
    for page in pages:
        page.close()


# --------------------------------------------------------------------------------- the keyboard

# What a reader can use on the page as it stands: seen, enabled, and not inside a closed menu.
USABLE = """() => {
  const all = document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]');
  const usable = [...all].filter(e => e.checkVisibility({visibilityProperty: true})
    && !e.disabled && !e.closest('dialog:not([open])') && e.tabIndex >= 0);
  usable.forEach((e, number) => { e.dataset.number = number; });
  return usable.map(e => e.outerHTML.slice(0, 120));
}"""

REACHED = """() => {
  const e = document.activeElement, shown = e.closest('.sd-card') ?? e;  // a card is one link
  const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return [e.dataset.number ?? null, outlined && box.width > 5 && box.height > 5];
}"""


@pytest.mark.parametrize("name, width", [(INTRO, DESK), (CLAIMS, DESK), ("book/presets", PHONE),
                                         (SLIDER, PHONE)])
def test_tab_reaches_everything_and_shows_where_it_is(opened, name, width):
    page = opened(name, width)
    page.evaluate(LOOK)
    usable = page.evaluate(USABLE)
    reached, faint = set(), []
    for _ in range(len(usable) + 5):
        page.keyboard.press("Tab")
        number, outlined = page.evaluate(REACHED)
        if number is not None:
            reached.add(int(number))
            if not outlined:
                faint.append(usable[int(number)])
    missed = [text for number, text in enumerate(usable) if number not in reached]
    assert len(usable) > 10
    assert not missed, f"{name}: Tab does not reach {missed}"
    assert not faint, f"{name}: no visible focus on {faint}"


def test_skip_link_leads_past_the_contents(opened):
    page = opened(INTRO)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to main content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("() => !!document.activeElement.closest('main')")


def test_nothing_moves_for_who_asks_for_that(opened):
    page = opened(INTRO, reduced_motion="reduce")
    assert page.evaluate("""() => [...document.querySelectorAll('*')].filter(e => {
      const style = getComputedStyle(e);
      return style.scrollBehavior === 'smooth' || style.animationName !== 'none'
        || style.transitionDuration.split(',').some(time => parseFloat(time) > 0.001);
    }).map(e => e.outerHTML.slice(0, 80))""") == []


# ----------------------------------------------------------------------------- the stage slider


def slider_json(book):
    text = (book / f"{SLIDER}.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])


def test_slider_shows_the_largest_run_with_its_tables(book):
    """The page's data against the committed tables and checkpoints, without companion.pages.slider:
    the attention by a second way, context by context."""
    import torch

    from companion import presets, results, runs
    from companion.paper_stages import find_named
    from companion.site import notebooks, page_parameters
    from devlib.regression.model import build_model
    from devlib.regression.task import fixed_set

    page = page_parameters.parameters(notebooks.find("stage_slider"))
    shown, seed = page["preset"].default, page["seed"].default
    stored = [name for name in presets.PRESETS
              if list((runs.CHECKPOINTS / name).glob("regression-doubled-seed*.safetensors"))]
    assert shown == stored[-1], f"the page shows {shown}; make {stored[-1]} its preset"
    run, kept = results.regression(shown, seed), results.kept_checkpoints(shown, seed)
    evaluation, llc = run["evaluation"], run["llc"]
    data, settings = slider_json(book), results.regression_settings(shown)
    loss = evaluation[evaluation.step.isin(llc.step)]
    assert data["steps"] == llc.step.tolist()
    for curve, values, errors in zip(data["curves"], (loss.loss, llc.llc),
                                     (loss.loss_se, llc.mcse), strict=True):
        half = 0.5001 * 10.0 ** -curve["digits"]  # of the last digit shown
        assert np.abs(curve["values"] - values.to_numpy()).max() < half
        assert np.abs(curve["errors"] - errors.to_numpy()).max() < half
    stages = find_named(llc, evaluation, settings.stages)[2]
    assert [(s["name"], s["start"], s["end"]) for s in data["stages"]] == list(
        stages[["stage", "start", "end"]].itertuples(index=False, name=None))
    assert set(data["pattern_steps"]) <= set(kept.steps)
    for number, step in enumerate(data["steps"]):
        apart = np.abs(np.log1p(data["pattern_steps"]) - np.log1p(step))
        assert apart[data["pattern_at"][number]] == apart.min()

    samples = presets.get(shown).metrics.attention_samples
    xs, ys = fixed_set(seed, "patterns", samples, settings.task)
    model = build_model(settings, seed=0)
    model.load_state_dict(kept.load(data["pattern_steps"][-1]))
    with torch.no_grad():
        attention = sum(model.attention(x[None], y[None])[:, 0]
                        for x, y in zip(xs, ys, strict=True))
        answers = model(xs[:1], ys[:1])[0]
    below = np.tri(data["tokens"], dtype=bool)
    assert np.abs(np.asarray(data["predicted"][-1]) - answers.numpy()).max() < 0.00501
    assert np.abs(np.asarray(data["targets"]) - ys[0].numpy()).max() < 0.00501
    expected = 100 * (attention / samples).flatten(0, 1).numpy()[:, below]
    assert np.abs(expected - data["patterns"][-1]).max() < 0.501


def test_slider_follows_the_arrow_keys(opened, book):
    page, data = opened(SLIDER), slider_json(book)
    first_slider = page.locator(".stage-slider").first
    slider, said = first_slider.locator("input"), first_slider.locator("output")
    heads = first_slider.locator("canvas")
    assert page.get_by_role("slider", name="Training step").count() == 2
    assert said.get_attribute("aria-live") == "polite"
    slider.focus()
    page.keyboard.press("Home")
    first, before = data["stages"][0]["name"], heads.first.evaluate("c => c.toDataURL()")
    assert said.inner_text().startswith(f"{first} step 0: test loss")
    page.keyboard.press("ArrowRight")
    assert f"step {data['steps'][1]:,}" in said.inner_text()
    page.keyboard.press("End")
    last, loss, llc = data["stages"][-1]["name"], *data["curves"]
    assert said.inner_text() == (
        f"{last} step {data['steps'][-1]:,}: test loss {loss['values'][-1]:.3f} \u00b1 "
        f"{loss['errors'][-1]:.3f}, LLC {llc['values'][-1]:.1f} \u00b1 {llc['errors'][-1]:.1f} "
        "(standard error)")
    assert slider.get_attribute("aria-valuetext") == f"step {data['steps'][-1]:,}, stage {last}"
    assert heads.count() == len(data["patterns"][0])
    assert heads.first.evaluate("c => c.toDataURL()") != before
    predicted = first_slider.locator(".values tr", has_text="predicted").locator("td")
    assert predicted.all_inner_texts() == [f"{value:.2f}" for value in data["predicted"][-1]]
    assert not page.locator(".cell_output img").first.is_visible()  # the slider stands for it


def test_the_language_slider_shows_heads_and_the_text_of_its_stage(opened, book):
    text = (book / f"{SLIDER}.html").read_text(encoding="utf-8")
    _, data = map(json.loads, re.findall(r'<script type="application/json">(.*?)</script>', text))
    page = opened(SLIDER)
    slider = page.locator(".stage-slider").nth(1)
    slider.locator("input").focus()
    for key, place in (("Home", 0), ("End", -1)):
        page.keyboard.press(key)
        stage = data["stages"][place]["name"]
        assert slider.locator("output").inner_text().startswith(f"{stage} step ")
        assert f"over stage {stage}:" in slider.locator(".text-of").inner_text()
        for name, values in data["scores"].items():
            row = slider.locator(".values tr", has_text=name)
            assert row.locator("td").all_inner_texts() == [f"{v:.2f}" for v in values[place]]
    assert slider.locator("canvas").count() == len(data["patterns"][0]) == 2  # leading heads
    assert len(data["score_heads"]) == len(data["scores"]["prefix matching"][0])


def test_slider_is_a_picture_without_a_script(opened):
    page = opened(SLIDER, java_script_enabled=False)
    assert not any(slider.is_visible() for slider in page.locator(".stage-slider").all())
    assert all(picture.is_visible() for picture in page.locator(".cell_output img").all())


def test_slider_draws_anew_on_a_phone(opened):
    """Labels keep their size; the last one does not leave the drawing."""
    page = opened(SLIDER)
    svg = page.locator(".stage-slider svg").first
    wide = svg.bounding_box()["width"]
    page.set_viewport_size({"width": PHONE, "height": 844})
    page.wait_for_function("limit => document.querySelector('.stage-slider .cursor')"
                           ".previousElementSibling.getBBox().width < limit"
                           " && document.querySelector('.stage-slider svg').clientWidth < limit",
                           arg=PHONE)
    assert svg.bounding_box()["width"] < PHONE < wide
    right = svg.evaluate("svg => Math.max(...[...svg.querySelectorAll('rect, line, text')]"
                         ".map(part => part.getBBox().x + part.getBBox().width))")
    assert right <= svg.bounding_box()["width"]


# --------------------------------------------------------------------------- further editions


def test_single_page_is_the_whole_book(book, browser):
    """All formulas, no error, nothing from outside, not too wide. Links are checked with those of
    the other pages, and axe-core has seen each article on its own page."""
    text = (book / "single.html").read_text(encoding="utf-8")
    names = re.findall(r'\sid="([^"]+)"', text)
    assert len(names) == len(set(names))
    seen = look_at(browser, (book / "single.html").as_uri(), ask_axe=False)
    assert not (seen.formulas or seen.errors or seen.outside or seen.wide), seen
    for page in pages_of_toc():
        title = re.search(r"<h1>(.*?)<a", (book / f"{page}.html").read_text(encoding="utf-8"))[1]
        assert f"<h1>{title}<a" in text


def test_unzipped_book_reads_elsewhere(book, browser, tmp_path):
    with zipfile.ZipFile(book / "book.zip") as archive:
        archive.extractall(tmp_path)
    home = tmp_path / "stagewise-book"
    pages = [*home.rglob("*.html")]
    assert {path.relative_to(home) for path in pages} == {
        path.relative_to(book) for path in book.rglob("*.html")}
    for page in pages:
        if "_static" not in page.parts:
            assert not broken_links(page) and not outside_loads(page)
    seen = look_at(browser, (home / "notebooks" / "02_stage_boundaries.html").as_uri(),
                   ask_axe=False)
    assert not (seen.formulas or seen.errors or seen.outside or seen.wide), seen


def test_the_pdf_is_the_book_on_paper(book):
    """Some two hundred pages; the introduction says how large it is, and the zip has no link."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no browser to print with")
    data = (book / "book.pdf").read_bytes()
    intro = (book / f"{INTRO}.html").read_text(encoding="utf-8")
    assert data.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", data)) > 100
    assert f'<span class="pdf-size">{len(data) / 1e6:.0f} MB</span>' in intro
    with zipfile.ZipFile(book / "book.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith("book.pdf")]
        assert b"book.pdf" not in archive.read(f"stagewise-book/{INTRO}.html")


def test_without_a_browser_there_is_no_pdf_and_no_link(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import editions

    monkeypatch.setattr(editions, "BROWSERS", ("no-such-browser",))
    (tmp_path / "book.pdf").write_bytes(b"of an earlier build")
    page = tmp_path / "intro.html"
    page.write_text('One page<span class="pdf-edition">; <a href="book.pdf">PDF</a> (<span '
                    'class="pdf-size"></span>)<!-- pdf --></span>.')
    assert editions.print_book(tmp_path) is None and not (tmp_path / "book.pdf").exists()
    editions.say_size(tmp_path, None)
    assert page.read_text() == "One page."


def test_the_size_is_filled_in_again_by_a_second_build(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import editions

    page, pdf = tmp_path / "intro.html", tmp_path / "book.pdf"
    page.write_text('(<span class="pdf-size"></span>)')
    for size in (3, 12):
        pdf.write_bytes(bytes(size * 10**6))
        editions.say_size(tmp_path, pdf)
        assert page.read_text() == f'(<span class="pdf-size">{size} MB</span>)'


def test_radio_buttons_of_two_pages_stay_apart(monkeypatch):
    """Else a tab chosen on one page of the single one closes another page's."""
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import editions

    article = '<input id="sd-tab-item-0" name="sd-tab-set-0" type="radio">'
    assert editions._named(article, "a/b") == (
        '<input id="a-b--sd-tab-item-0" name="a-b--sd-tab-set-0" type="radio">')


def test_same_pages_same_zip(tmp_path, monkeypatch):
    """Whatever their times, and in whatever order the folder lists them."""
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import editions

    folders = []
    for name, order in (("one", (1, 2)), ("two", (2, 1))):
        folders.append(tmp_path / name)
        (folders[-1] / "sub").mkdir(parents=True)
        for number in order:
            (folders[-1] / "sub" / f"{number}.html").write_text(
                f'page {number}<span class="zip-edition">, <a href="book.zip">zip</a></span>.')
    first, second = (editions.zip_book(folder).read_bytes() for folder in folders)
    assert first == second == editions.zip_book(folders[0]).read_bytes()
    with zipfile.ZipFile(folders[0] / "book.zip") as archive:
        assert archive.read("stagewise-book/sub/1.html") == b"page 1."


# ------------------------------------------------------------------------------- the new reader

WANTED = {  # what to find: the words to click on, and what must then be seen
    "what the paper claims": ([], r"Two small transformers show five stages each"),
    "whether it holds": (["Check the claims"], r"^(reproduced|differs|too coarse to tell)$"),
    "what is new": ([], r"What the curve measures\."),
    "how to rerun one figure": (["Rerun"], r"companion run 02_stage_boundaries"),
    "how to measure an own model": (["Your own model"], r"devlib\.measure"),
    "where the code of equation 8 stands": (["Equations and code", "devlib.sampling.sgld.SGLD"],
                                            r"eq\. 8"),
}


@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("question", WANTED)
def test_new_reader_finds_it_in_two_clicks(opened, question, width):
    """By links of the text alone, without the table of contents, which a phone hides."""
    clicks, answer = WANTED[question]
    assert len(clicks) <= 2
    page = opened(INTRO, width)
    for words in clicks:
        link = page.get_by_role("link", name=words, exact=True)
        card = page.locator("article .sd-card", has=link)  # a link of which only the card shows
        (card if card.count() else page.locator("article").get_by_role(
            "link", name=words, exact=True)).first.click()
        page.wait_for_load_state()
    seen = page.locator("article").get_by_text(re.compile(answer))
    assert seen.count(), f"{question}: not on {page.url}"
    # the theme scrolls smoothly, and formulas move what is below them: wait for the end of both
    page.wait_for_function("""() => {
      const place = document.querySelector(':target') ?? document.querySelector('article h1');
      const top = place.getBoundingClientRect().top;
      return top >= -50 && top < innerHeight;
    }""", timeout=20_000)


# ------------------------------------------------------------------------------ the claims page


def test_the_filter_of_claims_goes_by_verdict_and_by_section(opened):
    """By keyboard; a claim shows if it is of both, in the overview and below."""
    page = opened(CLAIMS)
    verdicts, places = (page.get_by_label(name) for name in ("Verdict", "Section of the paper"))
    rows, blocks = page.locator(".claims-overview tbody tr"), page.locator("div.claim")
    every = rows.count()
    assert every == blocks.count() > 30
    assert page.locator(".claims-filter output").inner_text() == f"{every} of {every} claims"
    verdicts.focus()
    page.keyboard.type("differs")
    page.keyboard.press("Tab")
    page.keyboard.type("D:")
    shown = [row for row in rows.all() if row.is_visible()]
    wanted = page.locator(".claims-overview tr.verdict-differs.section-D")
    assert 0 < len(shown) == wanted.count() < every
    assert all(row.is_visible() for row in wanted.all())
    assert len([block for block in blocks.all() if block.is_visible()]) == len(shown)
    said = page.locator(".claims-filter output").inner_text()
    assert said == f"{len(shown)} of {every} claims"
    places.select_option("")
    verdicts.select_option("")
    assert all(row.is_visible() for row in rows.all())


def test_a_claim_of_the_front_page_leads_to_its_block_and_opens_it(opened):
    page = opened(INTRO)
    page.locator(".claims-tally").get_by_role("link", name="LM-8", exact=True).click()
    page.wait_for_load_state()
    assert page.locator("#claim-lm-8 > details").get_attribute("open") is not None
    assert page.locator("#claim-lm-8 table").is_visible()
    assert not page.locator("#claim-lm-7 table").is_visible()


def test_without_a_script_every_claim_is_listed_and_there_is_no_filter(opened):
    page = opened(CLAIMS, java_script_enabled=False)
    assert not page.locator(".claims-filter").is_visible()
    assert all(row.is_visible() for row in page.locator(".claims-overview tbody tr").all())


def test_a_link_leads_into_a_tab(opened):
    """The figures page links to each figure, also where a tab hides it."""
    page = opened("book/figures")
    page.locator('article a[href$="#figure-ood_linear"]').first.click()
    page.wait_for_load_state()
    page.locator("img:below(#figure-ood_linear)").first.wait_for(state="visible")
    assert page.locator("#figure-ood_linear").evaluate(
        "place => place.closest('.sd-tab-content').checkVisibility()")


# ------------------------------------------------------------------------ the other two screens


@pytest.mark.slow
def test_axe_finds_nothing_on_the_other_two_screens(book, browser):
    """Light on a phone, dark on a desk."""
    faults = []
    for name in [*pages_of_toc(), "genindex", "search"]:
        seen = look_at(browser, (book / f"{name}.html").as_uri(), light=PHONE, dark=DESK)
        faults += [f"{name}: {fault}" for fault in seen.wide + seen.faults]
    assert not faults, "\n".join(faults)
