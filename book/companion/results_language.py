"""Tables of the language models' runs, cached like all others (companion.results)."""

from companion import presets
from companion.places import runs_directory
from companion.results import Results, load_or_compute
from companion.runs import LAYERS, RunKey, seeds_of
from devlib.errors import UserError
from devlib.settings import LanguageSettings, as_dict
from devlib.steps import thin


def language(preset: str, seed: int, recompute=False, layers=2, corpus=None) -> Results:
    """Tables of one language run: "behaviour", "blocks", "structure", "heads", "positions" and,
    with two layers, "composition" (companion.language.metric_tables); "patterns", what two heads
    attend to (tables made before it have none); "llc", and "check" by the paper's chains; "path"
    and "explained"; "changes" and "texts"; and "corpus", what the text is made of. With `recompute`
    (see `results.load_or_compute`) training and each checkpoint's measurements go on where they
    were."""
    key = language_key(preset, seed, layers, corpus)
    settings = key.settings

    def compute(place, timed):
        # torch, only where something is computed
        from companion import language as tables
        from companion.corpus.corpora import facts, load_corpus
        from companion.corpus.probes import metric_contexts

        text = timed("corpus", lambda: load_corpus(settings.training.corpus,
                                                   settings.model.vocabulary))
        metric_contexts(text, settings.model.context, settings.metrics, seed)  # enough of them?
        store = timed("training", lambda: train(key, corpus=text))
        steps = thin(store.steps, settings.evaluation.curve_checkpoints)
        found = timed("metrics", lambda: tables.metric_tables(store, steps, settings, seed,
                                                              place / "metrics"))
        found["patterns"] = timed("patterns", lambda: tables.pattern_table(
            store, found["heads"], settings, seed, place / "metrics"))
        found["llc"] = timed("llc", lambda: tables.llc_table(store, steps, settings, seed,
                                                             place / "llc"))
        if settings.evaluation.check_checkpoints:
            found["check"] = timed("check", lambda: tables.check_table(store, steps, settings,
                                                                       seed, place / "llc"))
        found |= timed("path", lambda: tables.path_tables(store, steps, settings, seed))
        found |= tables.change_tables(store, found["llc"], found["behaviour"], settings, seed)
        return found | {"corpus": facts(text)}

    return load_or_compute(key, as_dict(settings), recompute, compute,
                           page="10_language_stages" if layers == 2 else "11_one_layer")


def protocols(preset: str, seed: int, recompute=False, corpus=None) -> Results:
    """The two-layer run once more: "estimates", the LLC of a few checkpoints by other batches,
    starts and springs (companion.protocols_language); "prefix" and "bigrams", two metrics read
    another way (companion.readings_language)."""
    key = RunKey.of("language-protocols", preset, seed, corpus=corpus)
    settings, chosen = key.settings, presets.get(preset).language_protocols

    def compute(place, timed):
        from companion.protocols_language import protocol_table

        store = timed("training", lambda: train(key.trained))
        return timed("protocols", lambda: protocol_table(store, settings, chosen, seed,
                                                         place / "protocols"))

    return load_or_compute(key, {"language": as_dict(settings), "protocols": as_dict(chosen)},
                           recompute, compute, page="17_language_samplers")


def stored_seed(preset: str, seed: int, corpus=None) -> int:
    """`seed` if the two-layer run of that seed is stored, committed or in the runs directory, or
    if none is; else the lowest that is. For a page about both models, which need not have been run
    from the same seeds."""
    stem = language_key(preset, seed, corpus=corpus).stem
    found = stored_seeds(preset, stem)
    return seed if seed in found or not found else min(found)


def stored_seeds(preset: str, stem="language-2layer") -> set[int]:
    """The seeds of which runs are stored, committed or in the runs directory."""
    return {*seeds_of(preset, stem), *seeds_of(preset, stem, runs_directory())}


def train(key: RunKey, corpus=None, runs=None):
    """The checkpoints of a language run, trained as far as they are missing."""
    from companion.corpus.contexts import training_batch
    from companion.corpus.corpora import corpus_hash, load_corpus
    from devlib.language import train as training_language

    settings, seed = key.settings, key.seed
    training, model = settings.training, settings.model
    text = corpus or load_corpus(training.corpus, model.vocabulary)
    return training_language.train(
        settings, seed,
        lambda step: training_batch(text, seed, step, training.batch, model.context),
        corpus_hash(text), key.checkpoints(runs))


def language_settings(preset: str, layers=2, corpus=None) -> LanguageSettings:
    """The language settings of a preset, for one layer or two, on another corpus if one is named.
    Raises UserError for another number of layers, or an unknown corpus."""
    return language_key(preset, 0, layers, corpus).settings


def language_key(preset, seed, layers=2, corpus=None) -> RunKey:
    """The key of a language run's tables; for the rest see `language_settings`."""
    kinds = {layers: kind for kind, layers in LAYERS.items()}
    if layers not in kinds:
        raise UserError(f"layers must be 1 or 2, as in the paper, not {layers!r}")
    return RunKey.of(kinds[layers], preset, seed, corpus=corpus)
