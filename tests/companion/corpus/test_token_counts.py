"""Counts and entropies against plain loops, and against a source whose entropies are exact."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from companion.corpus import token_counts
from companion.corpus.contexts import Corpus, training_batch
from companion.corpus.token_counts import bigram_counts
from companion.corpus.toy import ToySource, toy_corpus
from devlib.language.behaviour import bigram_distribution
from devlib.rng import generator

END = 4  # of a vocabulary of 5


def corpus_of(tokens, vocabulary=5):
    tokens = np.array(tokens, np.uint16)
    return Corpus("own", vocabulary, tokens, tokens)


HAND = corpus_of([END, 0, 1, 0, 1, END, 2, 0, 1, END, 0])
TOY = toy_corpus(20, documents=60, held_out=2)


def slow_counts(rows, vocabulary):
    counts = torch.zeros(vocabulary, vocabulary, dtype=torch.int64)
    for row in rows:
        for first, second in pairwise(row):
            counts[first, second] += 1
    return counts


def slow_entropy(tokens, n, end):
    """Of a token given the n - 1 before it, in nats, from counts within documents."""
    windows = [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]
    windows = [w for w in windows if end not in w[1:-1]]
    long, short = Counter(windows), Counter(w[:-1] for w in windows)
    return -sum(math.log(long[w] / short[w[:-1]]) for w in windows) / len(windows)


# ------------------------------------------------------------------------------- counts


def test_counts_by_hand():
    counts = bigram_counts(HAND)
    assert counts.tolist() == [[0, 3, 0, 0, 0], [1, 0, 0, 0, 2], [1, 0, 0, 0, 0], [0] * 5,
                               [2, 0, 1, 0, 0]]


@pytest.mark.parametrize("at_once", [1, 7, 64, 2**23])
def test_counts_against_a_loop(monkeypatch, at_once):
    monkeypatch.setattr(token_counts, "AT_ONCE", at_once)
    assert bigram_counts(TOY).equal(slow_counts([TOY.train.tolist()], 20))


@pytest.mark.parametrize("at_once", [1, 100, 2**23])
@pytest.mark.parametrize("context", [2, 3, 17, 1000])
def test_counts_in_contexts(monkeypatch, at_once, context):
    """The pairs in one epoch of training contexts, bos included."""
    monkeypatch.setattr(token_counts, "AT_ONCE", at_once)
    rows = len(TOY.rows("train", context))
    epoch = training_batch(TOY, 0, 0, rows, context).tolist()
    assert bigram_counts(TOY, context).equal(slow_counts(epoch, 20))


def test_counts_of_two_documents_do_not_meet():
    counts = bigram_counts(corpus_of([END, 0, 0, END, 1, 1]))
    assert counts[0, 1] == 0 and counts[0, END] == 1 and counts[END, 1] == 1


# --------------------------------------------------------------------- the distribution


def test_distribution_by_hand():
    q, entropy = bigram_distribution(bigram_counts(HAND))
    third = -math.log(1 / 3) / 3 - 2 / 3 * math.log(2 / 3)
    unseen = [0.4, 0.3, 0.1, 0.0, 0.2]  # nothing follows token 3: all second tokens
    expected = [[0, 1, 0, 0, 0], [1 / 3, 0, 0, 0, 2 / 3], [1, 0, 0, 0, 0], unseen,
                [2 / 3, 0, 1 / 3, 0, 0]]
    torch.testing.assert_close(q, torch.tensor(expected))
    of_unseen = -sum(p * math.log(p) for p in unseen if p)
    torch.testing.assert_close(
        entropy, torch.tensor([0, third, 0, of_unseen, third], dtype=torch.float64))


def test_no_prediction_is_below_the_entropy():
    counts = bigram_counts(TOY)
    q, entropy = bigram_distribution(counts)
    logits = torch.randn(50, *q.shape, generator=generator(0, "logits"))
    scores = -(q * logits.log_softmax(-1)).sum(-1)
    assert (scores > entropy).all()
    own = -torch.special.xlogy(q, q).sum(-1)  # q itself attains it, to float32
    torch.testing.assert_close(own.double(), entropy, rtol=1e-5, atol=1e-5)


def test_bigram_entropy_is_the_mean_of_the_rows():
    counts = bigram_counts(TOY)
    entropy = bigram_distribution(counts)[1]
    mean = (entropy * counts.sum(1)).sum() / counts.sum()
    assert math.isclose(mean, slow_entropy(TOY.train.tolist(), 2, TOY.end_of_text), rel_tol=1e-12)


# ------------------------------------------------------------------------- the toy's floors


def test_toy_entropies():
    """Counts of K cells fall short of the entropy by (K - 1) / 2N (Miller), twice that here, as
    every document comes twice, and scatter by the deviation of a token's surprisal, at most
    0.55 nats, over sqrt(N / 2)."""
    source = ToySource(50)
    corpus = toy_corpus(50, documents=8_192)
    n = len(corpus.train)
    scatter = 4 * 0.55 / (n / 2) ** 0.5
    for order, exact, free in ((1, source.unigram_entropy, 49),
                               (2, source.bigram_entropy, 49 * 4 + 48)):
        found = slow_entropy(corpus.train.tolist(), order, corpus.end_of_text)
        gap = exact - free / n - found
        assert abs(gap) < scatter, (order, gap)


def test_toy_words_after_two():
    """Of the words whose two predecessors are known, in the first of each pair of documents."""
    source = ToySource(50)
    words = toy_corpus(50, documents=8_192).train.reshape(-1, 2, 32)[:, 0, 1:]
    stream = np.full((len(words), 32), 49)  # end of text before each document; its end left out
    stream[:, 1:] = words
    windows = np.lib.stride_tricks.sliding_window_view(stream[:, 1:], 3, axis=1).reshape(-1, 3)
    long, short = (np.unique(windows[:, :width], axis=0, return_inverse=True) for width in (3, 2))
    surprisal = -np.log(np.bincount(long[1])[long[1]] / np.bincount(short[1])[short[1]])
    free = len(long[0]) - len(short[0])
    n = len(windows)
    assert len(short[0]) == 49 * 4  # every word has four successors
    assert abs(surprisal.mean() + free / (2 * n) - source.word_entropy) < \
        4 * surprisal.std() / n**0.5
