"""Counts of tokens in a row, in the training data (C.1)."""

import numpy as np
import torch

from devlib.errors import UserError

AT_ONCE = 2**23  # pairs counted in one go


def bigram_counts(corpus, context=None, split="train") -> torch.Tensor:
    """How often token t follows token s in a split of the data, (V, V), int64.

    Counts the pairs of the stream: those within documents, and end of text before and after them.
    With `context`, the pairs in the contexts of that length, which bos begins: what a model trained
    on them sees. The hub's tokenised rows need it: they follow one another in no order.
    """
    size = corpus.vocabulary
    counts = np.zeros(size * size, np.int64)
    rows = getattr(corpus, split)[None] if context is None else corpus.rows(split, context)
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
