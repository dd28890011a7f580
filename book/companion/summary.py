"""The box that a page begins with: what the paper says, and what came out here."""

import html
import re

from companion.claims.chips import chip


def summary(paper, here, *ids, **tables):
    """Displays the box: the paper's sentence, our answer (sentences with computed numbers), and
    the verdicts of claims, whose ids and tables are as for `companion.claims.ledger.show`."""
    from IPython.display import display

    display(Summary(paper, here, verdicts(*ids, **tables) if ids else {}))


def verdicts(*ids, **tables) -> dict[str, str]:
    """The verdict of each claim on a page's own results."""
    from companion.claims.ledger import on_tables

    return {name: found.verdict for name, found in on_tables(*ids, **tables).items()}


class Summary:
    """The box in its two forms. In both texts, `*words*` are emphasised on a page."""

    def __init__(self, paper, here, chips):
        self.paper, self.chips = paper, chips
        self.here = [here] if isinstance(here, str) else list(here)

    def __repr__(self):
        lines = [f"The paper: {self.paper}", *(f"Here: {line}" for line in self.here)]
        return "\n".join([*lines, *(f"{name}: {said}" for name, said in self.chips.items())])

    def _repr_html_(self):
        here = (f"<p>{_marked(self.here[0])}</p>" if len(self.here) == 1 else
                "<ul>" + "".join(f"<li>{_marked(line)}</li>" for line in self.here) + "</ul>")
        chips = " ".join(f"{chip(said, f'{name} {said}')}" for name, said in self.chips.items())
        return (f'<div class="page-summary"><p class="label">The paper</p><p>{_marked(self.paper)}'
                f'</p><p class="label">Here</p>{here}'
                + (f'<p class="verdict-chips">{chips}</p>' if chips else "") + "</div>")


def _marked(text):
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(text, quote=False))
