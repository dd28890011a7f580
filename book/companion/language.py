"""The tables of a language run: one function a table, one row or more a checkpoint."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from companion.artefact import plain_llc, running_init_llc
from companion.checkpoint_rows import block_rows, llc_row
from companion.corpus.contexts import fixed_contexts
from companion.corpus.corpora import load_corpus, may_be_quoted
from companion.corpus.probes import make_probes
from companion.corpus.token_counts import common_ngrams
from companion.corpus.tokenizer import load_tokenizer
from companion.curve import rows, tables
from companion.measurements import version_key
from devlib.devices import device, move, to_numpy
from devlib.essential import principal_path
from devlib.language.behaviour import (
    behaviour,
    log_probabilities,
    loss_changes,
    most_changed,
    random_places,
)
from devlib.language.model import per_sample_loss
from devlib.language.structure import composition, heads, positions, structure
from devlib.means import keeping_blocks
from devlib.rng import generator
from devlib.settings import LanguageSettings, as_dict
from devlib.stages import find_stages
from devlib.steps import thin

SHOWN_BEFORE = 16  # tokens kept with each most changed one, itself included
REPEATED = 12  # tokens of a random sequence that is shown twice, for attention patterns
SEQUENCES = 64  # of these, over which a pattern is a mean
CHANGING = ("loss", "icl", "ablation", "bigram_excess")  # the claims judge changes of these


def metric_tables(store, steps, settings: LanguageSettings, seed, directory) -> dict:
    """"behaviour" and "structure", one row a step; "blocks", for the errors of changes of CHANGING,
    one row a metric and step; "heads", one row a head and step; with several layers "composition",
    one row a pair of heads and step; "positions", one row a position of W_pos, at fewer steps."""
    found = tables(functools.partial(measure_metrics, settings, seed), store, steps, directory,
                   {"corpus": settings.training.corpus, "metrics": as_dict(settings.metrics),
                    "seed": seed, **version_key("language metrics")}, "metrics of checkpoints")
    shown = thin(steps, settings.evaluation.position_checkpoints)
    kept = found["positions"].step.isin(shown)
    found["positions"] = found["positions"][kept].reset_index(drop=True)
    return {name: table for name, table in found.items() if len(table)}


def llc_table(store, steps, settings: LanguageSettings, seed, directory) -> pd.DataFrame:
    """The LLC curve: one `llc_row` a step, with `llc_running` and `sd_running`, what the authors'
    running estimator makes of its draws, and `llc_plain`, which differs from that in the init loss
    alone (companion.artefact). The same seed at every checkpoint
    gives each the same batches and noise (A.5.2)."""
    return rows(functools.partial(measure_llc, settings, seed), store, steps, directory,
                {"corpus": settings.training.corpus, "llc": as_dict(settings.llc), "seed": seed,
                 **version_key("language LLC")},
                "LLC of checkpoints")


def check_table(store, steps, settings: LanguageSettings, seed, directory) -> pd.DataFrame:
    """The LLC once more at a few of the steps, the first and the last among them (a single one is
    the last), by as many chains and draws as the paper takes, all of them averaged as there."""
    chosen = settings.evaluation
    llc = replace(settings.llc, chains=chosen.check_chains, draws=chosen.check_draws, burn_in=0)
    count = chosen.check_checkpoints
    some = steps[-1:] if count == 1 else thin(steps, count)
    return llc_table(store, some, replace(settings, llc=llc), seed, directory)


def pattern_table(store, heads, settings: LanguageSettings, seed, directory) -> pd.DataFrame:
    """Mean attention patterns on random sequences shown twice, at a few of the steps of `heads`
    (the table), of those two heads that score most for the previous token and for prefix matching
    at the last: one row a head, query and key. An induction head looks from each token's second
    showing to what followed its first."""
    steps = thin(sorted(heads.step.unique().tolist()), settings.evaluation.position_checkpoints)
    found = rows(functools.partial(measure_patterns, settings, seed), store, steps, directory,
                 {"seed": seed, "table": "patterns", **version_key("language patterns")},
                 "attention patterns of checkpoints")
    last = heads[heads.step == steps[-1]].set_index(["layer", "head"])
    leading = {last.previous.idxmax(), last.prefix.idxmax()}
    return pd.concat([found[(found.layer == layer) & (found["head"] == head)]
                      for layer, head in sorted(leading)], ignore_index=True)


def path_tables(store, steps, settings: LanguageSettings, seed) -> dict:
    """Essential dynamics: "path" and "explained", as for regression. The outputs are the log
    probabilities of every token, at one place in each of a fixed set of validation contexts."""
    context, count = settings.model.context, settings.evaluation.probes
    contexts = move(fixed_contexts(language_corpus(settings), seed, "probes", count, context))
    places = move(random_places(generator(seed, "probe places"), count, 1, context))
    outputs = np.stack([to_numpy(log_probabilities(
        move(store.load(step)), contexts, places, settings.model)) for step in steps])
    return principal_path(steps, outputs).tables()


def change_tables(store, llc, loss, settings: LanguageSettings, seed) -> dict:
    """What each stage changed in the predictions (C.1.4, Fig. C.1): "changes", the most changed
    tokens of a stage with the token ids before them, and "texts", the change at every token of a
    few contexts. A change is the loss at the stage's end minus that at its start, nats. The texts
    are such as may be quoted (companion.corpus.corpora.may_be_quoted)."""
    chosen = settings.evaluation
    corpus, length = language_corpus(settings), settings.model.context
    contexts = move(fixed_contexts(corpus, seed, "changes", chosen.change_contexts, length,
                                   among=may_be_quoted(corpus, "validation", length)))
    _, _, stages = find_stages(llc, loss, settings.stages, "LM")
    changes, texts = [], []
    for stage in stages.itertuples():
        change = loss_changes(move(store.load(stage.start)), move(store.load(stage.end)),
                              contexts, settings.model)
        for place in most_changed(change, chosen.changes):
            tokens = contexts[place["context"], :place["position"] + 1].tolist()
            changes.append({"stage": stage.stage, **place,
                            "tokens": " ".join(map(str, tokens[-SHOWN_BEFORE:]))})
        for number in range(chosen.texts):
            values = change[number, :chosen.text_tokens - 1].tolist()
            texts += [{"stage": stage.stage, "text": number, "position": position, "token": token,
                       "change": value} for position, (token, value) in enumerate(
                           zip(contexts[number].tolist(), [float("nan"), *values], strict=False))]
    return {"changes": pd.DataFrame(changes), "texts": pd.DataFrame(texts)}


# What is measured at one checkpoint: the last argument is its parameters. The data are made in the
# process that measures.

def measure_metrics(settings, seed, params):
    model, chosen = settings.model, settings.metrics
    with keeping_blocks() as kept:
        found = behaviour(params, model, chosen, probes(settings, seed))
    return {"behaviour": found, "blocks": block_rows(CHANGING, kept),
            "structure": structure(params, chosen),
            "heads": heads(params, model, chosen, seed),
            "composition": composition(params, model),
            "positions": positions(params, chosen)}


def measure_patterns(settings, seed, params):
    """One row a head, query and key of the mean pattern on sequences shown twice, bos first."""
    from companion.hooked import LanguageTransformer  # TransformerLens, only where it is used

    model = settings.model
    tokens = torch.randint(model.vocabulary - 1, (SEQUENCES, REPEATED),
                           generator=generator(seed, "patterns"))
    bos = torch.full((SEQUENCES, 1), model.vocabulary - 1)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.layers)]
    found = LanguageTransformer(model, params).activations(
        move(torch.cat([bos, tokens, tokens], 1)), *names)
    return [{"layer": layer, "head": head, "query": query, "key": key,
             "attention": round(share, 4)}
            for layer, name in enumerate(names, 1)
            for head, pattern in enumerate(to_numpy(found[name].mean(0)).tolist(), 1)
            for query, row in enumerate(pattern)
            for key, share in enumerate(row[:query + 1])]


def measure_llc(settings, seed, params):
    return llc_row(model_loss(settings.model), params, llc_data(settings, seed), settings.llc, seed,
                   also=_running, compile=False, vectorised=False)


def _running(draws):
    mean, sd = running_init_llc(draws)
    return {"llc_plain": plain_llc(draws), "llc_running": mean, "sd_running": sd}


# One of each a process, so that a curve makes its data once.

@functools.lru_cache(maxsize=2)
def language_corpus(settings):
    return load_corpus(settings.training.corpus, settings.model.vocabulary)


@functools.lru_cache(maxsize=2)
def probes(settings, seed):
    corpus = language_corpus(settings)
    return make_probes(corpus, _ngrams(corpus), settings.model.context, settings.metrics,
                       seed).on(device())


def _ngrams(corpus):
    """What gives common n-grams: the tokenizer, but for the toy corpus, whose ids are no text."""
    if corpus.kind == "toy":
        return functools.partial(common_ngrams, corpus)
    return load_tokenizer(corpus.vocabulary).ngrams


@functools.lru_cache(maxsize=2)
def model_loss(model):
    """The loss that chains read, the same function each time."""
    return per_sample_loss(model)


@functools.lru_cache(maxsize=2)
def llc_data(settings, seed):
    """The contexts that chains draw from, (n, T), alone in a tuple."""
    return (move(fixed_contexts(language_corpus(settings), seed, "llc", settings.llc.samples,
                                 settings.model.context, "train")),)


@functools.lru_cache(maxsize=2)
def unigram_loss(settings, seed) -> float:
    """The loss on the chains' contexts, in nats, of a predictor that knows the share of each token
    in the training text and nothing else. A token that is not in it counts as seen once."""
    corpus = language_corpus(settings)
    counts = np.bincount(corpus.train, minlength=corpus.vocabulary).clip(1)
    predicted = to_numpy(llc_data(settings, seed)[0][:, 1:])
    return float(-np.log(counts / counts.sum())[predicted].mean())
