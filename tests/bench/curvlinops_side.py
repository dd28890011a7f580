"""curvlinops' side of the benches. Run by peer.py in an environment of its own, with the project's
root on PYTHONPATH; products with the Hessian are devlib's own, so that only estimators differ."""

import functools
import importlib.metadata

import numpy as np
import torch
from curvlinops import hutchinson_trace, hutchpp_trace, xtrace
from safetensors.torch import load_file

from companion import presets
from devlib.hessian import Hessian
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.rng import stream_seed
from tests.bench.serving import serve

METHODS = {"Hutchinson": hutchinson_trace, "Hutch++": hutchpp_trace, "XTrace": xtrace}


def versions():
    return {"curvlinops": importlib.metadata.version("curvlinops-for-pytorch"),
            "torch": torch.__version__}


class Columns:
    """H as curvlinops takes it: `A @ V` for a matrix of columns."""

    def __init__(self, operator):
        self.operator, self.shape = operator, operator.shape
        self.dtype, self.device = torch.float64, torch.device("cpu")

    def __matmul__(self, v):
        columns = [self.operator @ column for column in v.reshape(len(v), -1).T.numpy()]
        return torch.from_numpy(np.stack(columns, 1)).reshape(v.shape)


@functools.lru_cache(maxsize=1)  # the bench goes through the checkpoints one after another
def _operator(weights, samples, seed):
    loss = per_sample_loss(build_model(presets.PAPER.regression, seed))
    data = fixed_set(seed, "hessian", samples, presets.PAPER.regression.task)
    return Hessian(loss, load_file(weights), data, microbatch=MICROBATCH, keep_graph=True)


def trace(weights, samples, seed, method, products, repetition):
    """One estimate of a method from that many products."""
    operator = Columns(_operator(weights, samples, seed))
    torch.manual_seed(stream_seed(seed, "peer", repetition) % 2**63)  # it takes no generator
    return float(METHODS[method](operator, products))


if __name__ == "__main__":
    serve(versions, trace)
