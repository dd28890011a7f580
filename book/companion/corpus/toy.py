"""A corpus from a Markov source whose entropies are known exactly, for tests and the smoke preset.

Bigrams, trigrams and copying can all be learnt from it, in this order of difficulty:
- Words go to one of k successors, all equally likely: word s to succession[(s + j) mod W], where j
  is one of k. That is a bijection of the W words for each j, so words are uniform at every place,
  and j is independent of the word it led to.
- j is one more than the j before it with probability `habit`, else any. Two words give j away, so
  trigrams know more than bigrams.
- Every document comes twice in a row, so the second can be copied.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from companion.corpus.contexts import Corpus
from devlib.errors import UserError
from devlib.rng import generator

DOCUMENTS = 4_096  # different ones in the train split
HELD_OUT = 256  # and in the validation split


@dataclass(frozen=True)
class ToySource:
    """The source: a vocabulary of W words and end of text."""

    vocabulary: int
    successors: int = 4  # k
    habit: float = 0.5
    length: int = 31  # words in a document

    def __post_init__(self):
        if not self.successors < self.vocabulary <= 2**16:
            raise UserError(f"the toy corpus needs a vocabulary of {self.successors + 1} to "
                            f"{2**16} tokens, not {self.vocabulary}")

    @property
    def words(self) -> int:
        """How many tokens there are but the end of text."""
        return self.vocabulary - 1

    def stream(self, gen, documents, seed=0) -> np.ndarray:
        """The tokens of so many documents, each twice. `seed` fixes the succession."""
        succession = torch.randperm(self.words, generator=generator(seed, "succession"))
        tokens = torch.full((documents, self.length + 1), self.words)
        tokens[:, 1] = torch.randint(self.words, (documents,), generator=gen)
        branch = torch.randint(self.successors, (documents,), generator=gen)
        for place in range(2, self.length + 1):
            keeps = torch.rand(documents, generator=gen) < self.habit
            other = torch.randint(self.successors, (documents,), generator=gen)
            branch = torch.where(keeps, (branch + 1) % self.successors, other)
            tokens[:, place] = succession[(tokens[:, place - 1] + branch) % self.words]
        return tokens.repeat_interleave(2, 0).numpy().astype(np.uint16).ravel()

    @property
    def unigram_entropy(self) -> float:
        """Of a token of the stream, in nats."""
        ends = 1 / (self.length + 1)
        return _binary_entropy(ends) + (1 - ends) * math.log(self.words)

    @property
    def bigram_entropy(self) -> float:
        """Of a token given the one before it: the floor of the bigram score on this stream. After
        a word the document ends once in `length` times, else all successors are equally likely;
        after end of text all words are."""
        ends = 1 / self.length
        after_word = _binary_entropy(ends) + (1 - ends) * math.log(self.successors)
        return (math.log(self.words) + self.length * after_word) / (self.length + 1)

    @property
    def word_entropy(self) -> float:
        """Of a word given the two before it in its document, if it is not the last."""
        other = (1 - self.habit) / self.successors
        likely = self.habit + other
        return -likely * math.log(likely) - (self.successors - 1) * other * math.log(other)


def toy_corpus(vocabulary, documents=DOCUMENTS, held_out=HELD_OUT, seed=0) -> Corpus:
    """A corpus of that source, in memory. Raises UserError for a vocabulary below 5 tokens."""
    source = ToySource(vocabulary)
    return Corpus("toy", vocabulary,
                  source.stream(generator(seed, "train"), documents, seed),
                  source.stream(generator(seed, "validation"), held_out, seed))


def _binary_entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)
