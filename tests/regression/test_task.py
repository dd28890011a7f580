"""In-context regression: batches, the encoding, and predictors against slow twins."""

import math

import pytest
import torch

from devlib.regression.task import (
    dmmse_predictor,
    encode_tokens,
    fixed_set,
    ridge_floor,
    ridge_predictor,
    sample_contexts,
    squared_errors,
    training_batch,
)
from devlib.rng import generator, stream_seed
from devlib.settings import RegressionTask

TASK = RegressionTask()
NOISE = TASK.noise_variance


def contexts(size=64, seed=0, **options):
    xs, ys = sample_contexts(generator(seed, "tests"), size, TASK, **options)
    return xs.double(), ys.double()


def finite_tasks(count=5):
    return torch.randn(count, TASK.task_dim, generator=generator(0, "tasks")).double()


# ---------------------------------------------------------------------------- randomness


def test_batch_is_a_function_of_seed_and_step():
    forwards = [training_batch(3, step, 16, TASK) for step in range(4)]
    torch.manual_seed(99)  # the global state has no part in it
    torch.randn(7)
    backwards = [training_batch(3, step, 16, TASK) for step in reversed(range(4))][::-1]
    for one, two in zip(forwards, backwards, strict=True):
        assert all(a.equal(b) for a, b in zip(one, two, strict=True))
    assert not forwards[0][0].equal(forwards[1][0])
    assert not forwards[0][0].equal(training_batch(4, 0, 16, TASK)[0])


def test_sampling_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    training_batch(0, 0, 16, TASK)
    fixed_set(0, "test", 16, TASK)
    ridge_floor(0, 16, TASK)
    assert torch.randn(3).equal(expected)


def test_named_sets_differ():
    sets = [fixed_set(0, "test", 8, TASK), fixed_set(0, "llc", 8, TASK),
            training_batch(0, 0, 8, TASK), fixed_set(1, "test", 8, TASK)]
    for i, one in enumerate(sets):
        assert all(not one[0].equal(two[0]) for two in sets[i + 1:])


def test_stream_seed_is_the_same_on_every_machine():
    assert stream_seed(0, "train", 0) == 3878459283021335866
    assert stream_seed(0, "train", 0) != stream_seed(0, "train", "0")
    assert 0 <= stream_seed(2**70, "x") < 2**63
    with pytest.raises(ValueError, match="seed must be 0 or more, not -1"):
        stream_seed(-1)


# ------------------------------------------------------------------------ the distribution


def test_moments():
    """y = w.x + noise of variance 0.125: E y^2 = D + sigma^2, and the noise is its own."""
    size = 2**14
    xs, ys = contexts(size)
    assert abs(xs.mean()) < 5 / xs.numel() ** 0.5
    assert abs(xs.var() - 1) < 5 * (2 / xs.numel()) ** 0.5
    square = ys.square().mean(1)
    assert abs(square.mean() - 4.125) < 4 * square.std() / size**0.5
    xs, clean = contexts(size, noise_variance=0.0)
    noise = (contexts(size)[1] - clean).flatten()
    assert abs(noise.var() - NOISE) < 5 * NOISE * (2 / len(noise)) ** 0.5
    assert abs(noise.mean()) < 5 * (NOISE / len(noise)) ** 0.5


def test_one_task_explains_a_whole_context():
    xs, ys = contexts(noise_variance=0.0)
    solution = torch.linalg.lstsq(xs, ys[..., None]).solution
    torch.testing.assert_close((xs @ solution)[..., 0], ys, rtol=0, atol=1e-4)


def test_finite_tasks_are_drawn_from_the_set():
    tasks = finite_tasks(3)
    xs, ys = sample_contexts(generator(0, "tests"), 200, TASK, tasks=tasks.float(),
                             noise_variance=0.0)
    misfit = torch.einsum("bkd,md->bkm", xs.double(), tasks) - ys.double()[..., None]
    which = misfit.abs().amax(1).min(1)  # the task whose worst misfit is least
    assert which.values.max() < 1e-4
    counts = torch.bincount(which.indices, minlength=3)
    assert (counts - 200 / 3).abs().max() < 4 * (200 * 2 / 9) ** 0.5


@pytest.mark.parametrize("gain", [3.0, 100.0])
def test_out_of_distribution_gains(gain):
    """(18, 19): the same draws, with x or w scaled; the noise is not scaled."""
    xs, ys = contexts()
    _, clean = contexts(noise_variance=0.0)
    xs_inputs, ys_inputs = contexts(input_gain=gain)
    xs_tasks, ys_tasks = contexts(task_gain=gain)
    close = {"rtol": 1e-5, "atol": 1e-5 * gain}
    assert xs_tasks.equal(xs)
    torch.testing.assert_close(xs_inputs, gain * xs, **close)
    for scaled in (ys_inputs, ys_tasks):
        torch.testing.assert_close(scaled, gain * clean + (ys - clean), **close)


# ---------------------------------------------------------------------------- the encoding


def test_token_layout():
    """(0, x_1), (y_1, 0, 0, 0, 0), ..., (0, x_K), (y_K, 0, 0, 0, 0)."""
    xs, ys = contexts(2)
    tokens = encode_tokens(xs, ys)
    assert tokens.shape == (2, 16, 5)
    for b in range(2):
        for k in range(8):
            assert tokens[b, 2 * k].tolist() == [0.0, *xs[b, k].tolist()]
            assert tokens[b, 2 * k + 1].tolist() == [ys[b, k].item(), 0.0, 0.0, 0.0, 0.0]


# -------------------------------------------------------------- predictors and slow twins


def slow_ridge(xs, ys, variance):
    out = torch.zeros_like(ys)
    for b in range(len(xs)):
        for k in range(xs.shape[1]):
            x, y = xs[b, :k], ys[b, :k]
            gram = variance * torch.eye(xs.shape[2], dtype=xs.dtype)
            moment = torch.zeros(xs.shape[2], dtype=xs.dtype)
            for i in range(k):
                gram = gram + torch.outer(x[i], x[i])
                moment = moment + x[i] * y[i]
            out[b, k] = xs[b, k] @ (torch.linalg.inv(gram) @ moment)
    return out


def slow_dmmse(xs, ys, tasks, variance):
    """Bayes' rule, one task at a time: weight_m = prod of the densities of the pairs seen."""
    out = torch.zeros_like(ys)
    for b in range(len(xs)):
        for k in range(xs.shape[1]):
            total, mean = 0.0, 0.0
            for task in tasks:
                weight = 1.0
                for i in range(k):
                    error = (ys[b, i] - xs[b, i] @ task).item()
                    weight *= math.exp(-error**2 / (2 * variance))
                total += weight
                mean += weight * (xs[b, k] @ task).item()
            out[b, k] = mean / total
    return out


def test_ridge_predictor():
    xs, ys = contexts(16)
    fast = ridge_predictor(xs, ys, NOISE)
    torch.testing.assert_close(fast, slow_ridge(xs, ys, NOISE), rtol=0, atol=1e-12)
    assert fast[:, 0].eq(0).all()  # before any pair it can only guess


def test_dmmse_predictor():
    """With variance 1, so that the twin's plain products do not underflow, and with 0.125."""
    tasks = finite_tasks()
    xs, ys = sample_contexts(generator(1, "tests"), 16, TASK, tasks=tasks.float())
    xs, ys = xs.double(), ys.double()
    for variance in (1.0, NOISE):
        fast = dmmse_predictor(xs, ys, tasks, variance)
        torch.testing.assert_close(fast, slow_dmmse(xs, ys, tasks, variance), rtol=0, atol=1e-11)
    torch.testing.assert_close(fast[:, 0], (xs @ tasks.mean(0))[:, 0])


@pytest.mark.parametrize("predictor", [
    lambda xs, ys: ridge_predictor(xs, ys, NOISE),
    lambda xs, ys: dmmse_predictor(xs, ys, finite_tasks(), NOISE)])
def test_predictors_use_only_earlier_pairs(predictor):
    xs, ys = contexts(8)
    before = predictor(xs, ys)
    later_xs, later_ys = xs.clone(), ys.clone()
    later_xs[:, 5:] += 1
    later_ys[:, 4:] -= 3
    after = predictor(later_xs, later_ys)
    assert after[:, :5].equal(before[:, :5])
    assert not after[:, 5].equal(before[:, 5])


def test_bayes_optimal_predictors_win():
    """Each is best for the prior it is made for; a gap counts above 4 standard errors."""
    size = 4096
    tasks = finite_tasks(4)

    def losses(xs, ys):
        predictions = {
            "zero": torch.zeros_like(ys), "mean": xs @ tasks.mean(0),
            "ridge": ridge_predictor(xs, ys, NOISE), "loose": ridge_predictor(xs, ys, 4 * NOISE),
            "tight": ridge_predictor(xs, ys, NOISE / 4),
            "dmmse": dmmse_predictor(xs, ys, tasks, NOISE)}
        return {name: squared_errors(p, ys).mean(1) for name, p in predictions.items()}

    gaussian = losses(*contexts(size))
    finite = losses(*(part.double() for part in sample_contexts(
        generator(2, "tests"), size, TASK, tasks=tasks.float())))
    for found, best in ((gaussian, "ridge"), (finite, "dmmse")):
        for name in set(found) - {best}:
            gap = found[name] - found[best]
            assert gap.mean() > 4 * gap.std() / size**0.5, (best, name)


def test_squared_errors():
    errors = squared_errors(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 5.0]]))
    assert errors.tolist() == [[1.0, 9.0]]


# ------------------------------------------------------------------------- the ridge floor

# Simulated per k, for D = 4, K = 8, sigma^2 = 0.125. Of how many contexts is not recorded; their
# scatter about the exact values is that of some 20,000.
SIMULATED = [4.162, 3.238, 2.282, 1.479, 0.896, 0.562, 0.419, 0.316]
SIMULATED_SIZE = 20_000


def test_ridge_floor_against_simulations():
    floor, error = ridge_floor(0, 2**14, TASK)
    xs, ys = contexts(2**14)
    errors = squared_errors(ridge_predictor(xs, ys, NOISE), ys)
    own_error = errors.std(0) / len(xs) ** 0.5
    assert ((floor - errors.mean(0)).abs() < 4 * (error**2 + own_error**2).sqrt()).all()
    their_error = errors.std(0) / SIMULATED_SIZE**0.5
    gap = (floor - torch.tensor(SIMULATED, dtype=torch.float64)).abs()
    assert (gap < 4 * (error**2 + their_error**2).sqrt()).all()


def test_ridge_floor_where_it_is_exact():
    """At k = 1 nothing has been seen: the error is that of predicting 0, sigma^2 + D. With D = 1
    and one pair seen it is an integral over that pair's x."""
    floor, error = ridge_floor(0, 2**14, TASK)
    assert floor[0] == NOISE + TASK.task_dim == 4.125 and error[0] == 0
    assert (floor.diff() < 0).all() and (floor > NOISE).all()
    one = RegressionTask(task_dim=1, examples=2)
    floor, error = ridge_floor(0, 2**16, one)
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    exact = NOISE * (1 + torch.trapezoid(density / (x.square() + NOISE), x))
    assert abs(floor[1] - exact) < 4 * error[1]


def test_ridge_floor_error_is_a_standard_error():
    """Over 40 seeds the spread of the estimate is what each one says: a chi-square ratio, +-45%
    at 4 sd."""
    runs = [ridge_floor(seed, 512, TASK) for seed in range(40)]
    spread = torch.stack([floor for floor, _ in runs]).std(0)[1:]
    claimed = torch.stack([error for _, error in runs]).mean(0)[1:]
    assert ((spread / claimed - 1).abs() < 4 * (1 / (2 * 39)) ** 0.5).all()
