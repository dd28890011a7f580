"""Tables as a page shows them: aligned numbers, units and a caption; in a terminal, plain text.

tabulate writes both forms from the same cells, so the HTML says what the text says.
"""

import html
import math
import re

import numpy as np
import pandas as pd
from tabulate import tabulate

# What a column is called on a page, where its name in a table is shorter.
NAMES = {"llc": "LLC", "mcse": "standard error", "ess": "ESS", "rhat": "R-hat", "nbeta": "n beta",
         "loss_change": "change of loss", "loss_se": "standard error of loss",
         "llc_change": "change of LLC", "llc_se": "standard error of LLC"}
LONG = re.compile(r"<td>(?=[^<]{24,}</td>)")  # a cell of words, which may wrap


def show_table(table: pd.DataFrame, caption, *, digits=None, units=None, index=False, blank="-"):
    """Displays a table under a caption.

    `digits` are the decimals of each column of floats (default 3): a number for all, a mapping by
    column, or in either place a format such as ".1e". `units` maps columns to what stands in
    brackets after their name. `index` shows the index too, and `blank` stands where there is no
    value. Raises KeyError for a column in `digits` or `units` that there is not.
    """
    from IPython.display import display

    display(ShownTable(table, caption, digits=digits, units=units, index=index, blank=blank))


class ShownTable:
    """A table's two forms, the same bytes each time: `repr` for a terminal, HTML for a page."""

    def __init__(self, table, caption, *, digits=None, units=None, index=False, blank="-"):
        table = table.reset_index() if index else table
        columns, units = list(table.columns), units or {}
        forms = digits if isinstance(digits, dict) else dict.fromkeys(columns, digits)
        for name in {*forms, *units} - {*columns}:
            raise KeyError(f"no column {name!r}; the table has {', '.join(map(str, columns))}")
        self.caption = caption
        self.heads = [_head(name, units.get(name)) for name in columns]
        cells = [_column(table[name], forms.get(name), blank) for name in columns]
        self.rows = list(zip(*(texts for texts, _ in cells), strict=True))
        self.align = tuple("right" if number else "left" for _, number in cells)

    def __repr__(self):
        return f"{self.caption}\n\n{self._written('simple')}"

    def _repr_html_(self):
        body = self._written("html").replace(
            "<table>", f'<table class="shown-table">\n<caption>{html.escape(self.caption)}'
                       "</caption>", 1)
        body = LONG.sub('<td class="words">', body)
        return f'<div class="scroll-box">{body}</div>'

    def _written(self, form):
        return tabulate(self.rows, self.heads, tablefmt=form, colalign=self.align,
                        disable_numparse=True)


def _head(name, unit):
    words = NAMES.get(name, str(name).replace("_", " "))
    return f"{words} ({unit})" if unit else words


def _column(values, form, blank):
    """A column's cells as text, and whether they are numbers."""
    known = values.dropna()
    numbers = len(known) > 0 and all(isinstance(v, (int, float, np.number))
                                     and not isinstance(v, (bool, np.bool_)) for v in known)
    if form is None:  # a column of steps or counts that has gaps is one of floats
        whole = numbers and all(float(v).is_integer() for v in known)
        form = 0 if whole else 3
    form = f"z,.{form}f" if isinstance(form, int) else form  # z: no minus before a zero
    return [_cell(value, form, blank) for value in values], numbers


def _cell(value, form, blank):
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return blank
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return format(value, form) if isinstance(value, (float, np.floating)) else str(value)
