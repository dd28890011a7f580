"""A verdict as a chip: its word, a mark, and a colour of Okabe and Ito's, which never stands alone.
The colours are in book/_static/claims.css."""

import html

from companion.claims.verdicts import VERDICTS

CLASSES = {kind: "chip-" + kind.replace(" ", "-") for kind in VERDICTS}  # verdict -> CSS class


def chip(kind, text=None) -> str:
    """The HTML of a verdict's chip, with its word or another text."""
    return f'<span class="chip {CLASSES[kind]}">{html.escape(text or kind)}</span>'


def escaped(words) -> str:
    """Words as HTML, with the sign for what a terminal writes in ASCII."""
    return html.escape(words, quote=False).replace("+-", "\N{PLUS-MINUS SIGN}")
