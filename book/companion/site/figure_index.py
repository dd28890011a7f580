"""From the paper's figures to ours: data/figures.yaml, read, checked and put into words.

`paper` lists every figure and table of the paper, `own` the figures of this book that the paper
has not. Each names places in the book, PAGE#ANCHOR; that of a figure is figure-NAME, with the name
that `plots.show` was given. What an entry does not say is computed: the preset and so the status.
"""

from dataclasses import dataclass
from pathlib import Path

from companion import presets
from devlib.errors import UserError

FILE = Path("data") / "figures.yaml"
FIELDS = {"figure", "shows", "ours", "drawn_from", "whole_from", "lacks", "nothing"}


@dataclass(frozen=True)
class Entry:
    """One figure or table: `ours` are its places; `drawn_from` is the smallest preset whose pages
    have them, `whole_from` the smallest that shows all of it; `lacks` is what no preset shows, or
    why there is none; `nothing`, why none is due."""

    figure: str
    shows: str
    ours: tuple = ()
    whole_from: str = "smoke"
    lacks: str = ""
    nothing: str = ""
    drawn_from: str = "smoke"

    def is_drawn(self, preset: str | None) -> bool:
        """Whether pages made with a preset have its figures (None: of no preset, so they do)."""
        return preset is None or _no_larger(self.drawn_from, preset)

    def status(self, preset: str | None) -> str:
        """In words, for the preset that its pages were made with (None: they have none)."""
        if self.nothing:
            return f"nothing to compute: {self.nothing}"
        if not self.ours:
            return f"not yet: {self.lacks}"
        at = f"at preset {preset}" if preset else "for every preset"
        if not self.is_drawn(preset):
            return f"not drawn, {at}: from preset {self.drawn_from} on"
        small = preset is not None and not _no_larger(self.whole_from, preset)
        missing = [f"whole from preset {self.whole_from} on"] if small else []
        missing += [self.lacks] if self.lacks else []
        return f"drawn in part, {at}: {'; '.join(missing)}" if missing else f"drawn in full, {at}"


def _no_larger(preset, other) -> bool:
    """Whether a preset is no larger than another."""
    order = list(presets.PRESETS)
    return order.index(preset) <= order.index(other)


def load(path) -> tuple[list[Entry], list[Entry]]:
    """The paper's figures, and our own. Raises UserError, naming it, for what is no entry."""
    import yaml

    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return tuple([_entry(path, facts) for facts in content[part]] for part in ("paper", "own"))


def _entry(path, facts):
    name = facts.get("figure", facts)
    if unknown := facts.keys() - FIELDS:
        raise UserError(f"{path}: {name} has {', '.join(sorted(unknown))}, which is not one of "
                        f"{', '.join(sorted(FIELDS))}")
    ours = facts.get("ours", ())
    entry = Entry(**facts | {"ours": (ours,) if isinstance(ours, str) else tuple(ours)})
    for how, preset in (("drawn", entry.drawn_from), ("whole", entry.whole_from)):
        if preset not in presets.PRESETS:
            raise UserError(f"{path}: {name} is {how} from {preset}, which is no preset")
    if not entry.ours and not (entry.lacks or entry.nothing):
        raise UserError(f"{path}: {name} names no figure of ours and does not say why")
    return entry


def split(place) -> tuple[str, str]:
    """The page, as the book names it, and the anchor of a place."""
    page, _, anchor = place.partition("#")
    return page if "/" in page else f"notebooks/{page}", anchor


def problems(entries, anchors: dict[str, set], figures: set, made: dict) -> list[str]:
    """What does not fit: places that no page has, and figures that no entry names. `anchors`
    holds those of each page, `figures` every (page, name) in the book, and `made` the preset of
    each page (None: of none)."""
    places = [(entry, *split(place)) for entry in entries for place in entry.ours]
    named = {(page, anchor) for _, page, anchor in places}
    found = [f"{entry.figure}: there is no {page}#{anchor}"
             for entry, page, anchor in places
             if anchor not in anchors.get(page, ()) and entry.is_drawn(made.get(page))]
    return found + [f"{page} has a figure {name!r} that the index lacks; add {page}#figure-{name}"
                    for page, name in sorted(figures) if (page, f"figure-{name}") not in named]
