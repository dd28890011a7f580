"""Training of the language models (F.1.3), on the loop of devlib.training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from devlib.checkpoints import CheckpointStore
from devlib.devices import device, is_gpu, move
from devlib.errors import UserError
from devlib.fast import COMPILE_FROM
from devlib.language.model import check_precision, fast_precision, microbatch, per_sample_loss
from devlib.language.parameters import check_model, initial_parameters
from devlib.settings import LanguageSettings, as_dict
from devlib.training import SAVE_EVERY, Resumable, run, without_stop


@dataclass
class LanguageTrainer(Resumable):
    """Parameters and AdamW of one run, able to take one update."""

    settings: LanguageSettings
    seed: int
    batches: Callable  # step -> tokens (batch, context)
    precision: str
    step: int = 0  # updates taken
    compile: bool | None = None  # None: on a GPU, if the run is long enough to pay for it
    where: str = "auto"  # the device (devlib.devices)

    def __post_init__(self):
        model, training = self.settings.model, self.settings.training
        self.where = device(self.where)
        if self.compile is None:
            self.compile = is_gpu(self.where) and training.stop >= COMPILE_FROM
        params = move(initial_parameters(model, self.seed), self.where)
        self.hold(params, per_sample_loss(model, self.precision),
                  microbatch(model.context, self.where))
        self.optimizer = torch.optim.AdamW([self.w], lr=training.lr, fused=True,
                                           betas=(training.beta1, training.beta2),
                                           weight_decay=training.weight_decay)

    def update(self) -> torch.Tensor:
        """Takes update `step` on its batch; returns the loss before it."""
        training = self.settings.training
        tokens, shape = self.batches(self.step), (training.batch, self.settings.model.context)
        if tuple(tokens.shape) != shape:
            raise UserError(f"batch {self.step} has shape {tuple(tokens.shape)}, not {shape}: "
                            "contexts and the model's context")
        self.optimizer.param_groups[0]["lr"] = learning_rate(training, self.step)
        self.w.grad, loss = self._gradient(self.w, move((tokens,), self.where))
        self.optimizer.step()
        self.step += 1
        return loss

    def facts(self, loss) -> dict:
        """What the manifest says of a checkpoint taken after the update with that loss."""
        return {"train_loss": float(loss), "precision": self.precision}


def learning_rate(training, step) -> float:
    """eta, reached in a straight line over the first `warmup` updates."""
    return training.lr * min(1.0, (step + 1) / max(1, training.warmup))


def identity(settings: LanguageSettings, seed, data) -> dict:
    """What makes two training runs the same run: they may share checkpoints. `data` names the
    text that the batches are made of, such as its hash."""
    return {"kind": "language", "seed": seed, "data": data, "model": as_dict(settings.model),
            "training": without_stop(settings.training)}


def train(settings: LanguageSettings, seed, batches, data, directory, *, precision=None, threads=1,
          save_every=SAVE_EVERY) -> CheckpointStore:
    """Trains to `settings.training.stop` on `batches(step)`, tokens (batch, context), and returns
    the checkpoints, continuing whatever the directory holds of the same run.

    `precision` is "float32" or "bfloat16"; None takes the faster one of what computes
    (`fast_precision`). Killed at any moment, a run loses at most `save_every` seconds of work and
    ends bit-identical to an unbroken one on the same machine, with the same precision and threads.
    These three may change on the way, as the manifest then says: it is still the same run.
    """
    check_model(settings.model)
    precision = precision or fast_precision()
    check_precision(precision)
    return run(lambda: LanguageTrainer(settings, seed, batches, precision),
               identity(settings, seed, data), settings.training, directory, threads=threads,
               save_every=save_every)
