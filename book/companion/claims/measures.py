"""How each claim of data/claims.yaml is read off result tables: one function a claim.

A measurement takes a `Run` (companion.claims.ledger) and what the row's `at` says; `of` names which
of several quantities is asked for. It returns (value, standard error or None); a value that is not
finite where it looked and found nothing; or None if this run cannot tell.

Here are the claims about losses whose answer is exact; those about trained models are beside, and
are registered by the imports.
"""

from companion.claims import measures_language, measures_regression  # noqa: F401
from companion.claims.registry import MEASURES, NEEDS, measures

__all__ = ["MEASURES", "NEEDS"]


def _toys(run, of, potential=None, group=None):
    found = run["primer"]["estimates"]
    if of != "estimate":
        row = found[found.potential == potential].iloc[0]
        return row[{"rule": "llc", "integral": "limit"}[of]], None
    toys = run["primer"].manifest["settings"]["toys"]
    rows = found[found.group == group]
    settled = toys["burn_in"] * toys["eps"] * toys["gamma"] >= 4  # as primer.Sampling.settled
    if not settled or rows.ess.min() < 200:
        return None
    return ((rows.estimate - rows.reference).abs() / rows.mcse).max(), None


@measures("A-1", "primer")
def exact_examples(run, **row):
    """Estimates beside exact LLCs."""
    return _toys(run, group="A.2", **row)


@measures("A-2", "primer")
def figure_2(run, **row):
    """Estimates beside the exact LLCs of Fig. 2."""
    return _toys(run, group="Fig. 2", **row)
