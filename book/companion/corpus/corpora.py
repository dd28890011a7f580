"""The corpora by name, and what each is made of (F.1.2)."""

import hashlib

import numpy as np
import pandas as pd

from companion.corpus.contexts import SPLITS, Corpus
from companion.corpus.files import TOKEN
from companion.corpus.hub import hub_corpus
from companion.corpus.offline import offline_corpus
from companion.corpus.text import SOURCES
from companion.corpus.token_counts import bigram_counts
from companion.corpus.toy import toy_corpus
from companion.presets import CORPORA
from devlib.errors import UserError
from devlib.settings import LanguageModel

MAKERS = {"offline": offline_corpus, "hub": hub_corpus, "toy": toy_corpus}


def load_corpus(kind="offline", vocabulary=LanguageModel.vocabulary) -> Corpus:
    """The corpus of a kind: "offline" (real English from hash-pinned packages), "hub" (the paper's
    part of the Pile) or "toy" (a Markov source, without a network). The first two are made once
    and kept in $DEVLIB_CACHE, or ~/.cache/devlib.

    Raises UserError if the kind or the vocabulary is unknown, the network is needed and out of
    reach, or what is cached is damaged.
    """
    if kind not in MAKERS:
        raise UserError(f"corpus must be one of {', '.join(CORPORA)}, not {kind!r}")
    return MAKERS[kind](vocabulary)


def corpus_hash(corpus) -> str:
    """Twelve hex digits that change when any token does."""
    digest = hashlib.sha256(str(corpus.vocabulary).encode())
    for split in SPLITS:
        digest.update(np.ascontiguousarray(getattr(corpus, split), TOKEN))
    return digest.hexdigest()[:12]


def may_be_quoted(corpus, split, context) -> np.ndarray:
    """For each of `rows(split, context)`, whether all its tokens are from sources whose licence
    lets a book print them: any but the GPL, under which the book is not. (R,) bool."""
    free = np.array(["GPL" not in source.licence for source in SOURCES])
    return free[sources_of(corpus, split, context)].all(1) if corpus.origins else np.ones(
        len(corpus.rows(split, context)), bool)


def sources_of(corpus, split, context) -> np.ndarray:
    """The source of each token of `rows(split, context)`, its number in SOURCES, (R, T - 1); 0
    throughout where the corpus has but one."""
    rows = corpus.rows(split, context)
    if corpus.origins is None:
        return np.zeros(rows.shape, int)
    tokens = np.repeat(corpus.origins[split], _lengths(corpus, split))
    return tokens[:rows.size].reshape(rows.shape)


def facts(corpus) -> pd.DataFrame:
    """What the corpus is made of: for each source, and for all, its licence, documents and tokens,
    and the loss in nats that unigram and bigram counts of the whole train split have on its part
    of that split."""
    counts = bigram_counts(corpus).numpy()
    before, after = counts.sum(1), counts.sum(0)  # as first and as second of a pair
    lengths = {split: _lengths(corpus, split) for split in SPLITS}
    origins = corpus.origins or {split: np.zeros(len(lengths[split]), int) for split in SPLITS}
    sources = [(s.package, s.licence, s.what) for s in SOURCES] if corpus.origins else []
    rows = []
    for index, (name, licence, what) in enumerate([*sources, ("all", "", "")]):
        part = {split: (origins[split] == index) | (name == "all") for split in SPLITS}
        own = np.flatnonzero(np.repeat(part["train"], lengths["train"]))
        own = own[own > 0]  # nothing comes before the first token
        first, second = corpus.train[own - 1], corpus.train[own]
        rows.append({
            "source": name, "licence": licence, "what": what,
            "documents": sum(int(part[split].sum()) for split in SPLITS),
            **{f"{split}_tokens": int(lengths[split][part[split]].sum()) for split in SPLITS},
            "unigram_loss": -np.log(after[second] / after.sum()).mean(),
            "bigram_loss": -np.log(counts[first, second] / before[first]).mean()})
    return pd.DataFrame(rows)


def _lengths(corpus, split):
    """Tokens of each document of a split, its end of text included; the first may lack one."""
    stream = getattr(corpus, split)
    begins = np.union1d(0, np.flatnonzero(stream == corpus.end_of_text))
    return np.diff(begins, append=len(stream))
