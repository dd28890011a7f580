"""From the paper's figures to ours: data/figures.yaml, read, checked and put into words.

It lists every figure and table of the paper, and names places in the book, PAGE#ANCHOR; that of a
figure is figure-NAME, with the name that `figures.show` was given. What an entry does not say is
computed: the preset and so the status. Figures that it does not name are the book's own.
"""

from dataclasses import dataclass
from pathlib import Path

from companion import presets
from devlib.errors import UserError

FILE = Path("data") / "figures.yaml"
LINEAR = "_linear"  # how the name of a curve drawn by linear time ends
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


def load(path) -> list[Entry]:
    """The paper's figures. Raises UserError, naming it, for what is no entry."""
    import yaml

    return [_entry(path, facts) for facts in yaml.safe_load(
        Path(path).read_text(encoding="utf-8"))]


def own(entries, alts: dict[tuple[str, str], str]) -> list[Entry]:
    """The figures that no entry names, page by page: by its name and what its picture's
    alternative text says; the same curve by linear time (NAME_linear) goes with it. `alts` maps
    every (page, name) in the book to that text, in the order of the pages."""
    named = {split(place) for entry in entries for place in entry.ours}
    left = [place for place in alts if (place[0], f"figure-{place[1]}") not in named]
    found = []
    for page, name in left:
        if name.endswith(LINEAR) and (page, name.removesuffix(LINEAR)) in left:
            continue  # it goes with that
        places = [f"{page}#figure-{each}" for each in (name, f"{name}{LINEAR}")
                  if (page, each) in left]
        found.append(Entry(name.replace("_", " "), alts[page, name], tuple(places)))
    return found


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


def problems(entries, anchors: dict[str, set], made: dict) -> list[str]:
    """Places that no page has. `anchors` holds those of each page, and `made` the preset of each
    page (None: of none)."""
    places = [(entry, *split(place)) for entry in entries for place in entry.ours]
    return [f"{entry.figure}: there is no {page}#{anchor}" for entry, page, anchor in places
            if anchor not in anchors.get(page, ()) and entry.is_drawn(made.get(page))]
