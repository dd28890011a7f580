"""How small can a language model be and still show the stages? Short runs of several sizes, rates
and batches on the offline corpus, one thread each, into data/bench/pilots.csv: the settings of the
presets were chosen from them. It takes three quarters of an hour; every run ends after so many CPU
seconds, so the steps reached depend on the machine."""

import itertools
import sys

import pandas as pd
import torch
from tqdm import tqdm

from companion.corpus.contexts import fixed_contexts, training_batch
from companion.corpus.corpora import load_corpus
from companion.results import DIGITS
from devlib.files import write_atomic
from devlib.language.behaviour import ablate_positions
from devlib.language.model import token_losses
from devlib.language.structure import heads
from devlib.language.train import LanguageTrainer
from devlib.settings import LanguageMetrics, LanguageModel, LanguageSettings, LanguageTraining
from tests.bench.measure import DATA, cpu

# name: (embed_dim, heads, head_dim, vocabulary, context, batch, lr, warmup, CPU minutes)
PILOTS = {
    "paper's model, slow": (256, 8, 32, 5000, 256, 8, 1e-3, 0, 6),
    "paper's model": (256, 8, 32, 5000, 256, 8, 3e-3, 300, 6),
    "paper's model, fast": (256, 8, 32, 5000, 256, 8, 1e-2, 500, 2),
    "paper's model, batch halved": (256, 8, 32, 5000, 256, 4, 3e-3, 300, 3),
    "small": (64, 4, 16, 1024, 128, 32, 4e-3, 100, 4),
    "small, wide heads, fast": (64, 2, 32, 1024, 128, 32, 1e-2, 200, 3),
    "small, wide heads, batch quartered": (64, 2, 32, 1024, 128, 8, 4e-3, 100, 3),
    "middle": (128, 4, 32, 1024, 256, 16, 4e-3, 100, 4),
}
SEED, SPACING = 0, 1.18  # a look at least so much later than the one before
CHOSEN = LanguageMetrics(previous_sequences=300, prefix_sequences=200)
TOKENS = 2**15  # of the validation split


def settings(name):
    """The settings of a pilot."""
    width, count, head, vocabulary, context, batch, lr, warmup, _ = PILOTS[name]
    return LanguageSettings(
        model=LanguageModel(heads=count, embed_dim=width, head_dim=head, context=context,
                                    vocabulary=vocabulary, init_sd=0.8 / width**0.5),
        training=LanguageTraining(corpus="offline", batch=batch, lr=lr, warmup=warmup))


def look(params, model, contexts):
    """Loss, what positions are worth, and the best score of a head of each layer."""
    losses = token_losses(params, contexts, model)
    worth = token_losses(ablate_positions(params), contexts, model).mean() - losses.mean()
    table = pd.DataFrame(heads(params, model, CHOSEN, SEED)).groupby("layer")[
        ["previous", "prefix"]].max()
    return {"loss": float(losses.mean()), "positions": float(worth),
            **{f"{score}_{layer}": table[score][layer] for score in table for layer in (1, 2)}}


def pilot(name, minutes=None) -> list[dict]:
    """One row a look."""
    chosen = settings(name)
    model, batch = chosen.model, chosen.training.batch
    corpus = load_corpus("offline", model.vocabulary)
    contexts = fixed_contexts(corpus, SEED, "pilot", TOKENS // model.context, model.context)
    trainer = LanguageTrainer(
        chosen, SEED, lambda step: training_batch(corpus, SEED, step, batch, model.context),
        "float32")
    facts = {"pilot": name, "embed_dim": model.embed_dim, "heads": model.heads,
             "vocabulary": model.vocabulary, "context": model.context, "batch": batch,
             "lr": chosen.training.lr, "warmup": chosen.training.warmup}
    limit, spent, due, rows = 60 * (minutes or PILOTS[name][-1]), 0.0, 0, []
    for step in itertools.count():
        if step >= due or spent >= limit:
            rows.append({**facts, "step": step, "seconds": round(spent), **look(
                {key: value.detach().clone() for key, value in trainer.params.items()}, model,
                contexts)})
            due = max(step + 50, int(step * SPACING))
        if spent >= limit:
            return rows
        spent += cpu(trainer.update)[1]


def main(directory=DATA, minutes=None):
    """All pilots, one after another."""
    torch.set_num_threads(1)
    rows = [row for name in tqdm(PILOTS, desc="pilots", disable=None)
            for row in pilot(name, minutes)]
    table = pd.DataFrame(rows).to_csv(index=False, float_format=DIGITS)
    write_atomic(directory / "pilots.csv", table.encode())
    print(f"{directory / 'pilots.csv'}", file=sys.stderr)
