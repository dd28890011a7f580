"""Everything that the book's pages read, computed in one go (the command `reproduce`)."""

from devlib import results, results_language
from devlib.files import make_directory, runs_directory
from devlib.parallel import each

MODELS = ("regression", "language", "one-layer")


def compute_tables(preset, seed, corpus=None):
    """Every table of every page. Here, and not first in a page's kernel, so that a terminal shows
    the progress, and so that two cores train two models."""
    from devlib import calibration_tables, fidelity, primer, task_sets

    train_all(preset, seed, corpus)
    results.regression(preset, seed, recompute=True)
    results.development(preset, seed, recompute=True)
    results.hessian(preset, seed, recompute=True)
    results.check(preset, seed, recompute=True)
    task_sets.task_sets(preset, seed, recompute=True)
    primer.primer(preset, seed, recompute=True)
    calibration_tables.calibration(preset, seed, recompute=True)
    fidelity.fidelity(preset, seed, recompute=True)
    for layers in (2, 1):
        results_language.language(preset, seed, True, layers, corpus)


def train_all(preset, seed, corpus=None):
    """Trains the three models as far as they are missing, one on each core. The text is made
    first, so that the two that read it do not make it twice."""
    from devlib.corpus import load_corpus

    waiting = [model for model in MODELS
               if not (_place(preset, seed, corpus, model) / results.MANIFEST).exists()]
    if set(waiting) - {"regression"}:
        settings = results_language.language_settings(preset, corpus=corpus)
        load_corpus(settings.training.corpus, settings.model.vocabulary)
    each(_Train(preset, seed, corpus), waiting, label="training")


class _Train:
    """Trains a model, its seconds counted in the folder of its tables; small, because it travels
    to other processes."""

    def __init__(self, preset, seed, corpus):
        self.scale = preset, seed, corpus

    def __call__(self, model):
        preset, seed, corpus = self.scale
        timed = results.timer(make_directory(_place(preset, seed, corpus, model)))
        if model == "regression":
            results.checkpoints(preset, seed, timed)
        else:
            timed("training", lambda: results_language.train(preset, seed,
                                                             _settings(preset, corpus, model)))


def _settings(preset, corpus, model):
    layers = 2 if model == "language" else 1
    return results_language.language_settings(preset, layers, corpus)


def _place(preset, seed, corpus, model):
    """The folder of a run's tables."""
    if model == "regression":
        name = results.run_name(results.regression_settings(preset), seed)
    else:
        name = results_language.run_name(preset, seed, _settings(preset, corpus, model))
    return runs_directory() / preset / name
