"""Tables of the language models' runs, cached like all others (devlib.results)."""

from pathlib import Path

from devlib import presets
from devlib.checkpoints import thin
from devlib.claims import seeds_of
from devlib.errors import UserError
from devlib.files import runs_directory
from devlib.presets import LanguageSettings, as_dict
from devlib.results import Results, load_or_compute


def language(preset: str, seed: int, recompute=False, layers=2, corpus=None) -> Results:
    """Tables of one language run: "behaviour", "structure", "heads", "positions" and, with two
    layers, "composition" (devlib.tables_language.metric_tables); "llc", and "check" by the
    paper's chains; "path" and "explained"; "changes" and "texts"; and "corpus", what the text is
    made of. With `recompute` (see `results.load_or_compute`) training and each checkpoint's
    measurements go on where they were."""
    settings = language_settings(preset, layers, corpus)

    def compute(place, timed):
        # torch, only where something is computed
        from devlib import tables_language as tables
        from devlib.corpus import facts, load_corpus
        from devlib.metrics_language import metric_contexts

        text = timed("corpus", lambda: load_corpus(settings.training.corpus,
                                                   settings.model.vocabulary))
        metric_contexts(text, settings.model.context, settings.metrics, seed)  # enough of them?
        store = timed("training", lambda: train(preset, seed, settings, corpus=text))
        steps = thin(store.steps, settings.evaluation.curve_checkpoints)
        found = timed("metrics", lambda: tables.metric_tables(store, steps, settings, seed,
                                                              place / "metrics"))
        found["llc"] = timed("llc", lambda: tables.llc_table(store, steps, settings, seed,
                                                             place / "llc"))
        if settings.evaluation.check_checkpoints:
            found["check"] = timed("check", lambda: tables.check_table(store, steps, settings,
                                                                       seed, place / "llc"))
        found |= timed("path", lambda: tables.path_tables(store, steps, settings, seed))
        found |= tables.change_tables(store, found["llc"], found["behaviour"], settings, seed)
        return found | {"corpus": facts(text)}

    return load_or_compute(kind(preset, settings), preset, seed, as_dict(settings), recompute,
                           compute, page="10_language_stages" if layers == 2 else "11_one_layer",
                           about="language")


def stored_seed(preset: str, seed: int, corpus=None) -> int:
    """`seed` if the two-layer run of that seed is stored, committed or in the runs directory, or
    if none is; else the lowest that is. For a page about both models, which need not have been run
    from the same seeds."""
    name = kind(preset, language_settings(preset, corpus=corpus))
    found = {*seeds_of(preset, name), *seeds_of(preset, name, runs_directory())}
    return seed if seed in found or not found else min(found)


def train(preset, seed, settings: LanguageSettings, corpus=None, runs=None):
    """The checkpoints of a language run, trained as far as they are missing."""
    from devlib import training_language
    from devlib.contexts import training_batch
    from devlib.corpus import corpus_hash, load_corpus

    training, model = settings.training, settings.model
    text = corpus or load_corpus(training.corpus, model.vocabulary)
    place = Path(runs or runs_directory()) / preset / run_name(preset, seed, settings)
    return training_language.train(
        settings, seed,
        lambda step: training_batch(text, seed, step, training.batch, model.context),
        corpus_hash(text), place / "checkpoints")


def language_settings(preset: str, layers=2, corpus=None) -> LanguageSettings:
    """The language settings of a preset, for one layer or two, on another corpus if one is named.
    Raises UserError for another number of layers, or an unknown corpus."""
    if layers not in (1, 2):
        raise UserError(f"layers must be 1 or 2, as in the paper, not {layers!r}")
    settings = presets.get(preset).language if layers == 2 else presets.get(preset).one_layer
    if not corpus:
        return settings
    if corpus not in presets.CORPORA:
        raise UserError(f"corpus must be one of {', '.join(presets.CORPORA)}, not {corpus!r}")
    return presets.replace(settings, training=presets.replace(settings.training, corpus=corpus))


def run_name(preset, seed, settings) -> str:
    """The folder of a run below its preset's."""
    return f"{kind(preset, settings)}-seed{presets.check_seed(seed)}"


def kind(preset, settings) -> str:
    """That folder's name before the seed: the layers, and the corpus if not the preset's."""
    corpus = settings.training.corpus
    own = "" if corpus == presets.get(preset).language.training.corpus else f"-{corpus}"
    return f"language-{settings.model.layers}layer{own}"
