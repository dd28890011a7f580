"""A figure and its data as files that travel inside a page, as data: links.

They are there offline, in Colab and in a rerun, and the book takes them out again into files of
their own (book/_ext/figures.py). CSV is in base64. SVG is text with a few characters escaped,
which is a quarter smaller than base64.
"""

import base64
import html
import io
import re
from urllib.parse import quote

from matplotlib import rc_context

CSV, SVG = "data:text/csv;base64,", "data:image/svg+xml,"
DENSE = 4_000  # points of one pair of axes beyond which they are drawn as pixels inside the SVG
PIXELS = 150  # of those pixels, to the inch
PLAIN = " !$()*+,-./:;<=>?@[]^_`{|}~'\""  # need no escape in such a link; quotes are html's matter


def csv_link(table) -> str:
    """A table, six digits to a number."""
    data = table.to_csv(index=False, float_format="%.6g").encode()
    return CSV + base64.b64encode(data).decode()


def svg_link(fig) -> str:
    """A figure: text stays text, and what is drawn in dense axes becomes pixels. The same figure
    gives the same link."""
    for ax in fig.axes:
        artists = [*ax.lines, *ax.collections]
        dense = sum(map(_points, artists)) > DENSE
        for artist in artists:
            artist.set_rasterized(dense)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "devlib"}):
        fig.savefig(buffer, format="svg", dpi=PIXELS, metadata={"Date": None, "Creator": None})
    body = buffer.getvalue()
    body = body[body.index("<svg"):]  # no XML header, no document type: an address to load from
    body = re.sub("<[^>]*>", _swap_quotes, " ".join(body.split()))
    return SVG + quote(body, safe=PLAIN)


def line(name, description, **links) -> str:
    """The line under a figure: its origin, and each link as a file NAME.kind."""
    files = ", ".join(f'<a download="{name}.{kind}" href="{_attribute(link)}">{name}.{kind}</a>'
                      for kind, link in links.items())
    return (f'<p class="figure-source" data-figure="{name}">Made by the '
            f'{html.escape(description)}. {files}</p>')


def _swap_quotes(tag):
    """A tag with single quotes for double ones, which an attribute of HTML would have to escape."""
    return tag[0].translate({ord("'"): '"', ord('"'): "'"})


def _attribute(text):
    """Text as the value of an attribute: html.escape would escape < and > too, for nothing."""
    return text.replace("&", "&amp;").replace('"', "&quot;")


def _points(artist):
    """How many points an artist draws: of a line, a scatter, a mesh or a band."""
    if hasattr(artist, "get_xydata"):
        return len(artist.get_xydata())
    if (values := artist.get_array()) is not None:
        return values.size
    return len(artist.get_offsets()) * sum(map(len, (p.vertices for p in artist.get_paths())))
