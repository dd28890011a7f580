"""The tables of a language run: what is in them is what the functions they come from give."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from companion import curve, presets, results_language
from companion import runs as identities
from companion.artefact import plain_llc, running_init_llc
from companion.claims.paired import PAIRED, change
from companion.claims.verdicts import onset, say
from companion.compute import parallel
from companion.corpus.contexts import fixed_contexts
from companion.corpus.corpora import corpus_hash, load_corpus
from companion.corpus.probes import make_probes
from companion.corpus.token_counts import common_ngrams
from companion.corpus.tokenizer import load_tokenizer
from companion.corpus.toy import toy_corpus
from companion.figures_development import pattern
from companion.hooked import LanguageTransformer
from companion.packed import open_run
from companion.pages.coloured_text import context_of, token_texts
from devlib import rng
from devlib.errors import UserError
from devlib.language.behaviour import behaviour, log_probabilities
from devlib.language.model import attention_rows, per_sample_loss, token_losses
from devlib.sampling import sample_chains
from devlib.sampling.sgld import SGLD
from devlib.settings import replace
from devlib.stages import find_stages
from devlib.steps import thin

SMOKE = presets.SMOKE.language


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The two smoke runs, computed, and where."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVLIB_RUNS", str(folder))
        # in this process: starting others takes longer than the work
        patch.setattr(curve, "each", lambda work, items, **_: parallel.each(work, items, jobs=1))
        yield folder, {layers: results_language.language("smoke", 3, True, layers)
                       for layers in (1, 2)}


@pytest.fixture(scope="module")
def store(runs):
    return open_run(runs[0] / "smoke" / "language-2layer-seed3" / "checkpoints")


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("toy", SMOKE.model.vocabulary)


def row(table, step):
    (found,) = table[table.step == step].to_dict("records")
    return found


def test_tables_of_both_models(runs, store):
    common = {"behaviour", "blocks", "structure", "heads", "positions", "patterns", "llc", "path",
              "explained", "changes", "texts", "corpus"}
    assert runs[1][1].tables.keys() == common
    assert runs[1][2].tables.keys() == common | {"composition", "check"}
    steps = thin(store.steps, SMOKE.evaluation.curve_checkpoints)
    for layers, run in runs[1].items():
        for name in ("behaviour", "structure", "llc", "path"):
            assert run[name].step.tolist() == steps
        heads = SMOKE.model.heads
        assert len(run["heads"]) == len(steps) * layers * heads
        assert len(run["positions"]) == 3 * SMOKE.model.context
        assert (run["llc"].mcse > 0).all() and (run["behaviour"].loss_se > 0).all()
        assert np.isfinite(run["llc"].llc).all()


def test_a_second_time_reads_what_is_there(runs, monkeypatch):
    monkeypatch.setattr(results_language, "train", None)
    again = results_language.language("smoke", 3, True, 2)
    assert all(again[name].equals(table) for name, table in runs[1][2].tables.items())


def test_behaviour_and_structure_of_a_checkpoint(runs, store, corpus):
    step = store.steps[-1]
    params = store.load(step)
    probes = make_probes(corpus, lambda n, count: common_ngrams(corpus, n, count),
                         SMOKE.model.context, SMOKE.metrics, 3)
    wanted = behaviour(params, SMOKE.model, SMOKE.metrics, probes)
    found = row(runs[1][2]["behaviour"], step)
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    norm = torch.cat([p.flatten() for p in params.values()]).double().norm()
    assert row(runs[1][2]["structure"], step)["weight_norm"] == pytest.approx(float(norm), 1e-5)


def test_a_change_of_the_behaviour_has_its_error_from_the_blocks(runs):
    """Their means, weighed by their contexts, are the behaviour's; paired, the change of the loss
    over an update, which moves all contexts alike, is known far better than by both ends."""
    blocks, table = runs[1][2]["blocks"], runs[1][2]["behaviour"]
    assert set(blocks.metric) == {"loss", "icl", "ablation", "bigram_excess"}
    assert sorted(set(blocks.step)) == table.step.tolist()
    loss = blocks[blocks.metric == "loss"][[f"block_{i}" for i in range(64)]].to_numpy()
    weights = [len(part) for part in np.array_split(np.arange(SMOKE.metrics.contexts), 64)]
    assert np.average(loss, axis=1, weights=weights) == pytest.approx(table.loss.to_numpy(), 1e-4)
    start, end = table.step.iloc[:2]
    found = change(table, start, end, "loss", blocks, "LM")
    assert found.about == PAIRED
    assert 0 < found.error < change(table, start, end, "loss").error / 5


def test_llc_and_the_artefact_come_from_the_same_draws(runs, store, corpus):
    step, llc = store.steps[-1], SMOKE.llc
    data = fixed_contexts(corpus, 3, "llc", llc.samples, SMOKE.model.context, "train")
    draws = sample_chains(per_sample_loss(SMOKE.model), store.load(step), (data,),
                          SGLD(llc.eps, llc.nbeta, llc.gamma), chains=llc.chains, draws=llc.draws,
                          burn_in=llc.burn_in, batch_size=llc.batch, seed=3, vectorised=False,
                          compile=False)
    found = row(runs[1][2]["llc"], step)
    kept = slice(llc.burn_in, None)
    mean = llc.nbeta * (draws.losses[:, kept] - draws.baseline[:, kept]).mean()
    assert found["llc"] == pytest.approx(mean, rel=1e-3)
    assert (found["llc_plain"], found["llc_running"], found["sd_running"]) == pytest.approx(
        (plain_llc(draws), *running_init_llc(draws)), rel=1e-3)


def test_patterns_are_those_of_the_leading_heads(runs, store):
    """Each row is an attention, so that it sums to one; row by row they are what the model that
    trains computes (devlib.language.model), on a token and its like shown twice."""
    table, heads = runs[1][2]["patterns"], runs[1][2]["heads"]
    last = heads[heads.step == store.steps[-1]].set_index(["layer", "head"])
    leading = {last.previous.idxmax(), last.prefix.idxmax()}
    assert {*zip(table.layer, table["head"], strict=True)} == leading
    sums = table.groupby(["step", "layer", "head", "query"]).attention.sum()
    assert sums.to_numpy() == pytest.approx(1, abs=2e-3)  # stored to four places
    gen = rng.generator(3, "patterns")
    shown = torch.randint(SMOKE.model.vocabulary - 1, (64, 12), generator=gen)
    bos = torch.full((64, 1), SMOKE.model.vocabulary - 1)
    tokens, params = torch.cat([bos, shown, shown], 1), store.load(store.steps[-1])
    for query in (1, 12, 24):
        rows = attention_rows(params, tokens[:, :query + 1], torch.full((64,), query), SMOKE.model)
        for layer, head in leading:
            found = pattern(table, store.steps[-1], layer, head)[query, :query + 1]
            assert found == pytest.approx(rows[layer - 1, head - 1].mean(0).numpy(), abs=1e-4)


def test_the_check_takes_the_paper_s_chains(runs):
    run, chosen, paper = runs[1][2], SMOKE.evaluation, presets.PAPER.language
    check = run["check"]
    assert len(check) == chosen.check_checkpoints
    assert check.step.iloc[-1] == run["llc"].step.iloc[-1]
    assert set(check.draws) == {chosen.check_draws} and set(check.burn_in) == {0}
    assert sum(name.startswith("chain_") and name[6:].isdigit()
               for name in check) == chosen.check_chains
    assert (paper.evaluation.check_chains, paper.evaluation.check_draws) == (
        paper.llc.chains, paper.llc.draws) == (20, 200)


def test_one_layer_has_the_paper_s_sampler(runs):
    settings = results_language.language_settings("smoke", layers=1)
    assert (settings.llc.eps, settings.llc.gamma) == (0.003, 300.0)
    assert settings.model == replace(SMOKE.model, layers=1)
    published = presets.PUBLISHED
    assert published.one_layer.training.stop <= published.language.training.stop


def test_changes_are_those_between_stage_ends(runs, store, corpus):
    run = runs[1][2]
    _, _, stages = find_stages(run["llc"], run["behaviour"], SMOKE.stages, "LM")
    chosen = SMOKE.evaluation
    contexts = fixed_contexts(corpus, 3, "changes", chosen.change_contexts, SMOKE.model.context)
    for stage in stages.itertuples():
        after, before = (token_losses(store.load(step), contexts, SMOKE.model)
                         for step in (stage.end, stage.start))
        largest = (after - before).flatten()[(after - before).abs().argmax()]
        found = run["changes"][run["changes"].stage == stage.stage]
        assert found.change.iloc[0] == pytest.approx(float(largest), abs=1e-4)
        first = found.iloc[0]
        wanted = contexts[first.context, :first.position + 1].tolist()[-16:]
        assert first.tokens == " ".join(map(str, wanted))
        text = run["texts"].query("stage == @stage.stage and text == 0")
        assert text.token.tolist() == contexts[0, :chosen.text_tokens].tolist()
        assert math.isnan(text.change.iloc[0])
        np.testing.assert_allclose(text.change[1:], (after - before)[0, :len(text) - 1],
                                   atol=1e-4)


def test_log_probabilities_are_the_hooked_model_s(store, corpus):
    params = store.load(store.steps[-1])
    contexts = fixed_contexts(corpus, 0, "some", 5, SMOKE.model.context)
    places = torch.tensor([[3], [60], [1], [0], [33]])
    logits = LanguageTransformer(SMOKE.model, params)(contexts)
    wanted = logits.log_softmax(-1)[torch.arange(5)[:, None], places]
    torch.testing.assert_close(log_probabilities(params, contexts, places, SMOKE.model), wanted,
                               rtol=0, atol=2e-5)


@pytest.mark.parametrize("arguments, message", [
    (dict(layers=3), "layers must be 1 or 2, as in the paper, not 3"),
    (dict(corpus="books"), "corpus must be one of offline, toy, hub, not 'books'"),
    (dict(preset="big"), "no preset 'big'"), (dict(seed=-1), "seed must be 0 or more, not -1")])
def test_bad_input(arguments, message):
    with pytest.raises(UserError, match=message):
        results_language.language(**({"preset": "smoke", "seed": 0} | arguments))


def test_another_corpus_has_a_folder_of_its_own():
    own = results_language.language_key("laptop", 0, corpus="toy")
    assert own.settings.training.corpus == "toy"
    assert own.stem == "language-2layer-toy"
    same = results_language.language_key("laptop", 0, corpus="offline")
    assert same.stem == "language-2layer"


def test_a_corpus_is_named_by_its_tokens():
    one, same, other = (toy_corpus(9, documents=4, held_out=2, seed=seed) for seed in (0, 0, 1))
    assert corpus_hash(one) == corpus_hash(same) != corpus_hash(other)
    same.train[0] ^= 1
    assert corpus_hash(one) != corpus_hash(same)


def test_common_ngrams_are_the_most_frequent(corpus):
    counts = {}
    stream = corpus.train.tolist()
    for pair in pairwise(stream):
        if corpus.end_of_text not in pair:
            counts[pair] = counts.get(pair, 0) + 1
    found = [tuple(pair) for pair in common_ngrams(corpus, 2, 10).tolist()]
    assert len(set(found)) == 10
    assert [counts[pair] for pair in found] == sorted(counts.values(), reverse=True)[:10]
    with pytest.raises(UserError, match="sequences of 2 tokens, not 99999; ask for fewer"):
        common_ngrams(corpus, 2, 99_999)


def test_onset_by_hand():
    steps = [0, 10, 20, 30, 40]
    assert onset([5.0, 1.0, 1.1, 1.2, 2.0], steps) == 20  # the fall before does not count
    assert onset([0.0, 0.0, 0.0, 0.0, 1.0], steps) == 40
    assert onset([1.0, 0.8, 0.9, 1.1, 2.0], steps) == 30
    assert onset([1.0, 0.8, 1.04, 1.1, 2.0], steps, start=1.0) == 30


def test_tokens_as_text():
    ids = load_tokenizer(5000).encode("a line\nand more")
    assert "".join(token_texts(ids, 5000, "offline")) == "a line\nand more"
    assert context_of(" ".join(map(str, ids)), 5000, "offline") == "a line\u21b5and[ more]"
    assert context_of("7 12", 64, "toy") == "7 [12 ]"


def test_what_is_said_fits_a_page(capsys):
    say("a:", "word " * 40, 3)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 86 and " ".join(" ".join(lines).split()) == (
        "a: " + "word " * 40 + "3")


def test_too_little_text_is_told_before_training(monkeypatch, tmp_path):
    """Of 100,000 contexts asked for, the toy has a few hundred."""
    many = replace(presets.SMOKE, name="many", language=replace(
        SMOKE, metrics=replace(SMOKE.metrics, contexts=100_000)))
    monkeypatch.setitem(presets.PRESETS, "many", many)
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(results_language, "train", None)  # calling it would raise
    with pytest.raises(UserError, match="the validation split has"):
        results_language.language("many", 0, True, 2)


def test_the_stored_seed_for_a_page_of_both_models(monkeypatch, tmp_path):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(identities, "COMMITTED", tmp_path / "committed")
    assert results_language.stored_seed("smoke", 5) == 5  # none is: its own seed is asked for
    for root, seed in ((tmp_path, 3), (tmp_path / "committed", 2)):
        place = root / "smoke" / f"language-2layer-seed{seed}"
        place.mkdir(parents=True)
        (place / "manifest.json").touch()
    (tmp_path / "smoke" / "language-2layer-seed1").mkdir()  # not finished
    assert [results_language.stored_seed("smoke", seed) for seed in (1, 2, 3)] == [2, 2, 3]
