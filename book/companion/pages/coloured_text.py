"""Text with a number to each token, as HTML: how Fig. C.1 is drawn."""

import html
import math

from companion.corpus.tokenizer import load_tokenizer
from devlib.errors import UserError

FALL, RISE = "0, 114, 178", "213, 94, 0"  # Okabe and Ito's blue and vermilion
LIMIT = 2.0  # nats shown at full strength on a page, so that stages can be compared
STRONGEST = 0.6  # opacity; so text in a page's own colour stays readable, on light and on dark


def coloured_text(tokens, values, limit=None) -> str:
    """The tokens, one after another, on a blue ground where their value (nats) is below zero and
    an orange one where it is above, the stronger the further; at `limit` (default: the greatest)
    and beyond, full strength. A pointer over a token shows the value. NaN: neither.

    Plain HTML without a script or outside resource, in the page's own text colour. A line's end is
    shown as an arrow. Raises UserError unless each token has a value.
    """
    if len(tokens) != len(values):
        raise UserError(f"{len(tokens)} tokens need as many values, not {len(values)}; bos, which "
                        "has no loss, gets NaN")
    if limit is None:
        limit = max((abs(value) for value in values if not math.isnan(value)), default=0)
    spans = [_span(token, value, limit) for token, value in zip(tokens, values, strict=True)]
    return ('<div class="coloured-text" style="white-space: pre-wrap; overflow-wrap: anywhere; '
            f'font-family: monospace; line-height: 1.6; margin-bottom: 1em">{"".join(spans)}</div>')


def _span(token, value, limit):
    text = html.escape(token.replace("\n", "\u21b5\n"))
    if math.isnan(value):
        return f"<span>{text}</span>"
    strength = STRONGEST * min(1, abs(value) / limit) if limit > 0 else 0
    colour = FALL if value < 0 else RISE
    return (f'<span style="background-color: rgba({colour}, {strength:.2f})" '
            f'title="{value:+.2f} nats">{text}</span>')


def token_texts(ids, vocabulary, corpus) -> list[str]:
    """What each token says. Those of the toy corpus are numbers."""
    if corpus == "toy":
        return [f"{id} " for id in ids]
    return load_tokenizer(vocabulary).decode_batch([[id] for id in ids])


def show_text(title, table, vocabulary, corpus):
    """Displays the text of a table (token, change) under a title."""
    from IPython.display import HTML, display

    text = coloured_text(token_texts(table.token.tolist(), vocabulary, corpus),
                         table.change.tolist(), LIMIT)
    display(HTML(f"<p>{html.escape(title)}</p>{text}"))


def context_of(ids, vocabulary, corpus) -> str:
    """A token after those before it, on one line, itself in brackets: `ids` as "12 7 9"."""
    *before, last = token_texts([int(id) for id in ids.split()], vocabulary, corpus)
    return ("".join(before) + f"[{last}]").replace("\n", "\u21b5")
