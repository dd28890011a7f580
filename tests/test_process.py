"""The process that smooths curves: against its formula in as many digits as it takes, and the same
whatever library adds up."""

import json
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import threadpoolctl

from devlib import process
from devlib.process import LEAST_NOISE, Kernel, fit, mean_and_sd
from devlib.settings import StageSettings
from devlib.steps import schedule

STEPS = np.array(schedule(500_000, 100, 100))


def slow_mean(steps, values, noise, kernel, digits=60):
    """K (K + N)^-1 y, by mpmath."""
    with mpmath.workdps(digits):
        at = [mpmath.log(int(step) + 1) for step in steps]
        k = mpmath.matrix([[kernel.amplitude * mpmath.exp(
            -((a - b) / mpmath.mpf(kernel.length)) ** 2 / 2) for b in at] for a in at])
        n = mpmath.diag([mpmath.mpf(v) + mpmath.mpf(kernel.level) for v in noise])
        y = mpmath.matrix([mpmath.mpf(float(v)) for v in values])
        return np.array([float(v) for v in k * mpmath.lu_solve(k + n, y)])


@pytest.mark.parametrize("kernel", [Kernel(1000, 0.5), Kernel(25.0, 3.0), Kernel(1000, 0.5, 0.75)])
def test_mean_without_noise_where_doubles_have_no_answer(kernel):
    """Sixty late checkpoints, a hundredth apart in log(step + 1): condition number 1e13 to 1e15."""
    steps = STEPS[-60:]
    values = 150 + np.random.default_rng(0).normal(size=60)
    noise = np.full(60, LEAST_NOISE)
    mean, sd = mean_and_sd(steps, values, noise, kernel)
    np.testing.assert_allclose(mean, slow_mean(steps, values, noise, kernel), rtol=1e-11)
    assert (sd <= np.sqrt(LEAST_NOISE + kernel.level)).all()  # no more than one value's noise


def test_precision_grows_until_it_is_enough(monkeypatch):
    steps, noise = STEPS[-40:], np.full(40, LEAST_NOISE)
    values = np.arange(40.0)
    expected, _ = mean_and_sd(steps, values, noise, Kernel(1000, 2.0))
    monkeypatch.setattr(process, "BITS", 16)
    process._weights.cache_clear()
    again, _ = mean_and_sd(steps, values, noise, Kernel(1000, 2.0))
    process._weights.cache_clear()
    np.testing.assert_array_equal(again, expected)


def test_a_fitted_kernel_has_three_digits_and_keeps_to_its_bounds():
    values = np.log1p(STEPS) ** 2
    settings = StageSettings(amplitude_low=0.0012345, amplitude_high=1234.5, restarts=0)
    kernel = fit(STEPS, values, np.full(len(STEPS), 1.0), settings)
    assert kernel.amplitude == 1234.5
    assert kernel.length == float(f"{kernel.length:.3g}") and kernel.level == 0
    level = fit(STEPS, values + np.random.default_rng(0).normal(size=len(STEPS)),
                np.full(len(STEPS), LEAST_NOISE), settings, fit_level=True).level
    assert 0.5 < level < 2


def test_the_fit_keeps_to_one_thread(monkeypatch):
    """However many the process may use, and it gives them back."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    def threads():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()
                if pool["user_api"] == "blas"}

    seen, plain = [], GaussianProcessRegressor.fit

    def noted(self, *data):
        seen.append(threads())
        return plain(self, *data)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", noted)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        fit(np.arange(9), np.arange(9.0), np.ones(9), StageSettings(restarts=0))
        assert (seen, threads()) == ([{1}], {2})


def test_the_same_on_another_processors_arithmetic():
    """The released kind of curve, without noise, under two kernels of the BLAS: bit for bit."""
    script = ("import json, numpy as np; from devlib.steps import schedule; "
              "from devlib.settings import StageSettings; "
              "from devlib.stages import plateaus, smooth; "
              "steps = np.array(schedule(500_000, 100, 100)); x = np.log1p(steps); "
              "y = 160 / (1 + np.exp(8 - x)) + np.random.default_rng(0).normal(size=len(x)); "
              "curve = smooth(steps, y, StageSettings(restarts=0)); "
              "print(json.dumps([plateaus(curve, 8.0), str(curve.kernel), curve.mean.tolist()]))")
    found = [json.loads(subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"OPENBLAS_CORETYPE": core}).stdout)
        for core in ("Prescott", "Haswell")]
    assert found[0] == found[1] and len(found[0][0]) > 2

