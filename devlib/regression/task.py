"""In-context linear regression: contexts, tokens, and the predictors a model is held against.

Shapes: B contexts, K pairs, D components. `xs` is (B, K, D), `ys` is (B, K), a prediction is
(B, K), and entry k of it may use the pairs before k and x_k.
"""

import torch

from devlib.rng import generator
from devlib.settings import RegressionTask


def sample_contexts(gen, size, task: RegressionTask, *, tasks=None, input_gain=1.0, task_gain=1.0,
                    noise_variance=None):
    """Contexts w ~ N(0, I_D), x ~ N(0, I_D), y = w.x + N(0, sigma^2) (Section 3).

    `tasks` (M, D) draws w from a finite set instead (D.1.1). `input_gain` scales x and
    `task_gain` scales w, the out-of-distribution families of D.1.3 (eqs. 18, 19).
    Returns xs (B, K, D) and ys (B, K), float32.
    """
    dim, examples = task.task_dim, task.examples
    if noise_variance is None:
        noise_variance = task.noise_variance
    if tasks is None:
        w = torch.randn(size, dim, generator=gen)
    else:
        w = tasks[torch.randint(len(tasks), (size,), generator=gen)]
    xs = input_gain * torch.randn(size, examples, dim, generator=gen)
    noise = noise_variance**0.5 * torch.randn(size, examples, generator=gen)
    return xs, torch.einsum("bkd,bd->bk", xs, task_gain * w) + noise


def training_batch(seed, step, size, task: RegressionTask, tasks=None):
    """The batch of update `step`: a function of (seed, step) and, where tasks come from a finite
    set, of that set."""
    return sample_contexts(generator(seed, "train", step), size, task, tasks=tasks)


def task_set(seed, count, task: RegressionTask):
    """A finite set of tasks w ~ N(0, I_D) to train on, (M, D) (D.1.1)."""
    return torch.randn(count, task.task_dim, generator=generator(seed, "task set", count))


def fixed_set(seed, name, size, task: RegressionTask):
    """A named set of contexts: "test" for losses, "llc" for SGLD (A.4.2)."""
    return sample_contexts(generator(seed, name), size, task)


def encode_tokens(xs, ys):
    """(B, 2K, D + 1) tokens (0, x_1), (y_1, 0), ..., (0, x_K), (y_K, 0) (F.2.2)."""
    size, examples, dim = xs.shape
    tokens = xs.new_zeros(size, examples, 2, dim + 1)
    tokens[:, :, 0, 1:] = xs
    tokens[:, :, 1, 0] = ys
    return tokens.flatten(1, 2)


def squared_errors(predictions, ys):
    """Squared error of each context and position, (B, K): eq. 2 before its averages."""
    return (predictions - ys) ** 2


def ridge_predictor(xs, ys, noise_variance):
    """The Bayes-optimal prediction for w ~ N(0, I): ridge regression with penalty sigma^2.

    Before pair k it solves (X'X + sigma^2 I) w = X'y over the pairs before k. (B, K)
    """
    gram, moment = _moments_before(xs, ys)
    eye = torch.eye(xs.shape[-1], dtype=xs.dtype)
    w = torch.linalg.solve(gram + noise_variance * eye, moment)
    return torch.einsum("bkd,bkd->bk", xs, w)


def dmmse_predictor(xs, ys, tasks, noise_variance):
    """The Bayes-optimal prediction for w uniform over a finite set (M, D): the discrete minimum
    mean squared error estimator (Raventos et al., 2023). (B, K)"""
    guesses = torch.einsum("bkd,md->bkm", xs, tasks)
    misfit = (guesses - ys[..., None]) ** 2 / (2 * noise_variance)
    seen = misfit.cumsum(1) - misfit  # of the pairs before k
    return ((-seen).softmax(-1) * guesses).sum(-1)


def ridge_floor(seed, size, task: RegressionTask):
    """Expected squared error of the ridge predictor at each k, and its standard error, both (K,).

    Given the inputs, the error is sigma^2 (1 + tr (X'X + sigma^2 I)^-1) in expectation over x_k,
    w and the noise, so only X is sampled (`size` contexts, float64).
    """
    gen = generator(seed, "ridge floor")
    xs = torch.randn(size, task.examples, task.task_dim, generator=gen, dtype=torch.float64)
    gram, _ = _moments_before(xs, xs[..., 0])
    eye = torch.eye(task.task_dim, dtype=torch.float64)
    variance = task.noise_variance
    inverse = torch.linalg.inv(gram + variance * eye)
    errors = variance * (1 + inverse.diagonal(dim1=-2, dim2=-1).sum(-1))
    return errors.mean(0), errors.std(0) / size**0.5


def _moments_before(xs, ys):
    """X'X (B, K, D, D) and X'y (B, K, D) over the pairs before each k."""
    outer = xs[..., :, None] * xs[..., None, :]
    cross = xs * ys[..., None]
    return outer.cumsum(1) - outer, cross.cumsum(1) - cross
