"""Whether an LLC in a table is a measurement: whether its chains, as they were run, had forgotten
where they began.

The localising spring alone relaxes in 2 / (eps gamma) draws (eq. 8). Chains that drop fewer than
two such times may still be on their way, and their LLC then depends on their length. It does not
where they have already forgotten the model: then their mean loss, L(w0) + LLC / nbeta, is that of
the chains from untrained weights.
"""

from devlib.steps import at

RELAXATIONS = 2  # that the burn-in must last, so that 14% of the start is left at most
FORGOTTEN = 0.03  # share of the untrained chains' loss within which the model is forgotten
MOST_RHAT = 1.1


def ill(results, step) -> str:
    """Why the LLC at a step of a run's tables ("llc"; a Results with its manifest) is not a
    measurement; empty if it is one."""
    table, settings = results["llc"], results.manifest["settings"]["llc"]
    row = at(table, step)
    if row.get("diverged", 0):
        return f"step {row.step:,.0f}: {row.diverged:.0f} chains diverged"
    relaxation = 2 / (settings["eps"] * settings["gamma"])
    loss, untrained = (found.init_loss + found.llc / settings["nbeta"]
                       for found in (row, table.loc[table.step.idxmin()]))
    settled = row.burn_in >= RELAXATIONS * relaxation * (1 - 1e-9)
    if not settled and loss < (1 - FORGOTTEN) * untrained:
        return (f"the spring relaxes in {relaxation:,.0f} draws, the burn-in is "
                f"{row.burn_in:,.0f}, and at step {row.step:,.0f} the chains still know the model "
                f"(their loss {loss:.2f}; from untrained weights {untrained:.2f})")
    return f"step {row.step:,.0f}: R-hat {row.rhat:.2f}" if row.rhat > MOST_RHAT else ""


def ill_of(results, *steps) -> str:
    """The first reason why one of several LLCs is not a measurement."""
    return next((why for step in steps if (why := ill(results, step))), "")
