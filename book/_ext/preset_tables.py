"""What this book adds to Sphinx.

1. ```{preset-table}``` and ```{preset-table} regression.llc```: the presets of companion.presets,
   in words or number by number. A number then has one home, and the book cannot disagree with it.
2. sphinx-thebe, which jupyter-book always loads, is taken off the pages: it is included twice,
   which raises a page error, and nothing here uses it.
"""

import re
import sys
from operator import attrgetter

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

GREEK = {"beta", "epsilon", "eta", "gamma", "sigma"}


def tex(symbol):
    """A symbol as presets.py writes it, in TeX: n beta is n \\beta, d_mlp is d_{\\mathrm{mlp}}."""
    def word(match):
        text = match[0]
        if text in GREEK:
            return f"\\{text} "
        return text if len(text) == 1 else f"{{\\mathrm{{{text}}}}}"
    return re.sub("[A-Za-z]+", word, symbol)


def written(value):
    """A value as a reader wants it: 1,048,576 and 6.667, a dash for none."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, tuple | list):
        return ", ".join(map(written, value)) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{int(value):,}" if value == int(value) else f"{value:.4g}"


class PresetTable(SphinxDirective):
    """Presets side by side. The argument is a path into a Preset that ends at a group of numbers;
    without it, the table gives each preset's description. `:presets:` takes some of them only."""

    optional_arguments = 1
    option_spec = {"presets": directives.unchanged}  # noqa: RUF012 (docutils' interface)

    def run(self):
        from companion import presets

        self.env.note_dependency(presets.__file__)  # new numbers, new page
        chosen = [presets.get(name) for name in
                  self.options.get("presets", " ".join(presets.PRESETS)).split()]
        if not self.arguments:
            rows = [[nodes.literal(text=preset.name), preset.description,
                     preset.language_description] for preset in chosen]
            return [table(["preset", "regression", "language models"], rows)]
        heads = ["number", *(preset.name for preset in chosen), "section"]
        numbers = [self.numbers(preset) for preset in (presets.PAPER, *chosen)]
        return [table(heads, [self.row(*line) for line in zip(*numbers, strict=True)])]

    def numbers(self, preset):
        """The rows of the group that the argument leads to."""
        from devlib.settings import describe

        return describe(attrgetter(self.arguments[0])(preset))

    def row(self, paper, *chosen):
        """One number under every preset, in bold where it differs from the paper's. Its name,
        symbol and unit share a cell: side by side they would leave no room for the values."""
        symbol = paper["symbol"]
        name = nodes.inline("", "", nodes.literal(text=paper["name"]))
        if symbol != "-":
            name += [nodes.Text(" "), nodes.math(tex(symbol), tex(symbol))]
        if paper["unit"] != "-":
            name += nodes.inline(text=paper["unit"], classes=["unit"])
        values = [nodes.inline(text=written(number["value"]))
                  if number["value"] == paper["value"]
                  else nodes.strong(text=written(number["value"])) for number in chosen]
        return [name, *values, paper["section"]]


def table(heads, rows):
    """A docutils table; a cell is a string or an inline node."""
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    for part, lines in ((nodes.thead(), [heads]), (nodes.tbody(), rows)):
        for line in lines:
            row = nodes.row()
            for cell in line:
                inline = nodes.Text(cell) if isinstance(cell, str) else cell
                row += nodes.entry("", nodes.paragraph("", "", inline))
            part += row
        group += part
    return nodes.table("", group, classes=["preset-table"])


def drop_thebe_scripts(app, pagename, templatename, context, doctree):
    """sphinx-thebe's file, and the inline lines that name its CDN."""
    context["script_files"] = [
        script for script in context.get("script_files", [])
        if "thebe" not in f"{script} {getattr(script, 'attributes', {}).get('body')}".lower()]


def drop_thebe_nodes(app, doctree, docname):
    """The raw scripts that sphinx-thebe appends to every page."""
    for node in list(doctree.findall(nodes.raw)):
        if "thebe" in node.astext() or "kernelName" in node.astext():
            node.parent.remove(node)


def setup(app):
    # this checkout's devlib and companion, not others installed
    sys.path[:0] = [str(app.srcdir), f"{app.srcdir}/book"]
    app.add_directive("preset-table", PresetTable)
    app.connect("html-page-context", drop_thebe_scripts, priority=900)
    app.connect("doctree-resolved", drop_thebe_nodes, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
