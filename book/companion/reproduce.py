"""Everything that the book's pages read, computed in one go (the command `reproduce`)."""

from companion import results, results_language
from companion.compute.parallel import each
from companion.runs import LAYERS, MANIFEST, RunKey
from devlib.files import make_directory

MODELS = ("regression", *LAYERS)  # by the kind of their tables


def compute_tables(preset, seed, corpus=None):
    """Every table of every page. Here, and not first in a page's kernel, so that a terminal shows
    the progress, and so that two cores train two models."""
    from companion.pages import calibration, fidelity, primer, task_sets

    train_all(preset, seed, corpus)
    results.regression(preset, seed, recompute=True)
    results.development(preset, seed, recompute=True)
    results.blocks(preset, seed, recompute=True)
    results.hessian(preset, seed, recompute=True)
    results.check(preset, seed, recompute=True)
    results.protocols(preset, seed, recompute=True)
    task_sets.task_sets(preset, seed, recompute=True)
    primer.primer(preset, seed, recompute=True)
    calibration.calibration(preset, seed, recompute=True)
    fidelity.fidelity(preset, seed, recompute=True)
    for layers in (2, 1):
        results_language.language(preset, seed, True, layers, corpus)


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
