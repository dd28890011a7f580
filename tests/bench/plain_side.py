"""The plain twin of training the regression transformer, as a reader of F.2.1 would write it:
eager, all 16 tokens, torch's own layers, plain Adam. Run by peer.py by this Python, in a process of
its own: what the library asks of the C library is not for it.
"""

import functools

import torch

from companion import presets
from devlib.regression.model import build_model
from devlib.regression.task import training_batch
from devlib.settings import RegressionSettings
from tests.bench import measure
from tests.bench.serving import serve
from tests.plain_twin import PlainTransformer


class PlainTrainer:
    """The same run, as written without a thought of speed."""

    def __init__(self, settings: RegressionSettings, seed):
        self.settings, self.seed, self.step = settings, seed, 0
        training = settings.training
        self.model = PlainTransformer(settings.model, settings.task)
        self.model.load_state_dict(build_model(settings, seed).state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.max_lr,
                                          betas=(training.beta1, training.beta2))
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=training.max_lr, total_steps=training.steps,
            pct_start=training.pct_start, anneal_strategy="linear", cycle_momentum=False,
            div_factor=training.div_factor, final_div_factor=training.div_factor)

    def update(self):
        xs, ys = training_batch(self.seed, self.step, self.settings.training.batch,
                                self.settings.task)
        self.optimizer.zero_grad()
        loss = (self.model(xs, ys) - ys).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return loss.detach()


@functools.cache
def trainer() -> PlainTrainer:
    return PlainTrainer(presets.PAPER.regression, 0)


def losses(updates):
    """Of the next so many updates."""
    return [float(trainer().update()) for _ in range(updates)]


def rate(seconds):
    """Updates a CPU second."""
    return measure.rate(trainer().update, seconds)


if __name__ == "__main__":
    serve(losses, rate)
