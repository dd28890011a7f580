"""The front page's figures and sentences, computed at build from the committed tables.

```{headline} NAME``` is the figure that companion.front draws, with the words below it as its
caption; ```{findings}``` and ```{news}``` are lists. The words are those of companion.front.
Drawing takes a second or two.
"""

import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

FRONT = "book/intro"
ALT = {  # by figure of companion.front
    "headline": "Test loss above and LLC below over training, by log time on the left and by "
    "linear time on the right: our run as a line over the mean and range of five released seeds, "
    "the stages as coloured bands, the paper's boundaries as ticks",
    "headline_language": "Test loss on the left and LLC on the right of the two-layer language "
    "model over training: ours as a line with its stages as bands, the released run as a grey "
    "line. Both losses fall; both LLCs climb and rest near step 7,000, after which the released "
    "one climbs on and ours does not"}


class Headline(SphinxDirective):
    """A figure; its content is the caption."""

    required_arguments = 1
    has_content = True

    def run(self):
        figure = nodes.container(classes=["headline"])
        name, = self.arguments
        image = f'<figure>\n<img alt="{ALT[name]}" src="../_images/{name}.png">\n</figure>'
        figure += nodes.raw("", image, format="html")
        self.state.nested_parse(self.content, self.content_offset, figure)
        return [figure]


class Sentences(SphinxDirective):
    """One of companion.front's lists, by the directive's name."""

    def run(self):
        from companion import front
        from devlib.errors import UserError

        self.env.note_reread()  # tables come and go
        try:
            lines = getattr(front, self.name)()
        except UserError as error:
            raise ExtensionError(f"{self.name}: {error}") from error
        number = self.name == "findings"
        text = [f"{'1.' if number else '-'} {line}" for line in lines]
        part = nodes.container(classes=[self.name])
        self.state.nested_parse(StringList(text, self.name), self.content_offset, part)
        return [part]


def draw(app, exception):
    """Writes the figures beside the book's images."""
    if exception is not None or app.builder.name != "html" or app.config.root_doc != FRONT:
        return
    from companion import figures, front

    place = Path(app.outdir) / "_images"
    place.mkdir(exist_ok=True)
    for name in ALT:
        fig = getattr(front, name)()
        fig.savefig(place / f"{name}.png", dpi=2 * figures.STYLE["figure.dpi"],
                    metadata={"Software": None})
        figures.plt.close(fig)


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.add_directive("headline", Headline)
    app.add_directive("findings", Sentences)
    app.add_directive("news", Sentences)
    app.connect("build-finished", draw, priority=400)  # before the editions are made
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
