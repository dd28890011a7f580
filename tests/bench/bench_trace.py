"""How near each estimator of the Hessian's trace comes for the same number of products H v: random
signs alone (Hutchinson), Hutch++ and XTrace as curvlinops has them, and devlib's, which takes out
the eigenvalues that Fig. B.4 asks for anyway; its search for them counts among its products.

Few contexts, for the shape of the spectrum is what decides, and many repetitions with seeds of
their own; the reference is devlib's with many probes.
"""

import numpy as np
import torch
from curvlinops import hutchinson_trace, hutchpp_trace, xtrace

from companion import presets
from devlib.hessian import Hessian, top_eigenpairs, trace
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.rng import generator, stream_seed
from tests.bench.bench_precision import chosen, runs
from tests.bench.measure import Report

SETTINGS = presets.PUBLISHED.hessian
SEED, SAMPLES, REPETITIONS, REFERENCE = 1, 128, 6, 400
PRODUCTS = (60, 120)
THEIRS = {"Hutchinson": hutchinson_trace, "Hutch++": hutchpp_trace, "XTrace": xtrace}


class Columns:
    """H as curvlinops takes it: `A @ V` for a matrix of columns."""

    def __init__(self, operator):
        self.operator, self.shape = operator, operator.shape
        self.dtype, self.device = torch.float64, torch.device("cpu")

    def __matmul__(self, v):
        columns = [self.operator @ column for column in v.reshape(len(v), -1).T.numpy()]
        return torch.from_numpy(np.stack(columns, 1)).reshape(v.shape)


def ours(operator, products, repetition) -> float:
    """devlib's estimate from that many products, the search for eigenvalues included."""
    before = operator.products
    pairs = top_eigenpairs(operator, SETTINGS.pairs, generator(SEED, "start", repetition),
                           SETTINGS.tolerance)
    left = products - (operator.products - before)
    return trace(operator, generator(SEED, "probes", repetition), known=pairs, precision=1e-9,
                 most=left).mean


def theirs(method, operator, products, repetition) -> float:
    """One of curvlinops' estimates from that many products."""
    torch.manual_seed(stream_seed(SEED, "peer", repetition) % 2**63)  # it takes no generator
    return float(method(Columns(operator), products))


def methods():
    """name -> (operator, products, repetition) -> estimate."""
    found = {"devlib": ours}
    for name, method in THEIRS.items():
        found[name] = lambda *given, method=method: theirs(method, *given)
    return found


def off(estimates, exact) -> dict:
    """Root mean square distance from the exact trace, as a share of it, and how well the
    repetitions know that, as a share of the distance."""
    distance = np.sqrt(np.mean((np.array(estimates) / exact - 1) ** 2))
    return {"rms": float(distance), "known to": (2 * len(estimates)) ** -0.5}


def main(checkpoints=None):
    report, store = Report("trace"), runs(checkpoints)
    loss = per_sample_loss(build_model(presets.PAPER.regression, SEED))
    data, found = fixed_set(SEED, "hessian", SAMPLES, presets.PAPER.regression.task), {}
    for step in chosen(store.steps):
        operator = Hessian(loss, store.load(step), data, microbatch=MICROBATCH, keep_graph=True)
        pairs = top_eigenpairs(operator, SETTINGS.pairs, generator(SEED, "converged"), 1e-4)
        exact = trace(operator, generator(SEED, "reference"), known=pairs, precision=1e-9,
                      most=REFERENCE)
        found[step] = {"trace": exact.mean, "error": exact.se, "methods": {
            name: {products: off([method(operator, products, repetition)
                                  for repetition in range(REPETITIONS)], exact.mean)
                   for products in PRODUCTS} for name, method in methods().items()}}
    report.store({"samples": SAMPLES, "repetitions": REPETITIONS, "run": store.manifest["hash"],
                  "checkpoints": found})


if __name__ == "__main__":
    main()
