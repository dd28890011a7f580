"""Streams of tokens, and the contexts cut from them (F.1.2, F.1.3).

A stream is documents one after another, each begun by end of text. A context of T tokens is end of
text, as bos, and then T - 1 tokens in a row from a stream, whatever documents they belong to: so
begin the contexts of the authors' tokenised data.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from devlib.errors import UserError
from devlib.rng import generator

SPLITS = ("train", "validation")


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
                   among=None) -> torch.Tensor:
    """A named set of different contexts, (count, T), of all or `among` those whose place in
    `rows(split, context)` is marked (R,). Raises UserError if the split has fewer."""
    rows = corpus.rows(split, context)
    places = torch.arange(len(rows))
    if among is not None:
        places = places[torch.from_numpy(among)]
    if not 1 <= count <= len(places):
        raise UserError(f"the {split} split has {len(places)} contexts of {context} tokens, not "
                        f"{count}; ask for 1 to {len(places)}, or shorten them")
    chosen = places[torch.randperm(len(places), generator=generator(seed, name))[:count]]
    return _contexts(corpus, rows, chosen)


def _contexts(corpus, rows, chosen):
    contexts = torch.full((len(chosen), rows.shape[1] + 1), corpus.end_of_text)
    contexts[:, 1:] = torch.from_numpy(rows[chosen.numpy()].astype(np.int64))
    return contexts


def check_ids(ids, vocabulary):
    """Raises UserError unless every id is one of the vocabulary's."""
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise UserError(f"token ids must be from 0 to {vocabulary - 1}, not {int(ids.min())} to "
                        f"{int(ids.max())}; was this text tokenised with another vocabulary?")
