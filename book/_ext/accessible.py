"""Faults of Sphinx's and docutils' HTML that keep a page from those who do not see it, mended.

1. A table's empty corner cell is written as a heading without a text: it becomes a plain cell.
2. References carry the role doc-biblioentry, which ARIA 1.3 withdrew and which does not count as an
   item of the list around them: they become items.
3. A notebook's figure gets a box of its own, which scrolls on a phone while the text stays.

What CSS can mend is in _static/custom.css, what needs a landmark in _templates, and boxes that
scroll sideways get the keyboard's focus from _static/scroll_boxes.js.
"""

import re

FIGURE = re.compile(  # behind its anchors (the extension `figures`)
    r'^((?:<span class="target"[^>]*></span>)*)(<img [^>]*src="[^"]*_images/[^>]*>)$', re.M)
EMPTY_HEADING = re.compile(r'<th( class="[^"]*")?>(<p></p>)?\s*</th>')


def mend(body: str) -> str:
    """The page's HTML without those faults."""
    body = FIGURE.sub(r'\1<div class="scroll-box">\2</div>', body)
    body = EMPTY_HEADING.sub(r"<td\1></td>", body)
    return body.replace(' role="doc-biblioentry"', ' role="listitem"')


def mend_page(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = mend(context["body"])


def setup(app):
    app.connect("html-page-context", mend_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
