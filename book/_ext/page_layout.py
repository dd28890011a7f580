"""How a notebook's cells lie on its page. The notebook itself stays as it is run.

1. A page leads with its result: the cell tagged `summary` comes first, before the provenance card.
2. Code is folded, and lies under what it shows. A cell tagged `show-input` is there to be read and
   stays as it is.
3. A cell tagged `tabs` has what it shows behind tabs: one figure by log and by linear time, or
   parts with names of their own (companion.tabs).
4. A cell tagged `hide-output` has that folded with its code.
"""

import html
import re

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_design.shared import create_component

TABS = ("log time", "linear time")
TAB_NAME = re.compile('<p class="tab-name">(.*)</p>')


def lay_out(app, doctree):
    """Folds and moves the cells of one notebook page."""
    for cell in list(doctree.findall(_is_cell)):
        classes = cell["classes"]
        if "tag_show-input" not in classes:
            cell["hide_mode"] = "input+output" if cell.get("hide_mode") == "output" else "input"
            cell["prompt_show"] = cell["prompt_hide"] = "Show {type}"
        if "tag_tabs" in classes:
            put_behind_tabs(cell)
        if "tag_summary" in classes:
            put_first(doctree, cell)


def _is_cell(node):
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def put_first(doctree, cell):
    """Puts a cell right after the page's title."""
    title = next(iter(doctree.findall(nodes.title)))
    cell.parent.remove(cell)
    title.parent.insert(title.parent.index(title) + 1, cell)


def put_behind_tabs(cell):
    """Makes a tab of each part of a cell: what follows a name (companion.tabs), while what stands
    before the first stays above; without names, each figure, from its anchor (the extension
    `figures`) to the next one's."""
    output = next(part for part in cell if part.get("nb_element") == "cell_code_output")
    named = any(_tab_name(node) for node in output)
    names, parts, above = [] if named else list(TABS), [], []
    for node in list(output):
        name = _tab_name(node)
        if name:
            names.append(name)
        if name or (not named and isinstance(node, nodes.target)):
            parts.append([])
        if not name:
            (parts[-1] if parts else above).append(node)
    group = "name" if named else "time"
    items = [create_component("tab-item", classes=["sd-tab-item"], children=[
        nodes.rubric(name, name, classes=["sd-tab-label"], sync_id=name, sync_group=group),
        create_component("tab-content", classes=["sd-tab-content"], children=part)])
        for name, part in zip(names, parts, strict=True)]
    output.children = []
    output += above
    output += create_component("tab-set", classes=["sd-tab-set"], children=items)


def _tab_name(node):
    """The name that an output, which has several forms here, gives to what follows it."""
    found = filter(None, (TAB_NAME.fullmatch(raw.astext().strip())
                          for raw in node.findall(nodes.raw)))
    return next((html.unescape(name[1]) for name in found), None)


class CodeBelow(SphinxPostTransform):
    """Moves folded code below the output of its cell, once myst-nb has folded it."""

    default_priority = 201
    formats = ("html",)

    def run(self, **kwargs):
        for cell in list(self.document.findall(_is_cell)):
            folded = cell.children[0] if cell.children else None
            if isinstance(folded, HideCodeCellNode) and "above-input" in folded["classes"]:
                folded["prompt_show"] = folded["prompt_hide"] = "Code"
                cell.remove(folded)
                cell.append(folded)


def setup(app):
    app.connect("doctree-read", lay_out, priority=950)  # when figures have their anchors
    app.add_post_transform(CodeBelow)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
