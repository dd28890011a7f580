"""The metrics of Appendix C: each against a case done by hand, or a slow twin."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from companion.claims.table_rows import brownian_share, composition_baseline
from companion.corpus.probes import make_probes
from companion.corpus.token_counts import bigram_counts
from companion.corpus.toy import toy_corpus
from companion.hooked import LanguageTransformer
from companion.pages.coloured_text import FALL, RISE, STRONGEST, coloured_text
from devlib.errors import UserError
from devlib.language.behaviour import (
    ablate_positions,
    behaviour,
    bigram_distribution,
    bigram_floors,
    bigram_scores,
    icl_score,
    icl_windows,
    loss_changes,
    most_changed,
    ngram_losses,
    ngram_score,
    octave_losses,
    random_places,
)
from devlib.language.model import token_losses
from devlib.language.parameters import initial_parameters
from devlib.language.structure import (
    attention_between,
    composition,
    composition_scores,
    heads,
    position_path,
    positions,
    prefix_sequences,
    previous_token_sequences,
    structure,
)
from devlib.means import mean_and_se
from devlib.rng import generator
from devlib.settings import LanguageMetrics, LanguageModel, describe, replace

MODEL = LanguageModel(layers=2, heads=2, embed_dim=16, head_dim=5, context=24, vocabulary=11,
                      init_sd=0.5)
METRICS = LanguageMetrics(
    contexts=40, icl_early=(2, 4), icl_late=(20, 24), ablation_contexts=30, positions=(1, 3, 50),
    bigram_contexts=20, bigram_positions=6, ngrams=(2, 3), ngram_count=7, ngram_contexts=50,
    components=3, previous_sequences=50, prefix_sequences=60)


def random_parameters(model=MODEL):
    """Untrained weights, float64, with biases and LayerNorms moved off zero and one."""
    return {name: value.double() + ("W_" not in name) * 0.3 * torch.randn(
        value.shape, generator=gen(name)) for name, value in initial_parameters(model, 0).items()}


def random_contexts(count=9, model=MODEL):
    tokens = torch.randint(model.vocabulary - 1, (count, model.context), generator=gen("contexts"))
    tokens[:, 0] = model.vocabulary - 1
    return tokens


def gen(name):
    return generator(0, "tests", name)


def silent(model):
    """Parameters of a model whose heads do nothing, with one-hot embeddings; float64."""
    params = {name: torch.zeros_like(value) for name, value in random_parameters(model).items()}
    params |= {name: value + 1 for name, value in params.items() if name.endswith(".w")}
    params["embed.W_E"] = torch.eye(model.vocabulary, model.embed_dim).double()
    return params


def bigram_model(log_q, model=MODEL):
    """Parameters of a model whose logits after a token s are log_q[s], exactly."""
    params = silent(model)
    seen = torch.nn.functional.layer_norm(params["embed.W_E"], (model.embed_dim,))
    params["unembed.W_U"] = torch.linalg.pinv(seen) @ log_q.double()
    return params


def random_bigrams(size=MODEL.vocabulary):
    return torch.randn(size, size, generator=gen("bigrams"), dtype=torch.float64).softmax(1)


# ------------------------------------------------------------------------------------- bigrams


def test_the_true_bigram_model_has_the_floor_as_its_score():
    q, contexts = random_bigrams(), random_contexts()
    places = random_places(gen("places"), len(contexts), 5, MODEL.context)
    scores = bigram_scores(bigram_model(q.log()), contexts, places, q, MODEL)
    floors = bigram_floors(contexts, places, torch.special.entr(q).sum(1))
    torch.testing.assert_close(scores, floors)
    assert scores.shape == (9, 5) and floors.std() > 0.01


def test_uniform_predictions_score_the_log_of_the_vocabulary():
    contexts = random_contexts()
    places = torch.tensor([[1, 23]]).expand(9, 2)
    scores = bigram_scores(silent(MODEL), contexts, places, random_bigrams(), MODEL)
    torch.testing.assert_close(scores, torch.full((9, 2), math.log(11)).double())


def test_bigram_scores_are_those_of_a_slow_loop(monkeypatch):
    monkeypatch.setattr("devlib.language.model.SLICE", 2 * MODEL.context)  # contexts in twos
    params, contexts, q = random_parameters(), random_contexts(), random_bigrams()
    places = random_places(gen("places"), len(contexts), 3, MODEL.context)
    log_p = LanguageTransformer(MODEL, params)(contexts).detach().log_softmax(-1)
    slow = [[-sum(q[contexts[i, k], t] * log_p[i, k, t] for t in range(11)) for k in row]
            for i, row in enumerate(places.tolist())]
    torch.testing.assert_close(bigram_scores(params, contexts, places, q, MODEL),
                               torch.tensor(slow).double())


def test_places_are_different_and_anywhere_after_bos():
    places = random_places(gen("places"), 4_000, 3, 6)
    assert all(len(set(row)) == 3 for row in places.tolist())
    counts = places.flatten().bincount(minlength=6)
    assert counts[0] == 0 and len(counts) == 6
    expected = 4_000 * 3 / 5  # each place is in a context's three with probability 3/5
    assert (counts[1:] - expected).abs().max() < 4 * (4_000 * 0.6 * 0.4) ** 0.5
    for count in (0, 6):
        with pytest.raises(UserError, match="a context of 6 tokens has 1 to 5 positions"):
            random_places(gen("places"), 2, count, 6)


# ------------------------------------------------------------------------------------- n-grams


def test_ngram_losses_are_of_the_last_token_after_bos():
    q = random_bigrams()
    params = bigram_model(q.log())
    ngrams = torch.tensor([[3, 1, 4], [2, 7, 1]])
    expected = -q[[1, 7], [4, 1]].log()
    torch.testing.assert_close(ngram_losses(params, ngrams, MODEL), expected)
    alone = ngram_losses(params, torch.tensor([[5]]), MODEL)  # only bos comes before
    torch.testing.assert_close(alone, -q[[10], [5]].log())


def test_ngram_score_is_position_matched_or_one_late():
    validation = torch.tensor([[9.0, 6, 3, 8], [9.0, 8, 5, 8]])  # positions 1 to 4
    losses = torch.tensor([1.0, 3.0])
    assert ngram_score(losses, validation, 2) == (7 / 2, 1 / 2)
    assert ngram_score(losses, validation, 3) == (4 / 2, 1 / 2)
    assert ngram_score(losses, validation, 3, slip=True) == (8 / 2, 0)


# ------------------------------------------------------------------------- loss over the context


def test_octaves_tile_the_context():
    row = octave_losses(torch.arange(1.0, 12).expand(3, 11))  # the loss at position p is p
    assert row == {"loss_1_1": 1, "loss_2_2": 2, "loss_3_4": 3.5, "loss_5_8": 6.5,
                   "loss_9_11": 10}


def test_icl_score_of_the_papers_tokens():
    """Token 500 is the one with 499 before it: 498 of the losses, from 0 (values.md)."""
    losses = torch.zeros(2, 1023)
    losses[:, 498], losses[:, 48] = torch.tensor([2.0, 3.0]), torch.tensor([3.0, 6.0])
    early, late = icl_windows(LanguageMetrics(), 1024)
    assert icl_score(losses, early, late) == (-2, 1)


def test_icl_score_over_windows():
    losses = torch.arange(9.0).square().expand(2, 9)  # of tokens 2 to 10
    assert icl_score(losses, (2, 4), (9, 10)) == pytest.approx(
        ((49 + 64) / 2 - (0 + 1 + 4) / 3, 0))


def test_icl_windows_fit_the_context():
    assert icl_windows(LanguageMetrics(), 500) == ((50, 50), (500, 500))
    assert icl_windows(LanguageMetrics(), 250) == ((25, 25), (250, 250))
    wide = LanguageMetrics(icl_early=(40, 60), icl_late=(400, 512))
    assert icl_windows(wide, 256) == ((20, 30), (200, 256))
    assert icl_windows(wide, 4) == ((2, 2), (3, 4))


@pytest.mark.parametrize("window", [(1, 3), (4, 3), (3, 11)])
def test_icl_tokens_without_a_loss(window):
    with pytest.raises(UserError, match=r"have no loss in contexts of 10 tokens; choose from 2"):
        icl_score(torch.zeros(2, 9), (2, 2), window)


# ----------------------------------------------------------------------------- the behaviour row


@pytest.fixture(scope="module")
def corpus():
    return toy_corpus(MODEL.vocabulary, documents=60, held_out=20)


@pytest.fixture(scope="module")
def probes(corpus):
    return make_probes(corpus, ngrams, MODEL.context, METRICS, seed=3)


def ngrams(n, count):
    return np.arange(n * count).reshape(count, n) % 10


def test_probes_are_a_function_of_the_seed(corpus, probes):
    again, other = (make_probes(corpus, ngrams, MODEL.context, METRICS, seed) for seed in (3, 4))
    assert probes.contexts.equal(again.contexts) and probes.places.equal(again.places)
    assert not probes.contexts.equal(other.contexts) and not probes.places.equal(other.places)
    assert probes.contexts.shape == (50, 24) and probes.places.shape == (20, 6)
    q, entropies = bigram_distribution(bigram_counts(corpus, MODEL.context))
    assert probes.q.equal(q) and probes.entropies.equal(entropies)
    assert {n: rows.tolist() for n, rows in probes.ngrams.items()} == {
        n: ngrams(n, 7).tolist() for n in (2, 3)}


def test_contexts_shorter_than_ngrams(corpus):
    with pytest.raises(UserError, match="3-grams need contexts of 5 tokens or more, not 4"):
        make_probes(corpus, ngrams, 4, METRICS, seed=3)


def test_behaviour_row_puts_the_pieces_together(probes):
    params = random_parameters()
    row = behaviour(params, MODEL, METRICS, probes)
    losses = token_losses(params, probes.contexts, MODEL)
    ablated = token_losses(ablate_positions(params), probes.contexts, MODEL)

    def entry(name):
        return row[name], row[f"{name}_se"]

    assert entry("loss") == mean_and_se(losses[:40].mean(1))
    assert row["loss_9_16"] == pytest.approx(float(losses[:40, 8:16].mean()))
    assert entry("icl") == icl_score(losses[:40], (2, 4), (20, 24))
    gaps = (ablated - losses)[:30]
    assert entry("ablation") == pytest.approx(mean_and_se(gaps.mean(1)))
    assert entry("loss_at_3") == mean_and_se(losses[:40, 2])
    assert entry("ablation_at_3") == pytest.approx(mean_and_se(gaps[:, 2]))
    assert "loss_at_50" not in row and row["ablation_at_3"] != 0
    assert entry("ablation_at_1") == (0, 0)  # one token leaves attention no choice
    scores = bigram_scores(params, probes.contexts[:20], probes.places, probes.q, MODEL)
    assert entry("bigram") == mean_and_se(scores.mean(1))
    floors = bigram_floors(probes.contexts[:20], probes.places, probes.entropies)
    assert entry("bigram_floor") == mean_and_se(floors.mean(1))
    assert entry("bigram_excess") == mean_and_se((scores - floors).mean(1))
    for n, slip in itertools.product((2, 3), (False, True)):
        expected = ngram_score(ngram_losses(params, probes.ngrams[n], MODEL), losses, n, slip=slip)
        assert entry(f"ngram_{n}" + "_slip" * slip) == pytest.approx(expected)
    assert all(type(value) is float for value in row.values())


def test_settings_may_ablate_more_contexts_than_they_measure(probes):
    row = behaviour(random_parameters(), MODEL, replace(METRICS, ablation_contexts=50), probes)
    whole = behaviour(random_parameters(), MODEL, replace(METRICS, ablation_contexts=40), probes)
    assert row["ablation"] == whole["ablation"]


def test_the_papers_numbers():
    """From the paper and the authors' code (values.md), typed in a second time."""
    paper = LanguageMetrics()
    assert (paper.contexts, paper.bigram_contexts, paper.bigram_positions) == (100_000, 5_000, 1)
    assert (paper.icl_early, paper.icl_late) == ((50, 50), (500, 500))
    assert paper.positions == (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
    assert (paper.ngrams, paper.ngram_count) == ((2, 3, 4), 1_000)
    assert (paper.previous_sequences, paper.prefix_sequences) == (10_000, 10_000)
    assert (paper.previous_shortest, paper.previous_longest, paper.prefix_length) == (16, 64, 128)
    assert all(row["symbol"] and row["unit"] and row["section"] for row in describe(paper))


def test_ablation_zeroes_the_positions_and_nothing_else():
    params = random_parameters()
    ablated = ablate_positions(params)
    assert ablated.pop("pos_embed.W_pos").eq(0).all()
    assert all(ablated[name] is params[name] for name in ablated)
    assert params["pos_embed.W_pos"].abs().min() > 0


def test_changes_are_after_minus_before_and_the_largest_come_first():
    q, contexts = random_bigrams(), random_contexts()
    changes = loss_changes(silent(MODEL), bigram_model(q.log()), contexts, MODEL)
    expected = -q[contexts[:, :-1], contexts[:, 1:]].log() - math.log(11)
    torch.testing.assert_close(changes, expected)
    few = torch.tensor([[0.1, -3.0, 0.2], [2.0, 0.3, -0.4]])
    assert most_changed(few, 3) == [
        {"context": 0, "position": 2, "change": -3.0},
        {"context": 1, "position": 1, "change": 2.0},
        {"context": 1, "position": 3, "change": pytest.approx(-0.4)}]


# --------------------------------------------------------------------------- positional embedding


def test_pca_of_a_known_spectrum():
    """Cosines over the positions, the components of Brownian motion: scores are those, whose
    Lissajous curves close, and shares are the squares of their amplitudes."""
    length, amplitudes = 30, torch.tensor([3.0, 2.0, 1.0])
    angles = math.pi * torch.arange(1, 4) * (torch.arange(length)[:, None] + 0.5) / length
    curves = angles.cos() * amplitudes  # (T, 3), each column of mean 0
    axes = torch.linalg.qr(torch.randn(8, 3, generator=gen("axes"))).Q
    w_pos = curves @ axes.T + 5.0  # the mean over positions is no part of it
    path = position_path(w_pos, 3)
    np.testing.assert_allclose(path.explained, amplitudes**2 / 14, rtol=1e-5)
    signs = curves[-1].sign()  # the last position's scores are made positive
    np.testing.assert_allclose(path.scores * 8**0.5, curves * signs, atol=1e-5)
    params = {"pos_embed.W_pos": w_pos}
    row = structure(params, METRICS)
    assert row["position_pc_2"] == pytest.approx(4 / 14) and "position_pc_4" not in row
    assert row["position_norm"] == pytest.approx(float(w_pos.norm(dim=1).mean()))
    assert row["position_norm_sd"] == pytest.approx(float(w_pos.norm(dim=1).std()))
    table = pd.DataFrame(positions(params, METRICS))
    assert list(table) == ["position", "norm", "pc_1", "pc_2", "pc_3"]
    np.testing.assert_array_equal(table.position, range(30))
    np.testing.assert_allclose(table.norm, w_pos.norm(dim=1), rtol=1e-5)
    np.testing.assert_allclose(table[["pc_1", "pc_2", "pc_3"]], path.scores, atol=1e-6)


@pytest.mark.parametrize("length", [2, 3, 50])
def test_brownian_shares_are_those_of_its_covariance(length):
    """The covariance of a walk is min(i, j); centred, its eigenvalues are the PCA's."""
    times = torch.arange(1, length + 1).double()
    centring = torch.eye(length).double() - 1 / length
    covariance = centring @ torch.minimum(times, times[:, None]) @ centring
    expected = torch.linalg.eigvalsh(covariance).flip(0)[:-1] / covariance.trace()
    found = [brownian_share(length, component) for component in range(1, length)]
    np.testing.assert_allclose(found, expected)
    assert sum(found) == pytest.approx(1)


def test_brownian_share_of_many_positions():
    assert brownian_share(1024) == pytest.approx(6 / math.pi**2, rel=1e-5)
    assert round(brownian_share(1024), 3) == 0.608
    walk = torch.randn(60, 4_000, generator=gen("walk"), dtype=torch.float64).cumsum(0)
    share = position_path(walk, 1).explained[0]  # off by about 1 / sqrt(dimensions)
    assert share == pytest.approx(brownian_share(60), abs=4 / 4_000**0.5)


# ------------------------------------------------------------------------------------ composition


def test_composition_is_eq_17():
    """In the paper's convention, where vectors are columns: W_Q, W_K, W_V (d_head, d) and
    W_O (d, d_head), W_QK = W_Q^T W_K, W_OV = W_O W_V."""
    params = random_parameters()
    found = composition_scores(params, 0, 1)
    for i, j in itertools.product(range(2), range(2)):
        def column(layer, head, letter):
            return params[f"blocks.{layer}.attn.W_{letter}"][head].T

        w_ov = column(0, i, "O") @ column(0, i, "V")
        w_qk = column(1, j, "Q").T @ column(1, j, "K")
        reads = {"q": w_qk.T, "k": w_qk, "v": column(1, j, "O") @ column(1, j, "V")}
        for kind, m in reads.items():
            expected = torch.linalg.norm(m @ w_ov) / torch.linalg.norm(m) / torch.linalg.norm(w_ov)
            torch.testing.assert_close(found[kind][i, j], expected)


def test_a_head_that_reads_what_another_writes_composes_fully():
    """Head 1:1 writes direction 3, which the keys of head 2:2 read; nothing else meets."""
    model = replace(MODEL, head_dim=1)
    params = {name: torch.zeros_like(value) for name, value in random_parameters(model).items()}
    for place, direction in {(0, "V", 0): 1, (0, "O", 0): 3, (1, "Q", 1): 2, (1, "K", 1): 3,
                             (1, "V", 1): 4, (1, "O", 1): 5}.items():
        layer, letter, head = place
        params[f"blocks.{layer}.attn.W_{letter}"][head].view(-1)[direction] = 7.0
    rows = {(row["earlier_head"], row["later_head"]): row for row in composition(params, model)}
    assert len(rows) == 4
    assert rows[1, 2] == {"earlier_layer": 1, "earlier_head": 1, "later_layer": 2,
                          "later_head": 2, "q": 0, "k": 1, "v": 0}


def test_composition_of_every_pair_of_layers():
    def pairs(layers):
        model = replace(MODEL, layers=layers)
        return [(row["earlier_layer"], row["later_layer"])
                for row in composition(random_parameters(model), model)]

    assert pairs(1) == []
    assert sorted(set(pairs(3))) == [(1, 2), (1, 3), (2, 3)] and len(pairs(3)) == 12


def test_composition_baseline_is_step_0():
    table = pd.DataFrame({"step": [0, 0, 9], "q": [1.0, 2, 9], "k": [2.0, 4, 9],
                          "v": [3.0, 6, 9]})
    assert composition_baseline(table).to_dict() == {"q": 1.5, "k": 3.0, "v": 4.5}
    with pytest.raises(UserError, match="the table of composition has no step 0"):
        composition_baseline(table[table.step > 0])


def test_untrained_heads_compose_at_one_over_the_root_of_the_width():
    model = replace(MODEL, embed_dim=64, head_dim=16, heads=4)
    table = pd.DataFrame(composition(random_parameters(model), model)).assign(step=0)
    # 16 pairs of products of 64 x 16 matrices, which vary by some parts in a hundred
    np.testing.assert_allclose(composition_baseline(table), 1 / 8, rtol=0.05)


# ------------------------------------------------------------------------------------------ heads


def induction_model(model, strength=500.0):
    """Parameters of a model with an induction circuit: head 1:1 attends to the previous token and
    copies it to a place of its own, which the keys of head 2:1 match with the queries' token. Its
    stream has the token, the token before, and the position, one-hot each. The second heads attend
    evenly."""
    size, context = model.vocabulary, model.context
    assert model.embed_dim == 2 * size + context and model.head_dim == max(size, context)
    params, eye = silent(model), torch.eye(model.embed_dim).double()
    token, before, place = eye[:, :size], eye[:, size:2 * size], eye[:, 2 * size:]

    def write(layer, letter, matrix):
        params[f"blocks.{layer}.attn.W_{letter}"][0, :, :matrix.shape[1]] = matrix

    params["pos_embed.W_pos"] = place.T
    write(0, "Q", strength * place)
    write(0, "K", place.roll(1, 1))  # the key at p is the query at p + 1
    write(0, "V", token)
    params["blocks.0.attn.W_O"][0, :size] = before.T
    write(1, "Q", strength * token)
    write(1, "K", before)
    return params


INDUCTION = LanguageModel(layers=2, heads=2, embed_dim=52, head_dim=32, context=32, vocabulary=10)


def test_scores_of_an_induction_circuit_made_by_hand():
    metrics = LanguageMetrics(previous_sequences=40, prefix_sequences=50)
    params = induction_model(INDUCTION)
    rows = {(row["layer"], row["head"]): row for row in heads(params, INDUCTION, metrics, seed=0)}
    assert len(rows) == 4
    assert rows[1, 1]["previous"] == pytest.approx(1) and rows[1, 1]["prefix"] < 1e-9
    assert rows[2, 1]["prefix"] == pytest.approx(1) and rows[2, 1]["prefix_se"] < 1e-9
    _, lengths = previous_token_sequences(generator(0, "previous token"), 40, 16, 32, 10)
    *_, second = prefix_sequences(generator(0, "prefix matching"), 50, 32, 10)
    for even in (rows[1, 2], rows[2, 2]):
        assert (even["previous"], even["previous_se"]) == pytest.approx(mean_and_se(1 / lengths))
        assert (even["prefix"], even["prefix_se"]) == pytest.approx(mean_and_se(1 / (second + 1)))
    pairs = {(row["earlier_head"], row["later_head"]): row
             for row in composition(params, INDUCTION)}
    # the head reads all that is written and nothing else: ten directions, alike
    assert pairs[1, 1]["k"] == pytest.approx(10**-0.5) and pairs[1, 1]["q"] == 0


def test_without_positions_the_circuit_is_gone():
    params = ablate_positions(induction_model(INDUCTION))
    row = heads(params, INDUCTION, LanguageMetrics(previous_sequences=9, prefix_sequences=9), 0)[0]
    assert row["previous"] < 0.1


def test_heads_of_all_layers_and_checkpoints_alike():
    model = replace(MODEL, layers=1)
    rows = heads(random_parameters(model), model, METRICS, seed=1)
    assert [(row["layer"], row["head"]) for row in rows] == [(1, 1), (1, 2)]
    assert rows == heads(random_parameters(model), model, METRICS, seed=1)
    assert rows != heads(random_parameters(model), model, METRICS, seed=2)


def test_attention_between_is_an_entry_of_the_pattern(monkeypatch):
    monkeypatch.setattr("devlib.language.structure.AT_ONCE", 4 * MODEL.context)
    params = random_parameters()
    transformer = LanguageTransformer(MODEL, params)
    tokens, queries = random_contexts(9), torch.arange(3, 12)
    keys = torch.arange(9) // 3
    found = attention_between(params, tokens, queries, keys, MODEL)
    for layer in range(2):
        name = f"blocks.{layer}.attn.hook_pattern"
        pattern = transformer.activations(tokens, name)[name]
        for i in range(9):
            torch.testing.assert_close(found[layer, :, i], pattern[i, :, queries[i], keys[i]])


def test_previous_token_sequences():
    tokens, lengths = previous_token_sequences(gen("previous"), 5_000, 16, 64, 8)
    assert tokens.shape == (5_000, 64) and tokens[:, 0].eq(7).all()
    assert uniform(tokens[:, 1:], range(7)) and uniform(lengths, range(16, 65))
    assert lengths.equal(lengths.sort().values)
    for shortest, longest in ((1, 8), (9, 8)):
        with pytest.raises(UserError, match="have no last and previous token"):
            previous_token_sequences(gen("previous"), 5, shortest, longest, 8)


def test_prefix_sequences():
    tokens, first, second = prefix_sequences(gen("prefix"), 6_000, 12, 9)
    rows = torch.arange(6_000)
    a, b = tokens[rows, first], tokens[rows, first + 1]
    assert tokens[:, 0].eq(8).all() and tokens[:, 1:].lt(8).all() and tokens[rows, second].equal(a)
    assert uniform(first, range(1, 6)) and uniform(second, range(7, 12))
    assert tokens.eq(a[:, None]).sum(1).eq(2).all() and tokens.eq(b[:, None]).sum(1).eq(1).all()
    assert uniform(a * 8 + b, [x * 8 + y for x in range(8) for y in range(8) if x != y])
    others = [row[-1] for row in tokens[second < 11].tolist()]  # of 8, each 6/8 after A and B go
    assert uniform(torch.tensor(others), range(8))
    smallest, *_ = prefix_sequences(gen("prefix"), 50, 6, 4)
    assert smallest.shape == (50, 6)
    for length, vocabulary in ((5, 9), (12, 3)):
        with pytest.raises(UserError, match="prefix matching needs 6 tokens of a vocabulary of 4"):
            prefix_sequences(gen("prefix"), 5, length, vocabulary)


def uniform(values, support):
    """Whether the values are of the support, each as often as the others within 5 standard
    errors."""
    support = list(support)
    counts = values.flatten().bincount(minlength=max(support) + 1)[support]
    mean = values.numel() / len(support)
    return int(counts.sum()) == values.numel() and (counts - mean).abs().max() < 5 * mean**0.5


# ---------------------------------------------------------------------------------- coloured text


def test_coloured_text_escapes_and_says_each_change():
    text = coloured_text(["<b>", " &", '"x"', "\n"], [math.nan, -1.0, 0.5, 0.0])
    spans = re.findall(r"<span([^>]*)>([^<]*)</span>", text)
    assert [shown for _, shown in spans] == ["&lt;b&gt;", " &amp;", "&quot;x&quot;", "\u21b5\n"]
    assert spans[0][0] == ""
    assert spans[1][0] == f' style="background-color: rgba({FALL}, 0.60)" title="-1.00 nats"'
    assert spans[2][0] == f' style="background-color: rgba({RISE}, 0.30)" title="+0.50 nats"'
    assert spans[3][0].endswith(', 0.00)" title="+0.00 nats"')
    assert not re.search(r"https?:|src=|href=|script", text)


def test_coloured_text_beyond_its_limit_and_without_values():
    assert coloured_text(["a"], [-4.0], limit=2).count(f"{STRONGEST:.2f})") == 1
    assert ", 0.00)" in coloured_text(["a"], [0.0])
    assert "title" not in coloured_text(["a"], [math.nan]) + coloured_text([], [])
    with pytest.raises(UserError, match="3 tokens need as many values, not 2; bos, which has no"):
        coloured_text(["a", "b", "c"], [1.0, 2.0])


@pytest.mark.parametrize("ink, paper", [((34, 40, 50), (255, 255, 255)),
                                        ((206, 214, 221), (20, 24, 30))])
@pytest.mark.parametrize("colour", [FALL, RISE])
def test_text_stays_readable_on_light_and_dark(ink, paper, colour):
    """WCAG's contrast of at least 4.5 with the strongest ground, in the book theme's two colours
    of text and page."""
    ground = [STRONGEST * int(part) + (1 - STRONGEST) * under
              for part, under in zip(colour.split(","), paper, strict=True)]
    bright, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) > 4.5


def luminance(colour):
    """WCAG 2's relative luminance of an sRGB colour."""
    parts = [part / 255 for part in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
