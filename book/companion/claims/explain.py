"""One claim's whole arithmetic: the data, the interval, the errors, the power, and the verdict at
other tolerances. What the command `claims --explain ID` prints."""

import math

import numpy as np

from companion.claims import seeds
from companion.claims.interval import LEVEL, Z, judge, prediction
from companion.claims.judge import Judged, Measured
from companion.claims.text import block, ends, measured, power

SCALES = (0.5, 1.0, 2.0)


def explain(found: Judged) -> str:
    """The claim in full, and each of its rows step by step."""
    return "\n\n".join([block(found), *(_row(m, found.claim.unit) for m in found.rows)])


def _row(m: Measured, unit) -> str:
    lines = [f"{m.row.what} ({m.row.unit or unit}; {m.row.scale} scale"
             + (f"; from step {m.row.seen_from:,}" if m.row.seen_from else "") + ")",
             *(f"  {line}" for line in (*_wanted(m), *_reading(m)))]
    return "\n".join([*lines, f"  verdict: {m.verdict}" + (f" ({m.why})" if m.why else "")])


def _wanted(m):
    """Where the interval comes from."""
    row = m.row
    if row.released:
        values = seeds.of_seeds(**row.released)
        said = {"curve": "", **row.released}
        where = said["curve"] + (f", step {said['step']:,}" if "step" in said else "") + (
            f" less step {said['start']:,}" if "start" in said else "")
        runs = m.reading.runs if m.reading else 1
        logs = np.log(values) if row.log else values
        mean, half = prediction(logs, runs)
        yield f"released, {where}: " + ", ".join(f"{value:.5g}" for value in values)
        yield (f"{'of the logs: ' if row.log else ''}mean {mean:.5g}, sd "
               f"{np.std(logs, ddof=1):.3g} of n = {len(values)}; half width t({len(values) - 1}) "
               f"sd sqrt(1/{runs} + 1/{len(values)}) = {half:.4g} at {LEVEL:.0%}")
    elif row.bound is not None:
        said = "gives no number" if row.expected is None else f"has {row.expected:g}"
        yield (f"{'at least' if row.at_least is not None else 'at most'} {row.bound:g}, to be kept "
               f"by more than {Z:.2f} standard errors; the paper {said}")
    elif row.between:
        said = "gives no number" if row.expected is None else f"has {row.expected:,g}"
        yield f"between {row.between[0]:,} and {row.between[1]:,}; the paper {said}"
    else:
        yield f"the paper has {row.expected:g}; tolerance {row.tolerance:g}"
    if row.shared:
        yield "the released contexts are the same five times: our error counts twice, squared"


def _reading(m):
    """What was found, what that would notice, and what other tolerances would say."""
    if m.reading is None:
        yield f"here: nothing measured; effect claimed {m.row.effect:g}"
        return
    found, reading = m.interval, m.reading
    error = "an exact reading" if reading.error is None else f"standard error {reading.error:.3g}"
    logs = " in the log" if m.row.log or m.row.between else ""
    blind = f"; blind to {reading.blind:.3g}{logs}" if reading.blind else ""
    yield f"here: {measured(m)} ({error}{blind})"
    yield (f"half width: {found.spread:.4g} of the spread or tolerance{_noise(m)}; agrees from "
           f"{ends(found)}")
    yield f"power: notices {power(m)}" + ("; half of it would go unnoticed" if found.coarse else "")
    if found.p is not None:
        yield f"p = {found.p:.3g}"
    if m.verdict and not reading.ill:
        others = (f"{judge(m.row, reading, scale)[0]} at {scale:g} times the tolerance"
                  for scale in SCALES)
        yield "; ".join(others)


def _noise(m):
    """What else is in the half width: our error in quadrature with the spread; where the reading is
    blind to more than both, that instead. Between two steps, and at a bound, it widens nothing:
    what is noticed is that much farther off."""
    found, reading = m.interval, m.reading
    if m.row.bound is not None or m.row.between:
        return f", and {found.noise:.4g} more to be noticed"
    joined = f", {found.noise:.4g} of our error, in quadrature"
    if reading.blind > math.hypot(found.spread, found.noise):
        return f"{joined}, and no less than what it is blind to, {reading.blind:.4g}"
    return joined
