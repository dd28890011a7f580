"""Training: the schedule, Adam, and a run that nothing can tear."""

import dataclasses
import functools
import math
import multiprocessing
import os
import shutil
import signal
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from companion import presets
from companion.mend import mend
from devlib import training
from devlib.checkpoints import MANIFEST, CheckpointStore
from devlib.errors import CheckpointError
from devlib.files import settings_hash
from devlib.regression import train as regression_train
from devlib.regression.model import build_model, per_sample_loss
from devlib.regression.task import training_batch
from devlib.regression.train import Trainer, identity, train
from devlib.settings import RegressionModel, RegressionSettings, RegressionTask, RegressionTraining
from devlib.steps import schedule
from devlib.training import RESUME
from tests.plain_twin import PlainTransformer

STEPS = 40
TINY = RegressionSettings(
    task=RegressionTask(task_dim=2, examples=2),
    model=RegressionModel(heads=2, embed_dim=8, mlp_dim=8),
    training=RegressionTraining(steps=STEPS, stop=STEPS, batch=8, log_checkpoints=8,
                                linear_checkpoints=4))
PAPER = presets.PAPER.regression


def cut(settings, stop):
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, stop=stop))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing interrupted, and its directory."""
    directory = tmp_path_factory.mktemp("unbroken")
    return train(TINY, 0, directory), directory


def same(one: CheckpointStore, two: CheckpointStore, steps=None):
    """Equal bit for bit: weights and training loss of each checkpoint."""
    steps = one.steps if steps is None else steps
    for step in steps:
        a, b = one.load(step), two.load(step)
        assert a.keys() == b.keys()
        assert all(a[name].equal(b[name]) for name in a), step
        assert (one.manifest["checkpoints"][str(step)]["train_loss"]
                == two.manifest["checkpoints"][str(step)]["train_loss"])
    return len(steps) > 0


def same_end(directory, other):
    """The states after the last update are equal: weights, both Adam moments, step counts. (A run
    killed between its last checkpoint and its last state is complete and needs none.)"""
    if not (directory / RESUME).exists():
        return CheckpointStore(directory).steps[-1] == STEPS - 1
    one, two = load_file(directory / RESUME), load_file(other / RESUME)
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


def saved_step(directory) -> int:
    if not (directory / RESUME).exists():
        return 0
    with safe_open(directory / RESUME, "pt") as file:
        return int(file.metadata()["step"])


# ------------------------------------------------------------------------- the schedule, Adam


def slow_lr(step, settings):
    """OneCycle in words: up in a straight line from max / div to max, which it reaches at step
    pct T - 1, then down to (max / div) / div at step T - 1."""
    low = settings.max_lr / settings.div_factor
    peak, last = settings.pct_start * settings.steps - 1, settings.steps - 1
    if step <= peak:
        return low + (settings.max_lr - low) * step / peak
    floor = low / settings.div_factor
    return settings.max_lr + (floor - settings.max_lr) * (step - peak) / (last - peak)


@pytest.mark.filterwarnings("ignore::UserWarning")  # a scheduler stepped without its optimiser
def test_learning_rate_of_the_paper():
    trainer = Trainer(PAPER, 0, compile=False)

    def lr(step):
        if step:
            trainer.scheduler.last_epoch = step - 1
            trainer.scheduler.step()
        return trainer.optimizer.param_groups[0]["lr"]

    assert lr(0) == pytest.approx(1.2e-8, rel=1e-5)  # 0.003 / 249,999
    assert lr(249_999) == pytest.approx(0.003, rel=1e-12)
    assert lr(250_000) == pytest.approx(0.003, rel=1e-5)
    assert lr(125_000) == pytest.approx(0.0015, rel=1e-5)
    assert lr(499_999) < 1e-12
    for step in schedule(500_000, 100, 100)[1:]:
        assert lr(step) == pytest.approx(slow_lr(step, PAPER.training), rel=1e-9, abs=1e-15)
    group = trainer.optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.999)  # momentum does not cycle
    assert group["weight_decay"] == 0 and not group["amsgrad"]


def test_learning_rate_that_the_updates_use():
    trainer = Trainer(TINY, 0)
    for step in range(STEPS):
        lr = trainer.optimizer.param_groups[0]["lr"]
        assert lr == pytest.approx(slow_lr(step, TINY.training), rel=1e-9, abs=1e-15)
        trainer.update()


def test_updates_are_adams():
    """Against the plain transformer's own gradients and Adam written out; a tolerance of a
    thousandth of the way that the weights have gone."""
    settings = cut(TINY, 12)
    settings = dataclasses.replace(settings, training=dataclasses.replace(
        settings.training, steps=24, batch=64))
    trainer, twin = Trainer(settings, 0), PlainTransformer(settings.model, settings.task)
    twin.load_state_dict(build_model(settings, 0).state_dict())
    twin.double()
    first = [0] * len(list(twin.parameters()))
    second, way, size = list(first), 0.0, settings.training
    for step in range(12):
        xs, ys = training_batch(0, step, size.batch, settings.task)
        loss = (twin(xs.double(), ys.double()) - ys).square().mean()
        grads = torch.autograd.grad(loss, list(twin.parameters()))
        lr = slow_lr(step, size)
        way += lr
        for i, (p, g) in enumerate(zip(twin.parameters(), grads, strict=True)):
            first[i] = size.beta1 * first[i] + (1 - size.beta1) * g
            second[i] = size.beta2 * second[i] + (1 - size.beta2) * g**2
            mean = first[i] / (1 - size.beta1 ** (step + 1))
            square = second[i] / (1 - size.beta2 ** (step + 1))
            p.data -= lr * mean / (square.sqrt() + 1e-8)
        assert float(trainer.update()) == pytest.approx(loss.item(), rel=1e-5)
        for name, p in twin.named_parameters():
            assert (trainer.params[name] - p).abs().max() < 1e-3 * way + 1e-7, (step, name)


def test_operations_that_the_benchmark_counts():
    """Its formula against torch's own count of the matrix products; attention is not among them,
    since the model does it by sums over broadcast arrays. Slices of a batch add up to it."""
    from torch.utils.flop_counter import FlopCounterMode

    from tests.bench.bench_training import flops

    for settings in (TINY, PAPER):
        trainer = Trainer(settings, 0, compile=False)
        batch = training_batch(0, 0, settings.training.batch, settings.task)
        with FlopCounterMode(display=False) as counter:
            trainer._gradient(trainer.w, batch)
        assert counter.get_total_flops() == flops(settings)["linear"]


@pytest.mark.parametrize("size", [8, 128, 256, 300])
def test_a_gradient_in_slices_is_the_gradient(size):
    """Also where the last slice is a short one; up to float32 rounding."""
    trainer = Trainer(TINY, 0)
    loss = per_sample_loss(build_model(TINY, 0))
    batch = training_batch(0, 0, size, TINY.task)
    exact, value = torch.func.grad_and_value(lambda params: loss(params, batch).mean())(
        trainer.params)
    gradient, mean = trainer._gradient(trainer.w, batch)
    assert float(mean) == pytest.approx(float(value), rel=1e-6)
    for name, part in trainer.layout.unflatten(gradient).items():
        scale = float(exact[name].abs().max())
        assert (part - exact[name]).abs().max() <= 50 * torch.finfo(torch.float32).eps * scale


def test_compile_only_where_it_pays():
    assert not Trainer(TINY, 0).compile
    assert Trainer(presets.LAPTOP.regression, 0).compile


# ------------------------------------------------------------------------------- one run


def test_checkpoint_steps_of_the_paper():
    """190 of them, as the authors' code has it."""
    log = {int(s) for s in np.logspace(0, math.log10(500_000), 100)}
    linear = {int(s) for s in np.linspace(0, 500_000, 100)}
    expected = sorted({min(s, 499_999) for s in log | linear})
    steps = schedule(500_000, 100, 100)
    assert steps == expected
    assert len(steps) == 190 and steps[0] == 0 and steps[-1] == 499_999
    assert {984, 1124, 40_292, 126_262, 318_181} <= {s + d for s in steps for d in (-112, 0)}


def test_a_run_leaves_its_checkpoints(unbroken):
    store, directory = unbroken
    assert store.steps == schedule(STEPS, 8, 4) and store.steps[-1] == STEPS - 1
    assert sorted(os.listdir(directory)) == sorted(
        [MANIFEST, RESUME, *(f"step_{step:07d}.safetensors" for step in store.steps)])
    trainer = Trainer(TINY, 0)
    for step in range(STEPS):  # checkpoint s holds the weights after update s
        loss = trainer.update()
        if step in store.steps:
            params = store.load(step)
            assert all(params[name].equal(p) for name, p in trainer.params.items())
            assert store.manifest["checkpoints"][str(step)]["train_loss"] == float(loss)


def test_two_runs_are_identical(unbroken, tmp_path):
    again = train(TINY, 0, tmp_path)
    assert again.steps == unbroken[0].steps and same(unbroken[0], again)
    assert same_end(tmp_path, unbroken[1])
    other = train(TINY, 1, tmp_path / "seed 1")
    assert not other.load(0)["embed.weight"].equal(again.load(0)["embed.weight"])


@pytest.mark.parametrize("stop", [1, 2, 17])
def test_stop_takes_the_first_part_of_the_same_run(unbroken, tmp_path, stop):
    store = train(cut(TINY, stop), 0, tmp_path)
    assert store.steps == sorted({s for s in unbroken[0].steps if s < stop} | {stop - 1})
    assert same(store, unbroken[0], [s for s in store.steps if s in unbroken[0].steps])


@pytest.mark.parametrize("stop", [20, 33])
def test_a_run_can_be_prolonged_but_not_cut(unbroken, tmp_path, stop):
    """Longer, it goes on from where it ended, to the same end as an unbroken one."""
    shorter = train(cut(TINY, stop), 0, tmp_path / "run")
    first = shorter.path(stop - 1).stat().st_mtime_ns
    longer = train(TINY, 0, tmp_path / "run")
    assert longer.path(stop - 1).stat().st_mtime_ns == first
    whole, directory = unbroken
    assert set(longer.steps) == {*whole.steps, stop - 1}
    assert same(longer, whole, whole.steps)
    assert same_end(tmp_path / "run", directory)
    with pytest.raises(CheckpointError, match="goes on to step"):
        train(cut(TINY, stop), 0, tmp_path / "run")


def test_a_finished_run_is_not_touched(unbroken, monkeypatch):
    _, directory = unbroken
    before = {file: (directory / file).stat().st_mtime_ns for file in os.listdir(directory)}
    monkeypatch.setattr(regression_train, "Trainer", None)  # calling it would raise
    assert train(TINY, 0, directory).steps == unbroken[0].steps
    assert before == {file: (directory / file).stat().st_mtime_ns for file in os.listdir(directory)}


def test_one_thread_while_training_and_as_many_as_before_afterwards(tmp_path, monkeypatch):
    before, seen = torch.get_num_threads(), []
    real = Trainer.update
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(Trainer, "update",
                            lambda self: (seen.append(torch.get_num_threads()), real(self))[1])
        train(cut(TINY, 3), 0, tmp_path)
        assert set(seen) == {1} and torch.get_num_threads() == 2
        interrupt_after(monkeypatch, 1)
        with pytest.raises(Interrupted):
            train(TINY, 0, tmp_path / "torn")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ----------------------------------------------------------------- interrupted and resumed


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, updates, each=lambda: None):
    """Trainer.update raises once it has been called `updates` times; `each` runs every time."""
    real, calls = Trainer.update, count(1)

    def update(self):
        if next(calls) > updates:
            raise Interrupted
        each()
        return real(self)

    monkeypatch.setattr(Trainer, "update", update)


@pytest.mark.parametrize("save_every", [0, 4, 7.5])
@pytest.mark.parametrize("killed_at", [6, 23, 39])
def test_at_most_save_every_seconds_are_lost(unbroken, tmp_path, monkeypatch, save_every,
                                             killed_at):
    """On a clock by which an update takes a second: what is done twice is at most save_every
    seconds and the update under way."""
    clock = SimpleNamespace(now=0.0)

    def tick():
        clock.now += 1

    with monkeypatch.context() as patch:
        patch.setattr(training, "time", SimpleNamespace(monotonic=lambda: clock.now))
        interrupt_after(patch, killed_at, tick)
        with pytest.raises(Interrupted):
            train(TINY, 0, tmp_path, save_every=save_every)
    done = saved_step(tmp_path)
    assert killed_at - (save_every + 1) <= done <= killed_at
    calls = []
    with monkeypatch.context() as patch:
        interrupt_after(patch, STEPS, lambda: calls.append(1))
        store = train(TINY, 0, tmp_path)
    assert len(calls) == STEPS - done
    assert same(unbroken[0], store) and same_end(tmp_path, unbroken[1])


def victim(directory, save_every, moment, name, number):
    """In a process of its own: trains, and kills itself with signal 9 at the number-th time that
    a file beginning with `name` is at `moment`, or that an update is done."""
    torch.set_num_threads(1)
    seen = 0

    def passing(here, file=""):
        nonlocal seen
        seen += here == moment and file.startswith(name)
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    replace, update = os.replace, Trainer.update
    writing = None  # the file that mkstemp has opened

    def named(make, *args, **kwargs):
        nonlocal writing
        handle, path = make(*args, **kwargs)
        writing = kwargs["prefix"][1:]
        return handle, path

    def half_written(path, mode):
        file = open(path, mode)  # noqa: SIM115 (the Proxy closes it)
        real = file.write

        def write(data):
            real(data[:len(data) // 2])
            file.flush()
            passing("half", writing)
            return real(data[len(data) // 2:])

        return Proxy(file, write)

    def replaced(source, target):
        passing("written", os.path.basename(target))
        replace(source, target)
        passing("replaced", os.path.basename(target))

    def updated(self):
        loss = update(self)
        passing("updated")
        return loss

    from devlib import files

    files.tempfile.mkstemp = functools.partial(named, files.tempfile.mkstemp)
    files.open, os.replace, Trainer.update = half_written, replaced, updated
    train(TINY, 0, directory, save_every=save_every)


class Proxy:
    """A file whose write is another one."""

    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["devlib.training", "torch._dynamo"])  # once for all victims
    return context


def run_victim(processes, *arguments):
    process = processes.Process(target=victim, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


MOMENTS = {
    "in the first update": (0, "updated", "", 1),
    "in an update, unsaved work behind it": (1e9, "updated", "", 20),
    "in an update, just saved": (0, "updated", "", 20),
    "first manifest half written": (0, "half", MANIFEST, 1),
    "manifest half written": (0, "half", MANIFEST, 5),
    "checkpoint half written": (0, "half", "step_", 4),
    "checkpoint written, not renamed": (0, "written", "step_", 4),
    "checkpoint there, manifest not": (0, "replaced", "step_", 4),
    "manifest there, state not": (0, "replaced", MANIFEST, 5),
    "first state half written": (0, "half", RESUME, 1),
    "state half written": (0, "half", RESUME, 15),
    "state written, not renamed": (0, "written", RESUME, 15),
    "last state not there": (1e9, "written", RESUME, 1),
    "last state there": (1e9, "replaced", RESUME, 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9(processes, unbroken, tmp_path, moment):
    assert run_victim(processes, tmp_path, *MOMENTS[moment]) == -signal.SIGKILL
    store = train(TINY, 0, tmp_path)
    assert store.steps == unbroken[0].steps
    assert same(unbroken[0], store) and same_end(tmp_path, unbroken[1])


def test_killed_again_and_again(processes, unbroken, tmp_path):
    """Every run is killed at its eleventh file; the work still gets done."""
    for attempt in count(1):
        code = run_victim(processes, tmp_path, 0, "written", "", 11)
        if code == 0:
            break
        assert code == -signal.SIGKILL and attempt < 20
    assert attempt > 4
    store = CheckpointStore(tmp_path)
    assert store.steps == unbroken[0].steps and same(unbroken[0], store)
    assert same_end(tmp_path, unbroken[1])


def test_killed_from_outside(processes, unbroken, tmp_path):
    process = processes.Process(target=victim, args=(tmp_path, 0, "never", "", 1))
    process.start()
    deadline = time.monotonic() + 60
    sign = tmp_path / unbroken[0].path(unbroken[0].steps[3]).name
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = train(TINY, 0, tmp_path)
    assert same(unbroken[0], store) and same_end(tmp_path, unbroken[1])


def test_a_deleted_checkpoint_is_made_again(unbroken, tmp_path):
    """What the message about a damaged one tells the user to do."""
    directory = tmp_path / "run"
    shutil.copytree(unbroken[1], directory)
    step = unbroken[0].steps[3]
    path = unbroken[0].path(step).name
    (directory / path).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="set it aside, then train the run again"):
        train(TINY, 0, directory).load(step)
    assert len(mend(tmp_path)) == 1
    store = train(TINY, 0, directory)
    assert same(unbroken[0], store) and same_end(directory, unbroken[1])


# ------------------------------------------------------------------- a state that is refused


@pytest.fixture
def torn(tmp_path, monkeypatch):
    """A directory whose run stopped after 20 updates."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 20)
        with pytest.raises(Interrupted):
            train(TINY, 0, tmp_path, save_every=0)
    return tmp_path


def refused(directory, why="."):
    with pytest.raises(CheckpointError, match=why) as error:
        train(TINY, 0, directory)
    assert str(directory / RESUME) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x00" * 100])
def test_a_state_that_is_no_state(torn, content):
    (torn / RESUME).write_bytes(content)
    refused(torn, "damaged")


@pytest.mark.parametrize("cut_to", [0.01, 0.5, 0.999])
def test_a_state_cut_short(torn, cut_to):
    data = (torn / RESUME).read_bytes()
    (torn / RESUME).write_bytes(data[:int(cut_to * len(data))])
    refused(torn, "damaged")


def test_a_state_with_one_changed_byte(torn):
    """Anywhere: in its header (every 11th byte) or in its numbers."""
    name = settings_hash(identity(TINY, 0))
    trainer, data = Trainer(TINY, 0), (torn / RESUME).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for place in (*range(0, header, 11), *range(header, len(data), len(data) // 50)):
        changed = bytearray(data)
        changed[place] ^= 4
        (torn / RESUME).write_bytes(changed)
        with pytest.raises(CheckpointError) as error:
            trainer.load_state(torn / RESUME, name)
        assert str(torn / RESUME) in str(error.value)
    assert trainer.step == 0
    refused(torn)
    (torn / RESUME).write_bytes(data)
    trainer.load_state(torn / RESUME, name)
    assert trainer.step == 20


def test_a_state_of_another_run(torn, tmp_path):
    train(TINY, 1, tmp_path / "other")
    shutil.copy(tmp_path / "other" / RESUME, torn / RESUME)
    refused(torn, "belongs to another run")


def test_a_run_with_other_settings(unbroken):
    for settings, seed in ((cut(TINY, 20), 0), (TINY, 1)):
        with pytest.raises(CheckpointError, match="holds a run with other settings") as error:
            train(settings, seed, unbroken[1])
        assert str(unbroken[1]) in str(error.value)


def test_a_directory_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(regression_train, "Trainer", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file/run"):
        train(TINY, 0, tmp_path / "file" / "run")


# ------------------------------------------------------------------- slow: the real thing


@pytest.mark.slow
def test_compiled_updates_are_the_eager_ones_and_repeatable():
    """Up to float32 rounding of the loss, which the first updates, at a tiny learning rate,
    cannot magnify; and two compiled trainers agree bit for bit."""
    eager, one, two = (Trainer(PAPER, 0, compile=c) for c in (False, True, True))
    for _ in range(20):
        losses = [float(trainer.update()) for trainer in (eager, one, two)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[1] == losses[2]
    assert all(one.params[name].equal(two.params[name]) for name in one.params)


@pytest.mark.slow
def test_known_answer_at_step_984(tmp_path):
    """The paper's first 985 steps, then the paper's eps, nbeta and gamma: the released runs have
    LLC 19.2 +- 0.8 there and test loss 4.165."""
    from devlib.llc import estimate_llc
    from devlib.regression.metrics import evaluate
    from devlib.regression.task import fixed_set
    from devlib.sampling import SGLD, sample_chains

    settings = cut(presets.PUBLISHED.regression, 985)
    store = train(settings, 1, tmp_path / "run")
    assert store.steps[-1] == 984
    paper = PAPER.llc
    draws = sample_chains(
        per_sample_loss(build_model(settings, 1)), store.load(984),
        fixed_set(1, "llc", 2**15, settings.task), SGLD(paper.eps, paper.nbeta, paper.gamma),
        chains=4, draws=600, burn_in=200, batch_size=128, seed=1, compile=False)
    estimate = estimate_llc(draws)
    assert estimate.mcse < 0.75 and estimate.ess > 50  # else the bar below says nothing
    assert abs(estimate.mean - 19) < 3, str(estimate)
    row = evaluate(build_model(settings, 1), store.load(984), settings, 1)
    assert abs(row["loss"] - 4.165) < 0.05 + 4 * row["loss_se"], row["loss"]
