"""What each parameter of the book's pages may be: one line a parameter, for all pages.

The comment on a page's parameter tells the same to a reader; a test holds the two together.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from companion.presets import CORPORA
from companion.runs import RESIDUALS

WORDS = {"int": "a whole number", "float": "a finite number", "bool": "true or false",
         "str": "text"}  # of the types that a command line can give


@dataclass(frozen=True)
class Bound:
    """The type of a parameter, and which values of it are allowed.

    A number has a `check` with its words, which follow those of the type: "a finite number above
    0". A text has `choices`; an empty one stands for "the preset's" and is not said.
    """

    type: str
    words: str = ""
    check: Callable = lambda value: True
    choices: tuple[str, ...] = ()

    def allows(self, value) -> bool:
        """Whether a value of the type is allowed."""
        return self.check(value) and (not self.choices or value in self.choices)

    @property
    def message(self) -> str:
        """What the parameter takes, for an error."""
        return ", ".join(filter(None, self.choices)) or f"{WORDS[self.type]} {self.words}".rstrip()


def _above(limit):
    return f"above {limit}", partial(operator.lt, limit)


def _at_least(limit):
    return f"{limit} or more", partial(operator.le, limit)


BOUNDS = {
    "preset": Bound("str"),  # presets.get knows which
    "seed": Bound("int"),  # presets.check_seed
    "recompute": Bound("bool"),
    "reuse": Bound("bool"),
    "tolerance": Bound("float", *_above(0)),
    "eps": Bound("float", *_above(0)),
    "nbeta": Bound("float", *_above(0)),
    "gamma": Bound("float", *_at_least(0)),
    "residual": Bound("str", choices=RESIDUALS),
    "corpus": Bound("str", choices=("", *CORPORA)),
}
