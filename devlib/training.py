"""Training: one straight loop, resumable at any moment, and the regression transformer's trainer
(the language models' is in devlib.training_language)."""

import functools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.func import functional_call
from tqdm import tqdm

from devlib.checkpoints import CheckpointStore
from devlib.devices import device, is_gpu, move
from devlib.errors import CheckpointError
from devlib.fast import COMPILE_FROM, Ahead, cache_slice, mean_gradient
from devlib.files import settings_hash
from devlib.locks import locked
from devlib.models.regression import MICROBATCH, RegressionTransformer
from devlib.parameters import Layout
from devlib.presets import RegressionSettings, as_dict
from devlib.resume import load_state, save_state
from devlib.rng import stream_seed
from devlib.steps import schedule
from devlib.tasks import squared_errors, task_set, training_batch

RESUME = "resume.safetensors"
SAVE_EVERY = 30  # seconds; a kill loses at most this much work


def build_model(settings: RegressionSettings, seed) -> RegressionTransformer:
    """The untrained model of a seed: torch's default initialisation, from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init"))  # torch's layers take no generator
        return RegressionTransformer(settings.model, settings.task)


def per_sample_loss(model):
    """The model's loss as a function of parameters: loss(params, (xs, ys)) -> (B,), the squared
    error averaged over the K positions (eq. 2). What training and SGLD both descend."""
    def loss(params, batch):
        return squared_errors(functional_call(model, params, batch), batch[1]).mean(-1)
    return loss


# One of each a process, so that all who measure a model compile its step once.


@functools.lru_cache(maxsize=4)
def model_frame(settings: RegressionSettings) -> RegressionTransformer:
    """The model as a frame for parameters: its own weights are not used."""
    return build_model(settings, seed=0)


@functools.lru_cache(maxsize=4)
def model_loss(settings: RegressionSettings):
    """The `per_sample_loss` of that frame, the same function each time."""
    return per_sample_loss(model_frame(settings))


@dataclass
class Trainer:
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
        self.layout = Layout.of(dict(model.named_parameters()))
        self.w = self.layout.flatten(dict(model.named_parameters()))  # (P,)
        self.params = self.layout.unflatten(self.w)  # views of it, by name
        self.optimizer = torch.optim.Adam([self.w], lr=training.max_lr,
                                          betas=(training.beta1, training.beta2), fused=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=training.max_lr, total_steps=training.steps,
            pct_start=training.pct_start, anneal_strategy="linear", cycle_momentum=False,
            div_factor=training.div_factor, final_div_factor=training.div_factor)
        loss = per_sample_loss(model)

        def mean_loss(w, batch):
            return loss(self.layout.unflatten(w), batch).mean()

        self._gradient = mean_gradient(mean_loss, cache_slice(MICROBATCH, self.where),
                                       self.compile)
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
        """All that the next update depends on, in one atomic file. Batches need no saving: they
        are a function of (seed, step)."""
        schedule_state = {key: value for key, value in self.scheduler.state_dict().items()
                          if isinstance(value, int | float | list)}
        save_state(path, {"w": self.w, **self.optimizer.state[self.w]},
                   {"run": identity, "step": str(self.step),
                    "scheduler": json.dumps(schedule_state)})

    def load_state(self, path, identity):
        """The inverse of `save_state`. Raises CheckpointError if the file is not this run's."""
        tensors, facts = load_state(path, identity)
        self.w.copy_(tensors.pop("w"))
        self.optimizer.state[self.w] = move(tensors, self.where)
        self.step = int(facts["step"])
        self.scheduler.load_state_dict(json.loads(facts["scheduler"]))
        for group, lr in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(),
                             strict=True):
            group["lr"] = lr


def identity(settings: RegressionSettings, seed, task_count=None) -> dict:
    """What makes two training runs the same run: they may share checkpoints."""
    who = {"kind": "regression", "seed": seed, "task": as_dict(settings.task),
           "model": as_dict(settings.model), "training": without_stop(settings.training)}
    return who if task_count is None else who | {"task_count": task_count}


def without_stop(training) -> dict:
    """Training settings but for where the run ends: it can be prolonged."""
    return {name: value for name, value in as_dict(training).items() if name != "stop"}


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


def run(make_trainer, who, training, directory, *, threads=1,
        save_every=SAVE_EVERY) -> CheckpointStore:
    """The checkpoints of the run that the identity `who` names, trained as far as they are
    missing: up to `training.stop`, on the schedule of `training`. Raises CheckpointError if the
    run there is a longer one.

    One process trains a run at a time; another waits. `make_trainer()` gives a trainer at step 0,
    with what `Trainer` has: `seed`, `step`, `params`, `update`, `facts`,
    `save_state` and `load_state`. For the rest see `train`.
    """
    with locked(directory):
        return _go_on(make_trainer, who, training, directory, threads, save_every)


def _go_on(make_trainer, who, training, directory, threads, save_every):
    store = CheckpointStore(directory, who)
    wanted = schedule(training.steps, training.log_checkpoints, training.linear_checkpoints,
                      training.stop)
    if store.steps and store.steps[-1] >= training.stop:
        raise CheckpointError(f"{directory} holds a run with other settings: it goes on to step "
                              f"{store.steps[-1]}, beyond the {training.stop} updates asked for; "
                              "name another directory, or delete it")
    missing = {step for step in wanted if not store.has(step)}
    if not missing:
        return store
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _run(make_trainer, store, missing, training.stop, Path(directory) / RESUME,
             settings_hash(who), save_every)
    finally:
        torch.set_num_threads(before)
    return store


def _run(make_trainer, store, missing, stop, resume, name, save_every):
    trainer = make_trainer()
    if resume.exists():
        trainer.load_state(resume, name)
    if trainer.step > min(missing):  # a checkpoint was deleted since: make it again
        trainer = make_trainer()
    saved = time.monotonic()
    bar = tqdm(total=stop, initial=trainer.step, desc=f"training, seed {trainer.seed}",
               unit="step", disable=None, mininterval=1)
    while trainer.step < stop:
        loss = trainer.update()
        done = trainer.step - 1  # the checkpoint of step s is taken after update s
        if done in missing:
            store.save(done, trainer.params, **trainer.facts(loss))
        if time.monotonic() - saved > save_every or trainer.step == stop:
            trainer.save_state(resume, name)
            saved = time.monotonic()
        bar.update()
    bar.close()
