"""The work of the language model's bench: what both sides train, and on which tokens."""

import torch

from devlib.rng import generator
from devlib.settings import LanguageModel, LanguageSettings, LanguageTraining

SEED = 0
SETTINGS = LanguageSettings(model=LanguageModel(context=256), training=LanguageTraining(batch=16))


def batch(step):
    """Tokens (batch, context), even over the vocabulary: speed does not depend on them."""
    shape = (SETTINGS.training.batch, SETTINGS.model.context)
    gen = generator(SEED, "bench", step)
    return torch.randint(SETTINGS.model.vocabulary, shape, generator=gen)
