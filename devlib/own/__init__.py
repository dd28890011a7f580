"""A model of one's own, from the module and its data to an LLC with its health."""

from devlib.own.curve import llc_curve
from devlib.own.measure import Measurement, measure
from devlib.own.model import next_token

__all__ = ["Measurement", "llc_curve", "measure", "next_token"]
