"""The stages of a run under the paper's names, where they are the paper's stages.

A boundary found here is one of the paper's by the rule of the claims, `table_rows.matched`: one to
one, and within a factor of MATCH. A stage whose two ends are so has the paper's name (LR3); any
other has a letter (A, B, ...), so that no name of the paper's stands for another stage.
"""

from itertools import pairwise
from string import ascii_uppercase

import pandas as pd

from companion import presets
from companion.claims.table_rows import MATCH, matched
from companion.health import find_stages_quietly
from companion.scale import steps_are_the_papers
from devlib.settings import LanguageSettings, StageSettings, as_dict
from devlib.stages import PAPER_STAGE_ENDS


def paper_ends(language: LanguageSettings | None = None) -> dict[str, int]:
    """Where the paper's stages end, by name: of the regression model, or of a language model with
    these settings. Empty where the run's steps are not the paper's (another model, or another
    learning rate: companion.scale), for then a step says nothing of a stage."""
    if language is None:
        return PAPER_STAGE_ENDS["LR"]
    two = language.model.layers == presets.PAPER.language.model.layers
    return PAPER_STAGE_ENDS["LM"] if two and steps_are_the_papers(as_dict(language)) else {}


def match(boundaries, ends: dict[str, int]) -> dict[int, str]:
    """The found boundaries that are the paper's, each with the stage that ends there."""
    found = matched(list(boundaries), list(ends.values()))
    return {int(found[step]): name for name, step in ends.items() if step in found}


def names(boundaries, last, ends: dict[str, int]) -> list[str]:
    """The name of each stage that the boundaries cut a run of so many steps into. The last one has
    the paper's name too where the run stops before that stage of the paper's ends."""
    inner = {name: step for name, step in ends.items() if step < max(ends.values())}
    theirs = match(boundaries, inner)
    order, letters = list(ends), iter(ascii_uppercase)
    found = []
    for start, end in pairwise([0, *boundaries, last]):
        before = theirs.get(start)
        number = 0 if start == 0 else order.index(before) + 1 if before else len(order)
        name = order[number] if number < len(order) else None
        cut_off = end == last and name and last <= ends[name] * MATCH
        known = name and (theirs.get(end) == name or cut_off)
        found.append(name if known else next(letters))
    return found


def find_named(llc: pd.DataFrame, loss: pd.DataFrame, settings: StageSettings, ends=None):
    """`devlib.stages.find_stages` with the stages named by `names`; `ends` are those of
    `paper_ends` (default: the regression model's). The errors are those of `find_stages`."""
    ends = paper_ends() if ends is None else ends
    curve, boundaries, stages = find_stages_quietly(llc, loss, settings)
    return curve, boundaries, stages.assign(
        stage=names(boundaries, int(curve.steps[-1]), ends))


def told(boundaries, last, ends=None, gone=()) -> str:
    """A run's boundaries in sentences: how many there are, which are the paper's, and which are
    `gone` without the estimates that failed their checks (companion.health.withdrawn)."""
    ends = paper_ends() if ends is None else ends
    inner = {name: step for name, step in ends.items() if step < min(last, max(ends.values()))}
    theirs = match(boundaries, inner)
    steps = ", ".join(f"{step:,}" for step in boundaries) or "none"
    rest = ("" if not gone else " Without the LLC estimates that failed their checks, these go: "
            + ", ".join(f"{step:,}" for step in gone) + ".")
    if not inner:
        return f"Boundaries found: {steps}.{rest}"
    which = "; ".join(f"end of {name} at {step:,} (paper: {inner[name]:,})"
                      for step, name in theirs.items())
    return (f"Boundaries found: {steps}. {len(theirs)} of the {len(inner)} that the paper has "
            f"within this run are among them" + (f": {which}." if which else ".") + rest)
