"""How each claim of data/claims.yaml is read off result tables: one function a claim.

A measurement takes a `Run` (devlib.claims) and what the row's `at` says. It returns (value,
standard error or None); a value that is not finite where it looked and found nothing; or None if
this run cannot tell.
"""


MEASURES, NEEDS = {}, {}


def measures(claim, *kinds):
    """Registers a claim's measurement. The first kind of tables decides which run is taken and how
    far it went; without the others, rows that read them are not run."""
    def register(function):
        MEASURES[claim], NEEDS[claim] = function, kinds
        return function
    return register


def at(table, step):
    """The row of the checkpoint nearest to a step."""
    return table.iloc[(table.step - step).abs().argmin()]


# ---------------------------------------------------------------------------------- regression


@measures("LR-1", "regression")
def llc_at_steps(run, step):
    found = at(run["regression"]["llc"], step)
    return found.llc, found.mcse
