"""What the book's tests see with: a contrast fault is found wherever it is the only one."""

import pytest
from browsing import axe

PAGE = """<!doctype html><html lang="en"><head><title>Made up</title><style>
  body { background: #fff; color: #222; } .faint { color: #ccc; } .dark { background: #444; }
  .veil { opacity: 0.2; }</style></head><body><main><h1>Made up</h1>%s</main></body></html>"""
ROWS = "".join(f"<p>row {number} of many that look alike</p>" for number in range(40))


@pytest.mark.parametrize("fault", [
    "<p class='faint'>too faint</p>", "<p style='color: #ddd'>too faint</p>",
    "<div class='dark'><div><p>dark on dark</p></div></div>",
    "<div class='veil'><p>behind a veil</p></div>",
    "<p>fine, and <em class='faint'>not</em></p>"])
def test_one_faint_text_among_many_is_found(browser, fault):
    page = browser.new_page()
    page.set_content(PAGE % (ROWS + fault))
    found = axe(page)
    page.close()
    assert len(found) == 1 and "color-contrast" in found[0]


def test_texts_that_look_alike_are_asked_about_once(browser):
    page = browser.new_page()
    page.set_content(PAGE % (ROWS + "<p class='faint'>one</p><p class='faint'>two</p>"))
    found = axe(page)
    page.close()
    assert len(found) == 1
