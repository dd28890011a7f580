"""Counts of tokens and of tokens in a row, and the entropies that bound a model's loss (C.1.1)."""

import numpy as np
import torch

from devlib.errors import UserError

AT_ONCE = 2**23  # pairs counted in one go


def bigram_counts(corpus, context=None) -> torch.Tensor:
    """How often token t follows token s in the training data, (V, V), int64.

    Counts the pairs of the stream: those within documents, and end of text before and after them.
    With `context`, the pairs in the contexts of that length, which bos begins: what a model trained
    on them sees. The hub's tokenised rows need it: they follow one another in no order.
    """
    size = corpus.vocabulary
    counts = np.zeros(size * size, np.int64)
    rows = corpus.train[None] if context is None else corpus.rows("train", context)
    if context is not None:
        counts[-size:] += np.bincount(rows[:, 0], minlength=size)
    for first, second in _pairs(rows):
        counts += np.bincount(first.astype(np.int64) * size + second, minlength=len(counts))
    return torch.from_numpy(counts.reshape(size, size))


def _pairs(rows):
    """Neighbours in a table of tokens, some millions at a time."""
    if len(rows) == 1:
        for start in range(0, rows.shape[1] - 1, AT_ONCE):
            part = rows[0, start:start + AT_ONCE + 1]
            yield part[:-1], part[1:]
    else:
        height = max(1, AT_ONCE // rows.shape[1])
        for start in range(0, len(rows), height):
            part = rows[start:start + height]
            yield part[:, :-1].ravel(), part[:, 1:].ravel()


def bigram_distribution(counts) -> tuple[torch.Tensor, torch.Tensor]:
    """q(t | s) of (15) from counts (V, V), float32 (V, V), and the entropy of each row in nats,
    float64 (V,): the least cross entropy that any prediction after s can have.

    The floor of a bigram score is the mean entropy of the rows of its tokens s_k. A token that
    nothing follows in the data gets the frequencies of all second tokens.
    """
    q = counts.double()
    totals = q.sum(1, keepdim=True)
    q = torch.where(totals > 0, q, q.sum(0))
    q /= q.sum(1, keepdim=True)
    return q.float(), torch.special.entr(q).sum(1)


def ngram_entropy(corpus, n) -> float:
    """Entropy of a training token given the n - 1 before it, in nats, from their counts: the floor
    of a model that knows no more, on the data it was counted on.

    Sequences lie within a document; end of text may begin or end one. Of rare sequences the counts
    know too much: with n = 3 on 20 million tokens it is well below what new text would give.
    Raises UserError unless V^n fits 64 bits.
    """
    size, stream = corpus.vocabulary, corpus.train
    if not 1 <= n <= len(stream) or size**n >= 2**63:
        raise UserError(f"n must be from 1 to what {len(stream)} tokens of a vocabulary of {size} "
                        f"allow, not {n}")
    keys = np.zeros(len(stream) - n + 1, np.int64)
    whole = np.ones(len(keys), bool)
    for place in range(n):
        tokens = stream[place:place + len(keys)]
        keys *= size
        keys += tokens
        if 0 < place < n - 1:
            whole &= tokens != corpus.end_of_text
    keys = np.sort(keys[whole])
    return _log_sum(keys // size) - _log_sum(keys)


def _log_sum(keys):
    """Mean over sorted keys of the log of how often each occurs."""
    edges = np.flatnonzero(np.diff(keys, prepend=-1, append=-1))
    counts = np.diff(edges).astype(float)
    return float((counts * np.log(counts)).sum() / len(keys))


def common_ngrams(corpus, n, count) -> np.ndarray:
    """The `count` most frequent sequences of n tokens of the train split, (count, n), without end
    of text: what stands in for `Tokenizer.ngrams` where ids are no text. Raises UserError if there
    are fewer."""
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(corpus.train, np.int64), n)
    windows = windows[(windows != corpus.end_of_text).all(1)]
    found, often = np.unique(windows, axis=0, return_counts=True)
    if len(found) < count:
        raise UserError(f"the corpus holds {len(found)} sequences of {n} tokens, not {count}; ask "
                        "for fewer")
    return found[np.argsort(-often, kind="stable")[:count]]
