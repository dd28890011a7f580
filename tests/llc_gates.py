"""What the tests of the sampler share: the one gate of every estimate."""

import math

from devlib.llc import estimate_llc
from devlib.sampling import sample_chains
from devlib.sampling.draws import diagnostic


def estimate(potential, sampler, **settings):
    """The LLC of a potential at its w0 by sampling, and the draws."""
    settings = {"chains": 128, "seed": 0, "vectorised": True, **settings}
    draws = sample_chains(potential.loss, potential.params, potential.data, sampler, **settings)
    return estimate_llc(draws), draws


def assert_within(found, reference, reference_mcse=0.0):
    """ESS of 200 or more, then closer than four Monte Carlo standard errors."""
    assert found.ess >= 200, f"ESS {found.ess:.0f}: too few draws to judge"
    error = math.hypot(found.mcse, reference_mcse)
    assert abs(found.mean - reference) < 4 * error, (
        f"{found.mean:.4f} +- {error:.4f}, {(found.mean - reference) / error:+.1f} standard errors "
        f"from {reference:.4f}")


def mean_and_mcse(values):
    """Of draws (C, T)."""
    return float(values.mean()), diagnostic("mcse", values)
