"""The Gaussian process that smooths a curve (B.1), solved in ball arithmetic.

Checkpoints crowd together in log(step + 1). Where the process has no noise but the least that
keeps it solvable, its matrix has a condition number of 1e15, and what double precision makes of it
is the processor's rounding: boundaries moved by as much as from 40,292 to 35,353 between two
processors. Here every number carries its own bound, and the precision grows until the answer is
sure to the last digit of a double, so it is the same on every machine.
"""

import functools
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

LEAST_NOISE = 1e-10  # a variance, scikit-learn's default: what the authors' "no noise" computes
BITS = 192  # enough for 190 checkpoints without noise; doubled where it is not
SURE = 1e-20  # the largest bound that the rounding of a weight may keep
DIGITS = 3  # of a fitted kernel: an optimiser settles no more, and agrees on these everywhere


@dataclass(frozen=True)
class Kernel:
    """amplitude * exp(-(x - x')^2 / (2 length^2)) in x = log(step + 1), and `level`, the variance
    of a noise that all checkpoints share. Prints as scikit-learn's would."""

    amplitude: float
    length: float
    level: float = 0.0

    def __str__(self):
        noise = f" + WhiteKernel(noise_level={self.level:.3g})" if self.level else ""
        return f"{self.amplitude**0.5:.3g}**2 * RBF(length_scale={self.length:.3g}){noise}"


def fit(steps, values, noise, settings, fit_level=False, seed=0) -> Kernel:
    """The kernel of the greatest marginal likelihood within the bounds of `settings`
    (StageSettings), with variances `noise` (S,) of the values; `fit_level` adds a level of noise
    between the same bounds as the amplitude. To DIGITS digits, or on a bound if it ends there.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    from threadpoolctl import threadpool_limits

    amplitudes = settings.amplitude_low, settings.amplitude_high
    kernel = (ConstantKernel(1.0, amplitudes)
              * RBF(settings.length, (settings.length_low, settings.length_high)))
    if fit_level:
        kernel += WhiteKernel(1.0, amplitudes)
    process = GaussianProcessRegressor(kernel, alpha=noise, random_state=seed,
                                       n_restarts_optimizer=settings.restarts)
    # one thread: on matrices of some hundred rows the others only wait, six times as long
    with warnings.catch_warnings(), suppress(np.linalg.LinAlgError), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the authors' bounds are meant to bind
        # the error can only come once the kernel is found, where doubles cannot solve for the mean
        process.fit(np.log1p(steps)[:, None], values)
    bounds = (amplitudes, (settings.length_low, settings.length_high), amplitudes)
    return Kernel(*(_settled(value, at) for value, at
                    in zip(np.exp(process.kernel_.theta), bounds, strict=False)))


def _settled(value, bounds) -> float:
    """A fitted number to the digits that are settled; the bound where it ends on one."""
    ends = [bound for bound in bounds if np.isclose(value, bound, rtol=10.0**-DIGITS)]
    return float(ends[0] if ends else f"{value:.{DIGITS}g}")


def mean_and_sd(steps, values, noise, kernel: Kernel):
    """The process's mean at the checkpoints, and the mean's standard deviation, both (S,)."""
    variances = np.broadcast_to(np.asarray(noise, float), np.shape(steps)) + kernel.level
    weights = _weights(tuple(map(float, steps)), tuple(map(float, variances)), kernel)
    # fsum rounds once, where a product of matrices rounds in the library's own order
    mean = np.array([math.fsum(row * values) for row in weights])
    # K - K (K + N)^-1 K = K (K + N)^-1 N, N being the noise
    return mean, np.sqrt(np.diag(weights) * variances)


@functools.lru_cache(maxsize=64)  # a bootstrap smooths hundreds of curves in the same way
def _weights(steps, variances, kernel) -> np.ndarray:
    """K (K + N)^-1, (S, S): what the mean takes of each value."""
    from flint import ctx

    bits = BITS
    while True:
        with ctx.workprec(bits):
            try:
                balls = _solve(steps, variances, kernel)
            except ZeroDivisionError:  # the bounds are too wide to tell the matrix from a singular
                balls = None
            if balls is not None and max(float(ball.rad()) for ball in balls.entries()) <= SURE:
                size = len(steps)
                entries = [float(ball.mid()) for ball in balls.entries()]
                return np.array(entries).reshape(size, size).T
        bits *= 2


def _solve(steps, variances, kernel):
    """(K + N)^-1 K, a matrix of balls."""
    from flint import arb, arb_mat

    at, size = [(arb(step) + 1).log() for step in steps], len(steps)
    scale, amplitude = -2 * arb(kernel.length) * arb(kernel.length), arb(kernel.amplitude)
    near = [amplitude * ((at[i] - at[j]) * (at[i] - at[j]) / scale).exp() if i != j else amplitude
            for i in range(size) for j in range(size)]
    covariance = arb_mat(size, size, near)
    diagonal = arb_mat(size, size, [arb(variances[i]) if i == j else 0
                                    for i in range(size) for j in range(size)])
    return (covariance + diagonal).solve(covariance, algorithm="precond")
