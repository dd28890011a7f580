"""From draws to the local learning coefficient (eq. 3), with its error."""

from devlib.llc.estimate import LLC, default_nbeta, estimate_llc, llc_trace, scaled_losses

__all__ = ["LLC", "default_nbeta", "estimate_llc", "llc_trace", "scaled_losses"]
