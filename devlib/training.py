"""Training: one straight loop, resumable at any moment (the models' own trainers are in
devlib.regression.train and devlib.language.train)."""

import time
from pathlib import Path

import torch
from tqdm import tqdm

from devlib.checkpoints import CheckpointStore
from devlib.devices import move
from devlib.errors import CheckpointError
from devlib.fast import mean_gradient
from devlib.files import settings_hash
from devlib.locks import locked
from devlib.resume import load_state, save_state
from devlib.sampling.model import Layout
from devlib.settings import as_dict
from devlib.steps import schedule

RESUME = "resume.safetensors"
SAVE_EVERY = 30  # seconds; a kill loses at most this much work


class Resumable:
    """What the trainers share: flat parameters `w`, their `optimizer`, and the `step`, the updates
    taken. A trainer sets `step`, and `compile` for `hold`."""

    def hold(self, params: dict, loss, microbatch):
        """Makes `params` one vector w (P,), with views of it by name, and the gradient of the
        mean of `loss(params, batch)`, taken in slices of `microbatch` samples (devlib.fast)."""
        self.layout = Layout.of(params)
        self.w = self.layout.flatten(params)  # (P,)
        self.params = self.layout.unflatten(self.w)  # views of it, by name

        def mean_loss(w, batch):
            return loss(self.layout.unflatten(w), batch).mean()

        self._gradient = mean_gradient(mean_loss, microbatch, self.compile)

    def save_state(self, path, identity, **more):
        """All that the next update depends on, in one atomic file; `more` facts are strings.
        Batches need no saving: they are a function of the step."""
        save_state(path, {"w": self.w, **self.optimizer.state[self.w]},
                   {"run": identity, "step": str(self.step), **more})

    def load_state(self, path, identity) -> dict:
        """The inverse of `save_state`; returns the facts. Raises CheckpointError if the file is
        not this run's."""
        tensors, facts = load_state(path, identity)
        self.w.copy_(tensors.pop("w"))
        self.optimizer.state[self.w] = move(tensors, self.w.device)
        self.step = int(facts["step"])
        return facts


def without_stop(training) -> dict:
    """Training settings but for where the run ends: it can be prolonged."""
    return {name: value for name, value in as_dict(training).items() if name != "stop"}


def run(make_trainer, who, training, directory, *, threads=1,
        save_every=SAVE_EVERY) -> CheckpointStore:
    """The checkpoints of the run that the identity `who` names, trained as far as they are
    missing: up to `training.stop`, on the schedule of `training`. Raises CheckpointError if the
    run there is a longer one.

    One process trains a run at a time; another waits. `make_trainer()` gives a trainer at step 0,
    a `Resumable` with `seed`, `update` and `facts`. For the rest see `train`.
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
    missing = {step for step in wanted if not (store.has(step) or store.left(step))}
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
