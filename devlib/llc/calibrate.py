"""Choosing eps, nbeta, gamma and the number of draws for a model of your own (A.5).

    calibration = calibrate(loss, params, data, batch_size=128)
    print(calibration)                  # the proposal and why
    calibration.table                   # the evidence, one row a setting
"""

import math
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import pandas as pd
from tqdm import tqdm

from devlib.checks import check_count, check_number
from devlib.errors import UserError
from devlib.llc.estimate import default_nbeta, estimate_llc, scaled_losses
from devlib.llc.precision import TEST_RHAT, OnDemand, estimate_to_precision
from devlib.rng import stream_seed
from devlib.sampling import SGLD, ChainDiverged, sample_chains
from devlib.sampling.burn_in import find_burn_in
from devlib.sampling.checked import first_losses
from devlib.sampling.draws import Draws
from devlib.sampling.given import problem_of
from devlib.sampling.sample import COMPILE_FROM
from devlib.settings import RELAXATIONS

OK, DIVERGED, ESCAPING, UNCONVERGED = "ok", "diverged", "escaping", "not converged"
NOISY, BIASED, SLOW = "too noisy", "biased", "too slow"
MAX_RHAT = 1.1  # above it the halves of the chains, or the chains, disagree
EPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
GAMMAS = (1.0, 10.0, 100.0)
COLUMNS = ["eps", "nbeta", "gamma", "llc", "mcse", "ess", "rhat", "burn_in", "status"]


@dataclass(frozen=True)
class Calibration:
    """A proposal, why, and the evidence: `table` has one row a setting that was tried."""

    sampler: SGLD
    burn_in: int
    draws: int  # a chain, burn-in included
    batch_size: int
    reason: str
    table: pd.DataFrame

    def __str__(self):
        s = self.sampler
        return (f"eps {s.eps:g}, nbeta {s.nbeta:.4g}, gamma {s.gamma:g}, {self.draws} draws a "
                f"chain of which {self.burn_in} burn-in, batch {self.batch_size}: {self.reason}")


class NotCalibrated(UserError):
    """No setting that was tried is sound; `table` has the evidence, one row a setting."""

    def __init__(self, table, message):
        self.table = table
        super().__init__(message)


def status(draws: Draws) -> str:
    """Which of the failures of Fig. A.5 the chains show, or "ok": a loss that is not finite; an
    estimate below zero by four standard errors, or negative and still falling; chains, or halves
    of them, that disagree (R-hat). A biased but steady chain is "ok": that eps is small enough
    only a smaller one can show. Draws that are all equal are "not converged", unless the chains
    moved and the loss stayed that of w0."""
    if draws.diverged:
        return DIVERGED
    estimate = estimate_llc(draws)
    if estimate.escaping or estimate.mean + 4 * estimate.mcse < 0:
        return ESCAPING
    return OK if estimate.rhat <= MAX_RHAT or estimate.mcse == 0 else UNCONVERGED


def sweep(loss, params, data, samplers, *, batch_size, chains=2, draws=200, burn_in=None, seed=0,
          init_losses=None, compile=None, progress=False) -> pd.DataFrame:
    """An estimate for each sampler, with the same batches and noise (A.5.2): one row each with
    eps, nbeta, gamma, llc, mcse, ess, rhat, burn_in and status. What diverges stays in the table
    with NaN for its numbers."""
    samplers = list(samplers)
    loss, params, data = problem_of(loss, params, data).parts
    if init_losses is None:
        init_losses = first_losses(loss, params, data)
    if compile is None:  # one compiled step serves all
        compile = chains * draws * len(samplers) >= COMPILE_FROM
    rows = []
    for sampler in tqdm(samplers, desc="sweep", disable=None if progress else True):
        run = sample_chains(loss, params, data, sampler, chains=chains, draws=draws,
                            burn_in=0 if burn_in is None else burn_in, seed=seed,
                            batch_size=batch_size, init_losses=init_losses,
                            on_divergence="keep", compile=compile, warn=False)  # trials
        row = {"eps": sampler.eps, "nbeta": sampler.nbeta, "gamma": sampler.gamma}
        if not run.diverged:
            if burn_in is None:
                run = replace(run, burn_in=find_burn_in(scaled_losses(run)))
            estimate = estimate_llc(run)
            row |= {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
                    "rhat": estimate.rhat, "burn_in": run.burn_in}
        rows.append(row | {"status": status(run)})
    return pd.DataFrame(rows, columns=COLUMNS)


def calibrate(loss, params, data, *, batch_size, nbeta=None, eps=EPS, gammas=GAMMAS, chains=4,
              draws=400, precision=0.02, tolerance=0.1, cap_draws=10_000, seed=0,
              kind=SGLD) -> Calibration:
    """Proposes SGLD settings for a model, with the evidence (the guide of A.5.3, made a rule).

    nbeta is m / ln m unless given. For each gamma, from the smallest up (as small as keeps the
    chains near w0), eps comes down its grid until two neighbours, tried on `draws` draws, are both
    sound and agree within their errors. The larger of the two, which mixes faster, is then put to
    the test that it is to pass later: chains of their own run to an error of `precision`, the step
    bias in it (`estimate_to_precision`), and as long as that took are the draws proposed. Where
    the bias is above the precision ("biased"), the next smaller eps is tried.

    The spring alone relaxes in 2 / (eps gamma) draws, and five times as many are the least. Where
    they are more than `cap_draws` (then nothing is sampled), or chains as long do not come to
    rest, the setting is "too slow", and as after one that escapes, the next gamma is tried.
    Estimates with a standard error above `tolerance` of their size count as "too noisy". `kind` is
    the sampler's class. Raises NotCalibrated, with what every setting showed, if none passes.
    """
    check_count("batch_size", batch_size, least=2)
    check_count("draws", draws, least=16)  # halved by burn-in, eight are left for an R-hat
    check_count("cap_draws", cap_draws, least=draws)
    check_number("precision", precision, above=0)
    if not (isinstance(tolerance, Real) and tolerance > 0):
        raise UserError(f"tolerance must be a number above 0, not {tolerance!r}")
    if np.ndim(eps) != 1 or np.ndim(gammas) != 1 or len(eps) < 2 or not len(gammas):
        raise UserError("give two or more eps and one or more gammas to choose from")
    nbeta = default_nbeta(batch_size) if nbeta is None else nbeta
    grid = [[kind(value, nbeta, gamma) for value in sorted(eps, reverse=True)]
            for gamma in sorted(gammas)]
    loss, params, data = problem_of(loss, params, data).parts
    options = {"batch_size": batch_size, "chains": chains,
               "init_losses": first_losses(loss, params, data),
               "compile": chains * draws * len(grid) * len(grid[0]) >= COMPILE_FROM}
    rows = []
    for column in grid:
        larger = before = None
        for sampler in column:
            row = _trial((loss, params, data), sampler, draws, tolerance, cap_draws, seed, options)
            rows.append(row)
            if row.status in (ESCAPING, SLOW):
                break
            if larger is not None and larger.status == row.status == OK and _agree(row, larger):
                done = _test((loss, params, data), before, draws, precision, cap_draws, seed,
                             options)
                if isinstance(done, OnDemand) and done.reached:
                    table = pd.DataFrame(rows).reset_index(drop=True)
                    return _propose(larger, row, table, done, batch_size)
                larger["status"] = _failure(done, precision)
                if larger.status == SLOW:
                    break
            larger, before = row, sampler
    seen = pd.DataFrame(rows).status.value_counts()
    raise NotCalibrated(
        pd.DataFrame(rows).reset_index(drop=True),
        f"no step size passed at a precision of {precision:.2%}: "
        + ", ".join(f"{count} {name}" for name, count in seen.items())
        + ". Diverged, biased: add smaller eps. Escaping: add larger gamma, or take a smaller "
        f"nbeta. Too slow: the spring needs {RELAXATIONS} times 2 / (eps gamma) draws; add larger "
        f"gamma, or raise cap_draws = {cap_draws}. Not converged or too noisy: more draws. All ok: "
        "add smaller eps")


def _trial(problem, sampler, draws, tolerance, cap_draws, seed, options) -> pd.Series:
    """The row of one setting: from `draws` draws a chain, or from none where the spring is known
    not to relax in `cap_draws`."""
    if cap_draws < RELAXATIONS * sampler.relaxation() < math.inf:
        return pd.Series({name: math.nan for name in COLUMNS} | {
            "eps": sampler.eps, "nbeta": sampler.nbeta, "gamma": sampler.gamma, "status": SLOW})
    row = sweep(*problem, [sampler], draws=draws, seed=seed, **options).iloc[0]
    if row.status == OK and not row.mcse <= tolerance * abs(row.llc):
        row["status"] = NOISY
    return row


def _test(problem, sampler, draws, precision, cap_draws, seed, options):
    """The OnDemand of chains to the precision promised, at least as long as the spring needs; or
    ChainDiverged."""
    needed = RELAXATIONS * sampler.relaxation()
    block = max(draws, math.ceil(needed) if math.isfinite(needed) else 0)
    try:
        return estimate_to_precision(*problem, sampler, precision=precision, cap_draws=cap_draws,
                                     block=block, warn=False,
                                     seed=stream_seed(seed, "test of the proposal"), **options)
    except ChainDiverged as error:
        return error


def _failure(done, precision) -> str:
    """The status of a setting that did not pass its test."""
    if isinstance(done, ChainDiverged):
        return DIVERGED
    found = done.estimate
    if not abs(found.step_bias) <= precision * abs(found.mean):
        return BIASED
    return NOISY if max(found.rhat, found.distance_rhat) <= TEST_RHAT else SLOW


def _agree(one, other):
    """Whether two estimates differ by no more than two standard errors of independent ones. They
    share their noise, so that a difference beyond this is the step size's."""
    return abs(one.llc - other.llc) <= 2 * np.hypot(one.mcse, other.mcse)


def _propose(best, beside, table, done, batch_size):
    """`done` is the test that the row `best` has passed, `beside` the row of a smaller eps."""
    sampler = done.draws.sampler
    total = done.draws.losses.shape[1]
    reason = (f"LLC {best.llc:.2f} +- {best.mcse:.2f} here and {beside.llc:.2f} +- "
              f"{beside.mcse:.2f} at eps {beside.eps:g} when tried; {done}")
    if math.isfinite(sampler.relaxation()):
        reason += f"; the spring relaxes in {sampler.relaxation():,.0f} draws"
    return Calibration(sampler, done.draws.burn_in, total, batch_size, reason, table)
