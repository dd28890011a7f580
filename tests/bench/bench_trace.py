"""How near each estimator of the Hessian's trace comes for the same number of products H v: random
signs alone (Hutchinson), Hutch++ and XTrace as curvlinops has them, and devlib's, which takes out
the eigenvalues that Fig. B.4 asks for anyway; its search for them counts among its products.

Few contexts, for the shape of the spectrum is what decides, and many repetitions with seeds of
their own; the reference is devlib's with many probes.
"""

import tempfile
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from companion import presets
from devlib.hessian import Hessian, top_eigenpairs, trace
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.rng import generator
from tests.bench.bench_precision import chosen, runs
from tests.bench.measure import Report
from tests.bench.peer import Peer

TIMES = ("devlib.hessian:Hessian", "devlib.hessian:top_eigenpairs", "devlib.hessian:trace")
SETTINGS = presets.PUBLISHED.hessian
SEED, SAMPLES, REPETITIONS, REFERENCE = 1, 128, 6, 400
PRODUCTS = (60, 120)
THEIRS = ("Hutchinson", "Hutch++", "XTrace")


def ours(operator, products, repetition) -> float:
    """devlib's estimate from that many products, the search for eigenvalues included."""
    before = operator.products
    pairs = top_eigenpairs(operator, SETTINGS.pairs, generator(SEED, "start", repetition),
                           SETTINGS.tolerance)
    left = products - (operator.products - before)
    return trace(operator, generator(SEED, "probes", repetition), known=pairs, precision=1e-9,
                 most=left).mean


def methods(operator, peer, weights):
    """name -> (products, repetition) -> estimate; curvlinops' come from its own process."""
    found = {"devlib": lambda products, repetition: ours(operator, products, repetition)}
    for name in THEIRS:
        found[name] = lambda products, repetition, name=name: peer(
            "trace", weights=weights, samples=SAMPLES, seed=SEED, method=name, products=products,
            repetition=repetition)
    return found


def off(estimates, exact) -> dict:
    """Root mean square distance from the exact trace, as a share of it, and how well the
    repetitions know that, as a share of the distance."""
    distance = np.sqrt(np.mean((np.array(estimates) / exact - 1) ** 2))
    return {"rms": float(distance), "known to": (2 * len(estimates)) ** -0.5}


def main(checkpoints=None):
    report, store = Report("trace", TIMES), runs(checkpoints)
    loss = per_sample_loss(build_model(presets.PAPER.regression, SEED))
    data, found = fixed_set(SEED, "hessian", SAMPLES, presets.PAPER.regression.task), {}
    with tempfile.TemporaryDirectory() as folder, Peer("curvlinops") as peer:
        for step in chosen(store.steps):
            params, weights = store.load(step), str(Path(folder) / f"{step}.safetensors")
            save_file(params, weights)
            operator = Hessian(loss, params, data, microbatch=MICROBATCH, keep_graph=True)
            pairs = top_eigenpairs(operator, SETTINGS.pairs, generator(SEED, "converged"), 1e-4)
            exact = trace(operator, generator(SEED, "reference"), known=pairs, precision=1e-9,
                          most=REFERENCE)
            found[step] = {"trace": exact.mean, "error": exact.se, "methods": {
                name: {products: off([method(products, repetition)
                                      for repetition in range(REPETITIONS)], exact.mean)
                       for products in PRODUCTS}
                for name, method in methods(operator, peer, weights).items()}}
        versions = peer("versions")
    report.store({"samples": SAMPLES, "repetitions": REPETITIONS, "run": store.manifest["hash"],
                  "checkpoints": found}, curvlinops=versions["curvlinops"])


if __name__ == "__main__":
    main()
