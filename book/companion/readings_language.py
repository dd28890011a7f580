"""Two metrics of the language model read another way (ours), at a few checkpoints:

- prefix matching (C.2.4), where the paper's text and the authors' code look at different tokens;
- the bigram score (16) against held-out text, and by source of text: its floor, the entropy of
  counts, is too low where a token is rare.
"""

import functools

import torch

from companion.corpus.contexts import fixed_contexts
from companion.corpus.corpora import SOURCES, sources_of
from companion.corpus.token_counts import bigram_counts
from companion.language import language_corpus, probes
from devlib.devices import move, of
from devlib.language.behaviour import bigram_distribution, bigram_scores, random_places
from devlib.language.structure import attention_between, prefix_sequences
from devlib.means import mean_and_se, with_se
from devlib.rng import generator

SHARES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)  # pseudo-counts tried for a predictor


def measure_readings(settings, chosen, seed, params) -> dict:
    """"prefix", one row a head, and "bigrams", one row for all text and one a source."""
    return {"prefix": prefix_rows(settings, seed, params),
            "bigrams": bigram_rows(settings, chosen, seed, params)}


def prefix_rows(settings, seed, params) -> list[dict]:
    """Attention from the second A to the token after the first A (`after`, the authors' code, and
    the table of heads), and to the first A itself (`itself`, the paper's text)."""
    model, metrics = settings.model, settings.metrics
    tokens, first, second = move(prefix_sequences(
        generator(seed, "prefix matching"), metrics.prefix_sequences,
        min(metrics.prefix_length, model.context), model.vocabulary), of(params))
    after, itself = (attention_between(params, tokens, second, key, model)
                     for key in (first + 1, first))
    return [{"layer": layer + 1, "head": head + 1,
             **with_se("after", mean_and_se(after[layer, head])),
             **with_se("itself", mean_and_se(itself[layer, head]))}
            for layer in range(model.layers) for head in range(model.heads)]


def bigram_rows(settings, chosen, seed, params) -> list[dict]:
    """`excess`, the score (16) less its floor, both by the counts of the training text, as in the
    behaviour table; and `held_out_excess`: the model's cross entropy with the bigrams of the
    validation text less that of a bigram predictor made from the training text (`predictor`)."""
    known, model = probes(settings, seed), settings.model
    held_out, smoothed = move(_held_out(settings), of(params))
    places = {"all": (known.contexts[:len(known.places)], known.places)}
    places |= move(_by_source(settings, chosen, seed), of(params))
    rows = []
    for source, (contexts, at) in places.items():
        tokens = contexts.gather(1, at)
        floor = known.entropies[tokens]
        score = bigram_scores(params, contexts, at, known.q, model).double()
        theirs = bigram_scores(params, contexts, at, held_out, model).double()
        rows.append({"source": source, "contexts": len(contexts),
                     **with_se("excess", mean_and_se((score - floor).mean(1))),
                     **with_se("held_out_excess",
                               mean_and_se((theirs - smoothed[tokens]).mean(1)))})
    return rows


@functools.lru_cache(maxsize=2)
def _held_out(settings):
    """q(t | s) of the validation text (V, V), and for each s the cross entropy of the predictor
    with it, (V,)."""
    corpus = language_corpus(settings)
    pairs = bigram_counts(corpus, settings.model.context, "validation")
    q, _ = bigram_distribution(pairs)
    predicted = predictor(bigram_counts(corpus, settings.model.context), pairs)
    return q, -(q.double() * predicted.log()).sum(1)


def predictor(counts, validation) -> torch.Tensor:
    """p(t | s) (V, V), float64, from counts (V, V): each row with some of the shares of all second
    tokens added, as many as predict the pairs of the validation text best. A real predictor, whose
    cross entropy no counting of rare tokens makes too low."""
    counts = counts.double()
    share = (counts.sum(0) + 1) / (counts.sum() + len(counts))
    best = None
    for extra in SHARES:
        p = (counts + extra * share) / (counts.sum(1, keepdim=True) + extra)
        loss = -float((validation * p.log()).sum())
        best = min(filter(None, (best, (loss, extra, p))), key=lambda found: found[0])
    return best[2]


def _by_source(settings, chosen, seed) -> dict:
    """Contexts and places of validation contexts that are of one source throughout."""
    corpus, context, found = language_corpus(settings), settings.model.context, {}
    if corpus.origins is None:
        return found
    of_tokens = sources_of(corpus, "validation", context)
    for number, source in enumerate(SOURCES):
        among = (of_tokens == number).all(1)
        count = min(chosen.reading_source_contexts, int(among.sum()))
        if count < 2:
            continue
        name = f"bigrams of {source.package}"
        found[source.package] = (
            fixed_contexts(corpus, seed, name, count, context, among=among),
            random_places(generator(seed, name), count, settings.metrics.bigram_positions,
                          context))
    return found
