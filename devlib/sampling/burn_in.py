"""Burn-in found from the trace itself."""

import numpy as np

from devlib.errors import UserError


def find_burn_in(traces) -> int:
    """How many first draws to leave out, by the marginal standard error rule (MSER; White, 1997).

    For each d it takes the mean trace over chains, y (T,), without its first d draws and computes
    the squared standard error that its mean would have if draws were independent,

        MSER(d) = sum_{t >= d} (y_t - mean_{s >= d} y_s)^2 / (T - d)^2,

    and returns the d that makes it least: leaving out more no longer pays. It has nothing to
    tune. Only d <= T / 2 are tried, as the last few draws always look quiet; a transient longer
    than that shows in R-hat, which compares the halves of each chain.

    traces (C, T), all chains with one burn-in; chains that are not finite are left out. Raises
    UserError if none is finite.
    """
    traces = np.atleast_2d(np.asarray(traces, dtype=float))
    finite = np.isfinite(traces).all(1)
    if not finite.any():
        raise UserError("every chain diverged: take a smaller eps")
    y = traces[finite].mean(0)
    y = y - y[-1]  # a shift changes nothing but the rounding
    rest = np.arange(len(y), 0, -1)  # draws left after leaving out 0, 1, ...
    total, squares = y[::-1].cumsum()[::-1], (y * y)[::-1].cumsum()[::-1]
    mser = (squares - total**2 / rest) / rest**2
    return int(np.argmin(mser[:len(y) // 2 + 1]))
