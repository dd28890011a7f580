"""Prefix matching both ways and the bigram score on held-out text, against counting by hand."""

import numpy as np
import pytest
import torch

from companion import presets, readings_language
from companion.corpus.contexts import Corpus
from companion.corpus.corpora import SOURCES, sources_of
from companion.corpus.token_counts import bigram_counts
from companion.language import language_corpus
from devlib.language.behaviour import behaviour
from devlib.language.parameters import initial_parameters
from devlib.language.structure import heads

SETTINGS, CHOSEN = presets.SMOKE.language, presets.SMOKE.language_protocols
EOT = 3  # end of text of the corpus below


@pytest.fixture(scope="module")
def params():
    return initial_parameters(SETTINGS.model, seed=3)


def test_the_code_s_reading_is_the_table_of_heads(params):
    rows = readings_language.prefix_rows(SETTINGS, 5, params)
    twin = heads(params, SETTINGS.model, SETTINGS.metrics, 5)
    assert [(row["after"], row["after_se"]) for row in rows] == [
        (row["prefix"], row["prefix_se"]) for row in twin]
    assert any(row["itself"] != row["after"] for row in rows)


def test_a_head_that_looks_for_the_same_token_is_seen_in_the_paper_s_reading(params):
    """Queries and keys that are the token's own embedding: attention goes to the first A itself."""
    one = {name: p.clone() for name, p in params.items()}
    size, width = one["blocks.0.attn.W_Q"].shape[1:]
    one["embed.W_E"] = torch.randn(one["embed.W_E"].shape,
                                   generator=torch.Generator().manual_seed(0))
    one["pos_embed.W_pos"] = torch.zeros_like(one["pos_embed.W_pos"])
    look = torch.eye(size)[:, :width] * 4
    one["blocks.0.attn.W_Q"][0], one["blocks.0.attn.W_K"][0] = look, look
    found = readings_language.prefix_rows(SETTINGS, 5, one)[0]
    assert found["itself"] > 3 * found["after"] and found["itself"] > 0.2


def corpus(train, validation, origins=None):
    return Corpus("toy", 4, np.array(train, np.uint16), np.array(validation, np.uint16), origins)


def test_validation_pairs_are_those_of_its_contexts():
    found = bigram_counts(corpus([0, 3], [3, 0, 1, 0, 2, 1]), 4, "validation")
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for first, second in ((EOT, 3), (3, 0), (0, 1), (EOT, 0), (0, 2), (2, 1)):
        expected[first, second] += 1
    assert torch.equal(found, expected)
    whole = language_corpus(SETTINGS)
    as_train = Corpus(whole.kind, whole.vocabulary, whole.validation, whole.train)
    assert torch.equal(bigram_counts(whole, 64, "validation"), bigram_counts(as_train, 64))


def test_the_predictor_is_a_distribution_and_the_best_of_those_tried():
    counts = torch.tensor([[5, 0, 1], [0, 0, 0], [2, 2, 2]])
    validation = torch.tensor([[3, 1, 1], [1, 0, 1], [0, 2, 1]])
    found = readings_language.predictor(counts, validation)
    assert torch.allclose(found.sum(1), torch.ones(3).double()) and (found > 0).all()
    share = (counts.sum(0) + 1) / (counts.sum() + 3.0)
    losses = [-float((validation * ((counts + extra * share) / (
        counts.sum(1, keepdim=True) + extra)).log()).sum()) for extra in readings_language.SHARES]
    assert -float((validation * found.log()).sum()) == pytest.approx(min(losses))


def test_all_text_s_excess_is_that_of_the_behaviour_table(params):
    row, = readings_language.bigram_rows(SETTINGS, CHOSEN, 5, params)
    twin = behaviour(params, SETTINGS.model, SETTINGS.metrics,
                     readings_language.probes(SETTINGS, 5))
    assert row["source"] == "all"
    assert row["excess"] == pytest.approx(twin["bigram_excess"], abs=1e-5)
    assert row["excess_se"] == pytest.approx(twin["bigram_excess_se"], rel=1e-3)


def test_sources_follow_their_documents():
    one = corpus([0, 3], [3, 0, 1, 3, 2, 2, 3, 1], {"validation": np.array([0, 2, 1])})
    assert sources_of(one, "validation", 5).tolist() == [[0, 0, 0, 2], [2, 2, 1, 1]]
    assert len(SOURCES) > 2
    assert not sources_of(corpus([0, 3], [3, 0, 1, 0]), "validation", 3).any()
