"""The API reference: every public name of devlib and companion, read from its source and never
imported.

Where a page says `<!-- api 1-4 -->` the modules of those packages follow:
signature, docstring, the paper's equations and sections that it names, and the tests and pages
that exercise it; `<!-- api brief 7-13 -->` gives a line to each function and class, for a room that
nobody imports; `<!-- api overview -->` lists the modules. All of it is found with `ast` when
the book is built: importing devlib would load torch for it, CPU seconds,
and docstrings here are Markdown and plain formulas, not reStructuredText.
"""

import re
from pathlib import Path

from api_source import Module, Name, modules, pages, tests

MARK = re.compile(r"<!-- api (?:overview|(?P<brief>brief )?(?P<first>\d+)-(?P<last>\d+)) -->")

# The packages: title, what they hold, dotted name. A module stands with the nearest package.
GROUPS = (
    ("What all share", "Settings, random numbers, files, training and stages.", "devlib"),
    ("Sampling", "A loss and a parameter in, draws out.", "devlib.sampling"),
    ("Local learning coefficient", "Draws in, an estimate with its error out.", "devlib.llc"),
    ("A model of one's own", "A module and its data in, an LLC with its health out.",
     "devlib.own"),
    ("In-context linear regression", "Contexts in, a model's predictions and metrics out.",
     "devlib.regression"),
    ("Language models", "Tokens in, losses and metrics out.", "devlib.language"),
    ("Runs and their tables", "Checkpoints in, tables with their provenance out.", "companion"),
    ("Known answers", "Potentials and networks whose LLC is exact.", "companion.known"),
    ("Text", "What language models are trained on.", "companion.corpus"),
    ("Claims", "Tables in, verdicts out.", "companion.claims"),
    ("Computing", "Pieces of work, over cores and machines.", "companion.compute"),
    ("Pages", "What a page needs more than its notebook.", "companion.pages"),
    ("The site", "The pages as programs, and what they share.", "companion.site"))

# Where this book writes an equation out, or deals with a section; the longest match counts.
PLACES = {
    "eq. 2": "01_training", "eq. 3": "#equations", "eq. 8": "#equations",
    **{f"eq. {n}": "04_calibration" for n in range(9, 15)},
    "eq. 15": "10_language_stages", "eq. 16": "10_language_stages",
    "eq. 17": "18_induction_circuit",
    **{f"eq. {n}": "06_regression_stages" for n in range(18, 23)},
    "eq. 25": "01_training", "eq. 26": "01_training",
    "3": "01_training", "4": "#equations", "5": "02_stage_boundaries", "6": "10_language_stages",
    "6.3": "18_induction_circuit", "C.2.2": "18_induction_circuit",
    "C.2.3": "18_induction_circuit", "C.2.4": "18_induction_circuit",
    "7": "06_regression_stages", "7.1": "02_stage_boundaries", "A.1": "03_primer",
    "A.2": "03_primer", "A.3": "#equations", "A.4": "presets", "A.5": "04_calibration",
    "A.6": "04_calibration", "A.7": "04_calibration", "B.1": "02_stage_boundaries",
    "B.2": "10_language_stages", "B.3": "02_stage_boundaries", "B.4": "07_more_seeds",
    "B.5": "08_hessian_comparison", "C": "10_language_stages", "D": "06_regression_stages",
    "E": "11_one_layer", "F.1": "10_language_stages", "F.2": "01_training"}
SHOWN = 3  # tests, or pages, named of each function
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")

# ----------------------------------------------------------------------------------- the Markdown


def references(text) -> list[str]:
    """The equations and sections of the paper that a docstring names, in its order: "eq. 8",
    "A.5.4"."""
    pattern = (r"\beqs?\.\s*(?P<first>\d+)(?:\s*(?:-|to|and|,)\s*(?P<last>\d+))?"
               r"|(?:update|of|from) \((?P<bare>\d+)\)"
               r"|\b(?P<appendix>[A-F]\.\d+(?:\.\d+)*)"
               r"|\b(?:Section|Appendix) (?P<section>[A-F3-7](?:\.\d)?)\b"
               r"|(?<=[(,] )(?P<inner>[4-7]\.\d)\b|(?<=\()(?P<short>[4-7]\.\d)\b")
    found = []
    for match in re.finditer(pattern, text):
        parts = match.groupdict()
        numbers = [parts["first"], parts["last"], parts["bare"]]
        found += [f"eq. {number}" for number in numbers if number]
        found += [parts[key] for key in ("appendix", "section", "inner", "short") if parts[key]]
    return [name for name in dict.fromkeys(found) if place(name)]


def place(reference):
    """The page of an equation or section, None if there is none."""
    while reference not in PLACES:
        if "." not in reference or reference.startswith("eq"):
            return None
        reference = reference.rpartition(".")[0]
    page = PLACES[reference]
    return page if page in ("#equations", "presets") else f"../notebooks/{page}"


def escape(text) -> str:
    """A docstring as Markdown: outside of code, signs that would be markup stand for themselves,
    and an option (--runs) is code, or its dashes would become one."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("    "):
            parts = re.split(r"(`[^`]*`)", line)
            line = "".join(part if part.startswith("`") else
                           OPTION.sub(r"`\g<0>`", re.sub(r"([$<|*\[\]{}])", r"\\\1", part))
                           for part in parts)
        lines.append(line)
    return "\n".join(lines)


class Writer:
    """Writes names and modules as Markdown, with links to this book and its repository."""

    def __init__(self, root, repository):
        self.repository, self.found = repository, modules(root)
        self.tests, self.pages = tests(root, self.found), pages(root, self.found)
        self.places = {path.stem: path.relative_to(root).as_posix()
                       for path in (Path(root) / "tests").rglob("*.py")}

    def overview(self) -> str:
        """All modules by group, each with its first sentence."""
        parts = []
        for title, words, members in groups(self.found):
            parts.append(f"## {title}\n\n{words}\n")
            parts += [f"[`{module.name}`](#{anchor(module)})\n: {first_sentence(module.doc)}\n"
                      for module in members]
        return "\n".join(parts)

    def reference(self, first, last, brief=False) -> str:
        """The modules of groups first to last."""
        parts = []
        for title, words, members in groups(self.found)[first - 1:last]:
            parts.append(f"## {title}\n\n{words}")
            for module in members:
                parts.append(f"({anchor(module)})=\n### {module.name}\n\n{escape(module.doc)}")
                if brief:
                    source = f"book/{module.name.replace('.', '/')}.py"
                    parts.append(f"Source: [{source}]({self.repository}/{source})")
                    parts += map(self.line, module.names)
                else:
                    named = references(module.doc)
                    parts += [self.name(name, named) for name in module.names]
        return "\n\n".join(parts)

    def line(self, name: Name) -> str:
        """One function or class and its first sentence, as an entry of a definition list."""
        said = first_sentence(name.doc)
        return f"`{name.name}`\n: {said}" if said else f"`{name.name}`"

    def name(self, name: Name, inherited=()) -> str:
        """One name as a directive of Sphinx's Python domain; `inherited` are the references of
        its module, for a docstring that has none."""
        kind = {"classmethod": "method", "staticmethod": "method"}.get(name.kind, name.kind)
        options = [f":module: {name.module}"]
        if kind != name.kind:
            options.append(f":{name.kind}:")
        signature = "" if name.kind == "property" else name.signature
        if name.kind == "property" and "->" in name.signature:
            options.append(f":type: {name.signature.split('-> ')[1]}")
        body = [escape(name.doc)] if name.doc else []
        if name.kind in ("function", "class"):
            body += self._foot(name, inherited)
        body += [self.name(member) for member in name.members]
        fence = "`" * (4 if name.members else 3)
        return "\n".join([f"{fence}{{py:{kind}}} {name.name}{signature}", *options, "",
                          "\n\n".join(body), fence])

    def _foot(self, name, inherited):
        """The paper's places, the tests and the pages, as a definition list."""
        named = references(name.doc) or list(inherited)
        own = f"test_{name.module.split('.')[-1]}."
        keys = sorted(self.tests.get(name.path, ()),
                      key=lambda key: (not key.startswith(own), key))
        lines = (
            ("Paper", [f"[{each}]({place(each)})" for each in named]),
            ("Tests", [f"[`{key.split('.')[1]}`]("
                       f"{self.repository}/{self.places[key.split('.')[0]]})" for key in keys]),
            ("Pages", [f"[](../notebooks/{page})" for page in self.pages.get(name.path, ())]))
        return [f"{title}\n: {', '.join(links[:SHOWN])}"
                + (f" and {len(links) - SHOWN} more" if len(links) > SHOWN else "")
                for title, links in lines if links]


def anchor(module) -> str:
    """The label of a module's heading."""
    return module.name.replace(".", "-").replace("_", "-")


def first_sentence(doc) -> str:
    """A docstring's first sentence, on one line."""
    first = " ".join(doc.split("\n\n")[0].split())
    return escape(re.split(r"(?<=\.)(?<!\bFig\.)(?<!\bFigs\.)\s(?=[A-Z])", first)[0])


def groups(found: dict[str, Module]) -> list[tuple[str, str, list[Module]]]:
    """Title, words and modules of each package; every module is in one of them."""
    packages = [package for _, _, package in GROUPS]
    nearest = {name: max((p for p in packages if module.name.startswith(f"{p}.")), key=len)
               for name, module in found.items()}
    return [(title, words, [module for name, module in found.items()
                            if nearest[name] == package])
            for title, words, package in GROUPS]


# ----------------------------------------------------------------------------------------- Sphinx


def insert(app, docname, source):
    """Puts the reference where a page asks for it."""
    asked = MARK.search(source[0])
    if not asked:
        return
    from companion.places import project_root

    root, theme = project_root(), app.config.html_theme_options
    for pattern in ("devlib/**/*.py", "book/companion/**/*.py", "tests/**/*.py",
                    "notebooks/*.py"):
        for path in root.glob(pattern):
            app.env.note_dependency(str(path))
    if not hasattr(app, "api_writer"):
        app.api_writer = Writer(root, f"{theme.get('repository_url', '').rstrip('/')}/blob/"
                                      f"{theme.get('repository_branch', 'main')}")
    first, last = asked["first"], asked["last"]
    text = (app.api_writer.reference(int(first), int(last), brief=bool(asked["brief"])) if first
            else app.api_writer.overview())
    source[0] = source[0].replace(asked[0], text)


def setup(app):
    app.connect("source-read", insert)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
