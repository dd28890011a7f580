"""What a cell shows, behind tabs of the page: a name before each part. Needs the cell's tag `tabs`;
in a terminal, and in a notebook by itself, the names are headings."""

import html


def tab(name):
    """Displays the name of what the cell displays next."""
    from IPython.display import display

    display(Tab(name))


class Tab:
    """A tab's name in its two forms."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"{self.name}:"

    def _repr_html_(self):
        return f'<p class="tab-name">{html.escape(self.name, quote=False)}</p>'
