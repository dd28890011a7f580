"""The contexts and places that a corpus gives the metrics of a language model (C.1, C.2)."""

import torch

from companion.corpus.contexts import fixed_contexts
from companion.corpus.token_counts import bigram_counts
from devlib.errors import UserError
from devlib.language.behaviour import Probes, bigram_distribution, random_places
from devlib.rng import generator
from devlib.settings import LanguageMetrics


def make_probes(corpus, ngrams, context, metrics: LanguageMetrics, seed) -> Probes:
    """The probes of a corpus for contexts of that many tokens. `ngrams(n, count)` gives common
    n-grams (count, n), as the tokenizer's method does. Raises UserError if the validation split
    has too few contexts, or they are shorter than an n-gram with bos and the token after it."""
    longest = max(metrics.ngrams)
    if context < longest + 2:
        raise UserError(f"{longest}-grams need contexts of {longest + 2} tokens or more, not "
                        f"{context}")
    contexts = metric_contexts(corpus, context, metrics, seed)
    places = random_places(generator(seed, "bigram places"), metrics.bigram_contexts,
                           metrics.bigram_positions, context)
    q, entropies = bigram_distribution(bigram_counts(corpus, context))
    return Probes(contexts, places, q, entropies,
                  {n: torch.as_tensor(ngrams(n, metrics.ngram_count)) for n in metrics.ngrams})


def metric_contexts(corpus, context, metrics: LanguageMetrics, seed) -> torch.Tensor:
    """The validation contexts of all metrics, (N, T). Raises UserError if there are too few, which
    is good to know before training."""
    return fixed_contexts(corpus, seed, "metrics", max(
        metrics.contexts, metrics.ablation_contexts, metrics.bigram_contexts,
        metrics.ngram_contexts), context)
