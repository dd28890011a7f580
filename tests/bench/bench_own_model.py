"""One SGLD step on a model of a user's own: a plain transformer of the paper's regression size, one
thread, each library as it compiles such a model itself. devlib, devinterp 1.3.2 and
canonical-interp 0.2.7, whose environment needs a python3.12 on PATH.

A step is what one costs in a long chain. Left out on all sides: compiling, loading data, and the
init loss of the whole set.
"""

import tempfile
from pathlib import Path

from safetensors.torch import save_file

from devlib.regression.model import build_model
from devlib.regression.task import fixed_set
from tests.bench.bench_sgld import SAMPLES, SEED, SETTINGS, plain_loss, speed_up, stepper
from tests.bench.measure import Report, in_turns, spread
from tests.bench.peer import Peer

TIMES = ("devlib.sampling:Chains", "devlib.sampling:SGLD")
BATCHES = {128: 24, 1024: 6}  # and the steps of a round
ROUNDS = 9
BARS = {"devinterp": 3.0, "canonical-interp": 2.5}  # times devlib's CPU time
TOGETHER = 4  # chains in one call of canonical-interp, counted a chain


def contestants(devinterp, canonical, params, weights, batch, steps) -> dict:
    """Name -> a function that takes so many steps and returns the CPU milliseconds of one."""
    def asked(peer, chains=1, **how):
        return lambda: 1e3 / (steps * chains) * peer(
            "steps", weights=weights, samples=SAMPLES, seed=SEED, batch=batch, draws=steps,
            **how)["cpu"]

    data = fixed_set(SEED, "llc", SAMPLES, SETTINGS.task)
    ours = stepper(plain_loss(), params, data, True, batch, steps)
    return {
        "devlib": ours,
        "devinterp": asked(devinterp, model="plain", sampler="SGMCMC.sgld", loader="lean"),
        "canonical-interp": asked(canonical, together=1),
        f"canonical-interp, {TOGETHER} chains at once": asked(canonical, TOGETHER,
                                                             together=TOGETHER)}


def main(rounds=ROUNDS):
    report, found = Report("own_model", TIMES), {}
    params = {name: p.detach() for name, p in build_model(SETTINGS, SEED).named_parameters()}
    with (tempfile.TemporaryDirectory() as folder, Peer() as devinterp,
          Peer("canonical") as canonical):
        weights = str(Path(folder) / "weights.safetensors")
        save_file(params, weights)
        for batch, steps in BATCHES.items():
            taken = in_turns(contestants(devinterp, canonical, params, weights, batch, steps),
                             rounds)
            found[batch] = {"steps": {name: spread(values) for name, values in taken.items()},
                            "speed-up": {name: speed_up(values, taken["devlib"])
                                         for name, values in taken.items() if name != "devlib"}}
        versions = devinterp("versions") | canonical("versions")
    report.store({"unit": "CPU ms a step of a chain", "bars": BARS, "batches": found},
                 devinterp=versions["devinterp"], **{"canonical-interp": versions["canonical"]})
    for batch, part in found.items():
        for name, ratio in part["speed-up"].items():
            print(f"batch {batch}: {name} / devlib {ratio['median']:.2f} ({ratio['min']:.2f} to "
                  f"{ratio['max']:.2f})")


if __name__ == "__main__":
    main()
