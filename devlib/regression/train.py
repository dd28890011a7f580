"""Training of the regression transformer (F.2), on the loop of devlib.training."""

import json
from dataclasses import dataclass

import torch

from devlib.checkpoints import CheckpointStore
from devlib.devices import device, is_gpu, move
from devlib.fast import COMPILE_FROM, Ahead, cache_slice
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import task_set, training_batch
from devlib.settings import RegressionSettings, as_dict
from devlib.training import SAVE_EVERY, Resumable, run, without_stop


@dataclass
class Trainer(Resumable):
    """Model, Adam and OneCycleLR of one run, able to take one update."""

    settings: RegressionSettings
    seed: int
    step: int = 0  # updates taken
    compile: bool | None = None  # None: if the run is long enough to pay for it
    tasks: torch.Tensor | None = None  # (M, D): the finite set that tasks come from (D.1.1)
    where: str = "auto"  # the device (devlib.devices)

    def __post_init__(self):
        training = self.settings.training
        if self.compile is None:
            self.compile = training.stop >= COMPILE_FROM
        self.where = device(self.where)
        model = build_model(self.settings, self.seed).to(self.where)
        self.hold(dict(model.named_parameters()), per_sample_loss(model),
                  cache_slice(MICROBATCH, self.where))
        self.optimizer = torch.optim.Adam([self.w], lr=training.max_lr,
                                          betas=(training.beta1, training.beta2), fused=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=training.max_lr, total_steps=training.steps,
            pct_start=training.pct_start, anneal_strategy="linear", cycle_momentum=False,
            div_factor=training.div_factor, final_div_factor=training.div_factor)
        self._batch = Ahead(self._draw) if is_gpu(self.where) else self._draw

    def _draw(self, step):
        return training_batch(self.seed, step, self.settings.training.batch, self.settings.task,
                              self.tasks)

    def update(self) -> torch.Tensor:
        """Takes update `step` on its batch; returns the loss before it."""
        batch = self._batch(self.step)
        self.w.grad, loss = self._gradient(self.w, move(batch, self.where))
        self.optimizer.step()
        self.step += 1
        if self.step < self.settings.training.steps:
            self.scheduler.step()
        return loss

    def facts(self, loss) -> dict:
        """What the manifest says of a checkpoint taken after the update with that loss."""
        return {"train_loss": float(loss)}

    def save_state(self, path, identity):
        """All that the next update depends on, in one atomic file."""
        schedule_state = {key: value for key, value in self.scheduler.state_dict().items()
                          if isinstance(value, int | float | list)}
        super().save_state(path, identity, scheduler=json.dumps(schedule_state))

    def load_state(self, path, identity):
        """The inverse of `save_state`. Raises CheckpointError if the file is not this run's."""
        facts = super().load_state(path, identity)
        self.scheduler.load_state_dict(json.loads(facts["scheduler"]))
        for group, lr in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(),
                             strict=True):
            group["lr"] = lr


def identity(settings: RegressionSettings, seed, task_count=None) -> dict:
    """What makes two training runs the same run: they may share checkpoints."""
    who = {"kind": "regression", "seed": seed, "task": as_dict(settings.task),
           "model": as_dict(settings.model), "training": without_stop(settings.training)}
    return who if task_count is None else who | {"task_count": task_count}


def train(settings: RegressionSettings, seed, directory, *, task_count=None, compile=None,
          save_every=SAVE_EVERY) -> CheckpointStore:
    """Trains to `settings.training.stop` and returns the checkpoints, continuing whatever the
    directory holds of the same run. With a `task_count` tasks come from a finite set of so many
    (D.1.1), else each context has its own.

    Killed at any moment, it loses at most `save_every` seconds of work, and the resumed run ends
    bit-identical to an unbroken one on the same machine. One torch thread: at this width a second
    one gains little, and the other core is free for the LLC.
    """
    tasks = None if task_count is None else task_set(seed, task_count, settings.task)
    return run(lambda: Trainer(settings, seed, compile=compile, tasks=tasks),
               identity(settings, seed, task_count), settings.training, directory,
               save_every=save_every)
