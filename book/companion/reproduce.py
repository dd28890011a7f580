"""Everything that the book's pages read, computed in one go (the command `reproduce`)."""

import textwrap

from companion import results, results_language
from companion.compute.parallel import cores, each
from companion.places import runs_directory
from companion.program import PROGRAM
from companion.progress import part
from companion.runs import COMMITTED, LAYERS, MANIFEST, RunKey, finished
from companion.site.book_copy import PAGES
from companion.tables import load
from devlib.errors import UserError
from devlib.files import make_directory

MODELS = ("regression", *LAYERS)  # by the kind of their tables


# A part of the work: the kinds whose committed tables say how long it took, and which of their
# seconds are its own.
PARTS = {
    "training": ({"regression", *LAYERS}, {"training", "corpus"}),
    "LLC curve of the regression model": ({"regression"}, None),
    "metrics of the regression model": ({"development"}, None),
    "block means": ({"blocks"}, None), "Hessian": ({"hessian"}, None), "check": ({"check"}, None),
    "protocols": ({"protocols"}, None),
    "task sets": ({"task-sets"}, None), "primer": ({"primer"}, None),
    "calibration": ({"calibration"}, None), "fidelity": ({"fidelity"}, None),
    "language model of two layers": ({"language-2layer"}, None),
    "language model of one layer": ({"language-1layer"}, None),
    "language protocols": ({"language-protocols"}, None)}
UNKNOWN, PAGE, BOOK = 60.0, 20.0, 120.0  # seconds: of a part that was never timed; measured


def expected(preset, pages) -> dict[str, float]:
    """The seconds of each part of `reproduce` at this preset, as the committed tables took them on
    the machine that made them, then of the pages, one a core, and of the book."""
    found = {name: committed_seconds(preset, *which) for name, which in PARTS.items()}
    return found | {PAGES: PAGE * len(pages) / min(cores(), len(pages) or 1), "the book": BOOK}


def committed_seconds(preset, kinds, own) -> float:
    """How long these parts (`own`: None for all but training) of the committed tables of these
    kinds took, of the lowest seed; UNKNOWN where nothing says."""
    lowest = {}
    for key in finished(preset, COMMITTED):
        lowest.setdefault(key.kind, key)
    seconds = [value for kind in kinds if kind in lowest
               for name, value in load(lowest[kind].committed).manifest["seconds"].items()
               if (name in own if own else name not in ("training", "corpus"))]
    return sum(seconds) or UNKNOWN


def reused(preset, seed, corpus=None) -> list[str]:
    """A line for each thing that an earlier run left and that hangs on no seed, or on this one."""
    from companion.corpus import offline
    from companion.corpus.files import is_complete

    lines = []
    for kind in LAYERS:
        settings = RunKey.of(kind, preset, seed, corpus=corpus).settings
        folder = offline.place(settings.model.vocabulary)
        if settings.training.corpus == "offline" and is_complete(folder):
            lines.append(f"reused, whatever the seed: the text in {settings.model.vocabulary:,} "
                         f"tokens, {folder}")
    own = [key.stem for key in finished(preset, runs_directory()) if key.seed == seed]
    if own:
        lines.append(f"reused, of seed {seed}: the tables of {', '.join(sorted(own))}")
    return list(dict.fromkeys(lines))


def compute_tables(preset, seed, corpus=None):
    """Every table of every page. Here, and not first in a page's kernel, so that a terminal shows
    the progress, and so that two cores train two models."""
    from companion.pages import calibration, fidelity, primer, task_sets

    make_directory(runs_directory() / preset)  # refused now, and not after a text was made
    scale = (preset, seed)
    work = {
        "training": lambda: train_all(*scale, corpus),
        "LLC curve of the regression model": lambda: results.regression(*scale, recompute=True),
        "metrics of the regression model": lambda: results.development(*scale, recompute=True),
        "block means": lambda: results.blocks(*scale, recompute=True),
        "Hessian": lambda: results.hessian(*scale, recompute=True),
        "check": lambda: results.check(*scale, recompute=True),
        "protocols": lambda: results.protocols(*scale, recompute=True),
        "task sets": lambda: task_sets.task_sets(*scale, recompute=True),
        "primer": lambda: primer.primer(*scale, recompute=True),
        "calibration": lambda: calibration.calibration(*scale, recompute=True),
        "fidelity": lambda: fidelity.fidelity(*scale, recompute=True),
        "language model of two layers": lambda: results_language.language(*scale, True, 2, corpus),
        "language model of one layer": lambda: results_language.language(*scale, True, 1, corpus),
        "language protocols": lambda: results_language.protocols(*scale, True, corpus)}
    for name, compute in work.items():
        with part(name):
            compute()


def findings(preset, seed, runs, corpus=None) -> list[str]:
    """The five findings of the front page, of the run in `runs`, as a terminal shows them. Raises
    UserError, naming the folder, if tables are missing or damaged."""
    from companion import front

    def tables(stem):
        return load(RunKey.of_page(stem.removesuffix("-doubled"), preset, seed,
                                   {"corpus": corpus} if corpus else {}).own(runs))

    return [front.plain(line) for line in front.findings(tables)]


def print_tally(preset, seed, corpus=None):
    """What the run that was just computed says of the paper's claims."""
    from companion.claims.ledger import ledger
    from companion.claims.text import tally

    found = ledger(preset, runs_directory(), seed, {"corpus": corpus})
    print(f"The paper's claims, {preset} preset, seed {seed} (all of them: {PROGRAM} claims "
          f"--preset {preset} --runs {runs_directory()})\n{tally(found)}")


def print_findings(preset, seed, corpus=None):
    """The front page's five findings, of that run."""
    try:
        lines = findings(preset, seed, runs_directory(), corpus)
    except UserError as error:  # the book is built all the same
        return print(f"No findings of this run: {error}")
    print("Five findings of this run:")
    for number, line in enumerate(lines, 1):
        print(textwrap.fill(f"{number}. {line}", 100, subsequent_indent="   "))


def train_all(preset, seed, corpus=None):
    """Trains the three models as far as they are missing, one on each core. The text is made
    first, so that the two that read it do not make it twice."""
    from companion.corpus.corpora import load_corpus

    waiting = [key for kind in MODELS if not (
        (key := RunKey.of(kind, preset, seed, corpus=corpus)).own() / MANIFEST).exists()]
    texts = [key.settings for key in waiting if key.kind in LAYERS]
    if texts:
        load_corpus(texts[0].training.corpus, texts[0].model.vocabulary)
    each(_train, waiting, label="training")


def _train(key):
    """Trains a model, its seconds counted in the folder of its tables."""
    timed = results.timer(make_directory(key.own()))
    if key.kind in LAYERS:
        timed("training", lambda: results_language.train(key))
    else:
        results.checkpoints(key, timed)
