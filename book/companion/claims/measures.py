"""How each claim of data/claims.yaml is read off result tables: one function a claim.

A measurement takes a `Run` (companion.claims.ledger) and what the row's `at` says; `of` names which
of several quantities is asked for. It returns a `Reading` (companion.claims.interval), whose value
is not finite where it looked and found nothing; or None if this run cannot tell.

Here are the claims about losses whose answer is exact; those about trained models are beside, and
are registered by the imports.
"""

from companion.claims import (  # noqa: F401
    measures_development,
    measures_language,
    measures_regression,
    measures_stages,
)
from companion.claims.interval import Reading
from companion.claims.registry import MEASURES, measures

__all__ = ["MEASURES"]


def _toys(run, of, potential):
    found = run["primer"]["estimates"]
    row = found[found.potential == potential].iloc[0]
    if of == "integral":
        return Reading(row.limit)
    toys = run["primer"].manifest["settings"]["toys"]
    settled = toys["burn_in"] * toys["eps"] * toys["gamma"] >= 4  # as primer.Sampling.settled
    few = "" if settled and row.ess >= 200 else f"{row.ess:.0f} effective draws, or a short burn-in"
    return Reading(row.estimate - row.reference, row.mcse, ill=few)


@measures("A-1")
def exact_examples(run, **row):
    """Integrals, and estimates less their own answers, beside exact LLCs."""
    return _toys(run, **row)


@measures("A-2")
def figure_2(run, **row):
    """The same of the four potentials of Fig. 2."""
    return _toys(run, **row)
