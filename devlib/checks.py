"""What an argument has to be: each function refuses anything else in one line."""

import math
from numbers import Integral, Real

from devlib.errors import UserError


def check_seed(seed) -> int:
    """The seed, if it is one. Raises UserError if it is no whole number from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed must be 0 or more, not {seed!r}")
    if seed >= 2**63:
        raise UserError(f"seed must be below 2**63, not {seed}")
    return seed


def check_number(name, value, *, above=None, least=None, most=None):
    """Raises UserError unless `value` is a finite number in its range."""
    fine = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if fine and above is not None:
        fine = value > above
    if fine and least is not None:
        fine = value >= least
    if fine and most is not None:
        fine = value <= most
    if not fine:
        limits = [f"above {above}" if above is not None else "",
                  f"{least} or more" if least is not None else "",
                  f"{most} or less" if most is not None else ""]
        raise UserError(f"{name} must be a finite number, {' and '.join(filter(None, limits))}, "
                        f"not {value!r}")


def as_number(name, value) -> float:
    """The number, also if it comes as its text, as YAML hands on 4e0. Raises UserError for what
    spells none."""
    try:
        if isinstance(value, str | Real) and not isinstance(value, bool):
            return float(value)
    except ValueError:
        pass
    raise UserError(f"{name} must be a number, not {value!r}")


def check_count(name, value, least=1):
    """Raises UserError unless `value` is a whole number of `least` or more."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} must be a whole number of {least} or more, not {value!r}")


def check_flag(name, value, or_none=False):
    """Raises UserError unless `value` is True or False, or None where that is taken."""
    if not isinstance(value, bool) and not (or_none and value is None):
        raise UserError(f"{name} must be True or False{', or None' * or_none}, not {value!r}")


def check_burn_in(burn_in, **length):
    """Raises UserError unless `length`, draws by their argument's name, is a whole number of 1 or
    more, and `burn_in` is None or below it."""
    ((name, draws),) = length.items()
    check_count(name, draws)
    if burn_in is not None:
        check_count("burn_in", burn_in, least=0)
        if burn_in >= draws:
            raise UserError(f"burn_in must be below {name} = {draws}, not {burn_in}")
