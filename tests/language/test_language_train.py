"""Training of the language models: AdamW, and a run that can be broken off and identified."""

import math
import multiprocessing
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call
from torch.nn import functional as F

from companion import presets
from devlib.checkpoints import MANIFEST
from devlib.errors import CheckpointError, UserError
from devlib.files import settings_hash
from devlib.language import train as training_language
from devlib.language.model import fast_precision
from devlib.language.parameters import initial_parameters
from devlib.language.train import LanguageTrainer, identity, learning_rate, train
from devlib.rng import generator
from devlib.settings import (
    LanguageModel,
    LanguageSettings,
    LanguageTraining,
    LLCSettings,
    StageSettings,
    replace,
)
from devlib.steps import schedule
from devlib.training import RESUME

STEPS, SEED, DATA = 12, 0, "random tokens"
TINY = LanguageSettings(
    model=LanguageModel(heads=2, embed_dim=8, head_dim=4, context=6, vocabulary=17),
    training=LanguageTraining(steps=STEPS, stop=STEPS, batch=3, lr=0.01, warmup=4,
                              log_checkpoints=4, linear_checkpoints=3))


def batches(step):
    shape = (TINY.training.batch, TINY.model.context)
    return torch.randint(TINY.model.vocabulary, shape, generator=generator(SEED, "train", step))


def change(settings=TINY, part="training", **values):
    return replace(settings, **{part: replace(getattr(settings, part), **values)})


def run(directory, settings=TINY, seed=SEED, data=DATA, precision="float32", **others):
    return train(settings, seed, batches, data, directory, precision=precision, **others)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def unbroken(request, tmp_path_factory):
    """A run that nothing interrupted, its directory and its precision."""
    directory = tmp_path_factory.mktemp("unbroken")
    return run(directory, precision=request.param), directory, request.param


def same(one, two):
    """Equal bit for bit: weights and facts of each checkpoint, and the state after the last."""
    assert one.steps == two.steps
    for step in one.steps:
        a, b = one.load(step), two.load(step)
        assert a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a), step
        facts = [{name: value for name, value in store.manifest["checkpoints"][str(step)].items()
                  if name != "time"} for store in (one, two)]
        assert facts[0]["train_loss"] == facts[1]["train_loss"]
    states = [load_file(store.directory / RESUME) for store in (one, two)]
    assert states[0].keys() == states[1].keys()
    return all(states[0][name].equal(states[1][name]) for name in states[0])


# ------------------------------------------------------------------------------- the updates


def test_updates_are_adamws():
    """Against AdamW written out, on the gradients of the hooked model in float64; a tolerance of a
    thousandth of the way that the weights have gone."""
    from companion.hooked import LanguageTransformer

    trainer, size = LanguageTrainer(TINY, SEED, batches, "float32"), TINY.training
    twin = LanguageTransformer(TINY.model, initial_parameters(TINY.model, SEED)).double()
    params = dict(twin.named_parameters())
    first, second, way = dict.fromkeys(params, 0), dict.fromkeys(params, 0), 0.0
    for step in range(STEPS):
        tokens = batches(step)
        logits = functional_call(twin, params, (tokens,))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        grads = torch.autograd.grad(loss, list(params.values()))
        lr = 0.01 * min(1, (step + 1) / 4)
        way += lr
        assert float(trainer.update()) == pytest.approx(loss.item(), rel=1e-5)
        for (name, p), g in zip(params.items(), grads, strict=True):
            first[name] = size.beta1 * first[name] + (1 - size.beta1) * g
            second[name] = size.beta2 * second[name] + (1 - size.beta2) * g**2
            mean = first[name] / (1 - size.beta1 ** (step + 1))
            square = second[name] / (1 - size.beta2 ** (step + 1))
            p.data -= lr * (mean / (square.sqrt() + 1e-8) + size.weight_decay * p.data)
            if name.endswith("b_K"):
                continue  # its gradient is rounding, of which Adam makes steps of full length
            assert (trainer.params[name] - p).abs().max() < 1e-3 * way, (step, name)


def test_the_papers_rate_is_constant():
    training = presets.PAPER.language.training
    assert training.warmup == 0
    assert {learning_rate(training, step) for step in (0, 1, 49_999)} == {1e-3}
    group = LanguageTrainer(TINY, SEED, batches, "float32").optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.999) and group["weight_decay"] == 0.05


def test_the_papers_checkpoints_are_those_it_analysed():
    training = presets.PAPER.language.training
    steps = schedule(training.steps, training.log_checkpoints, training.linear_checkpoints)
    assert steps == [*range(0, 50_000, 100), 49_999]


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_warm_up(warmup):
    training = LanguageTraining(lr=0.1, warmup=warmup)
    rates = [learning_rate(training, step) for step in range(6)]
    expected = [0.025, 0.05, 0.075] if warmup == 4 else [0.1] * 3
    assert rates == pytest.approx(expected + [0.1] * 3)


def test_a_batch_in_slices_gives_the_same_update(monkeypatch):
    whole = LanguageTrainer(TINY, SEED, batches, "float32")
    monkeypatch.setattr(training_language, "microbatch", lambda tokens, where: 2)
    sliced = LanguageTrainer(TINY, SEED, batches, "float32")
    assert float(whole.update()) == pytest.approx(float(sliced.update()), rel=1e-6)
    scale = whole.w.grad.abs().max()
    assert (whole.w.grad - sliced.w.grad).abs().max() < 1e-6 * scale


# ----------------------------------------------------------------------------------- one run


def test_a_run_leaves_its_checkpoints(unbroken):
    store, directory, precision = unbroken
    assert store.steps == schedule(STEPS, 4, 3) and store.steps[-1] == STEPS - 1
    assert sorted(os.listdir(directory)) == sorted(
        [MANIFEST, RESUME, *(f"step_{step:07d}.safetensors" for step in store.steps)])
    trainer = LanguageTrainer(TINY, SEED, batches, precision)
    for step in range(STEPS):  # checkpoint s holds the weights after update s
        loss = trainer.update()
        if step in store.steps:
            params, facts = store.load(step), store.manifest["checkpoints"][str(step)]
            assert all(params[name].equal(p) for name, p in trainer.params.items())
            assert facts["train_loss"] == float(loss) and facts["precision"] == precision


def test_two_runs_are_identical(unbroken, tmp_path):
    store, _, precision = unbroken
    assert same(store, run(tmp_path / "again", precision=precision))
    other = run(tmp_path / "seed 1", seed=1, precision=precision)
    assert not other.load(0)["embed.W_E"].equal(store.load(0)["embed.W_E"])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("killed_at", [1, 7, 11])
def test_resumed_it_ends_as_the_unbroken_run(unbroken, tmp_path, killed_at):
    store, _, precision = unbroken
    calls = []

    def torn(step):
        if len(calls) == killed_at:
            raise Interrupted
        calls.append(step)
        return batches(step)

    with pytest.raises(Interrupted):
        train(TINY, SEED, torn, DATA, tmp_path, precision=precision, save_every=0)
    done = len(calls)
    again = train(TINY, SEED, lambda step: calls.append(step) or batches(step), DATA, tmp_path,
                  precision=precision)
    assert calls == [*range(done), *range(done, STEPS)]  # nothing twice, nothing left out
    assert same(store, again)


def victim(directory, precision):
    """In a process of its own: trains, and kills itself with signal 9 before update 8."""
    torch.set_num_threads(1)

    def deadly(step):
        if step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return batches(step)

    train(TINY, SEED, deadly, DATA, directory, precision=precision, save_every=1e9)


def test_kill_9(unbroken, tmp_path):
    """With work behind it that no state holds, but some checkpoint does."""
    store, _, precision = unbroken
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["devlib.language.train", "torch._dynamo"])
    process = context.Process(target=victim, args=(tmp_path, precision))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / RESUME).exists()
    assert same(store, run(tmp_path, precision=precision))


def test_a_finished_run_is_not_touched(unbroken, monkeypatch):
    _, directory, _ = unbroken
    before = {file: (directory / file).stat().st_mtime_ns for file in os.listdir(directory)}
    monkeypatch.setattr(training_language, "LanguageTrainer", None)  # calling it would raise
    run(directory)
    assert before == {file: (directory / file).stat().st_mtime_ns for file in os.listdir(directory)}


def test_another_machine_may_go_on_in_another_precision(tmp_path):
    """The manifest says which checkpoint came from which."""
    def torn(step):
        if step == 7:
            raise Interrupted
        return batches(step)

    with pytest.raises(Interrupted):
        train(TINY, SEED, torn, DATA, tmp_path, precision="bfloat16", save_every=0)
    store = run(tmp_path)
    found = [store.manifest["checkpoints"][str(step)]["precision"] for step in store.steps]
    assert found == ["bfloat16" if step < 7 else "float32" for step in store.steps]


def test_threads_while_training_and_afterwards(tmp_path):
    before, seen = torch.get_num_threads(), []

    def look(step):
        seen.append(torch.get_num_threads())
        return batches(step)

    train(change(stop=2), SEED, look, DATA, tmp_path / "one")
    train(change(stop=2), SEED, look, DATA, tmp_path / "two", threads=2)
    assert seen == [1, 1, 2, 2] and torch.get_num_threads() == before


def test_precision_is_the_processors_unless_given(tmp_path):
    store = train(change(stop=1), SEED, batches, DATA, tmp_path)
    assert store.manifest["checkpoints"]["0"]["precision"] == fast_precision()


# ----------------------------------------------------------------------- whose run it is


def test_a_run_is_named_by_what_its_updates_depend_on():
    """LLC and stage settings may change without making another run."""
    base = identity(TINY, SEED, DATA)
    assert base == identity(replace(TINY, llc=LLCSettings(chains=3),
                                    stages=StageSettings(tolerance=1.0)), SEED, DATA)
    others = [identity(change(part="model", heads=1), SEED, DATA),
              identity(change(lr=0.02), SEED, DATA), identity(change(warmup=5), SEED, DATA),
              identity(TINY, 1, DATA), identity(TINY, SEED, "other tokens")]
    assert len({settings_hash(who) for who in [base, *others]}) == 6


@pytest.mark.parametrize("other", [
    {"seed": 1}, {"data": "other tokens"}, {"settings": change(part="model", init_sd=0.04)}])
def test_another_run_in_the_same_directory_is_refused(unbroken, other):
    with pytest.raises(CheckpointError, match="holds a run with other settings") as error:
        run(unbroken[1], **other)
    assert str(unbroken[1]) in str(error.value)


def test_a_damaged_state_is_refused(tmp_path):
    run(tmp_path)
    (tmp_path / "step_0000000.safetensors").unlink()
    data = bytearray((tmp_path / RESUME).read_bytes())
    data[-1] ^= 4
    (tmp_path / RESUME).write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        run(tmp_path)


@pytest.mark.parametrize("make, message", [
    (lambda step: torch.zeros(3, 5).long(), r"batch 0 has shape \(3, 5\), not \(3, 6\)"),
    (lambda step: torch.zeros(2, 6).long(), r"batch 0 has shape \(2, 6\), not \(3, 6\)"),
    (lambda step: torch.full((3, 6), 17), "token id 17 is out of range")])
def test_bad_batches(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        train(TINY, SEED, make, DATA, tmp_path)


def test_bad_settings_before_any_work(tmp_path):
    with pytest.raises(UserError, match="heads must be a whole number of 1 or more, not 0"):
        run(tmp_path / "run", change(part="model", heads=0))
    with pytest.raises(UserError, match="precision must be float32 or bfloat16"):
        run(tmp_path / "other", precision="half")
    assert not os.listdir(tmp_path)


# ------------------------------------------------------------------------ does it learn


def test_it_learns_a_pattern_that_repeats():
    """Contexts that repeat a random token pair: knowing the pair, the rest costs nothing, so the
    loss must fall well below that of guessing, log V."""
    def pairs(step):
        gen = generator(SEED, "pairs", step)
        return torch.randint(TINY.model.vocabulary, (32, 2), generator=gen).repeat(1, 3)

    trainer = LanguageTrainer(change(batch=32, lr=0.03), SEED, pairs, "float32")
    losses = [float(trainer.update()) for _ in range(150)]
    assert losses[0] == pytest.approx(math.log(TINY.model.vocabulary), abs=0.2)
    assert sum(losses[-20:]) / 20 < 0.6 * losses[0]
