"""PyHessian's side of the benches. Run by peer.py in an environment of its own, with the project's
root on PYTHONPATH; of devlib it takes presets and data, which need torch alone.

PyHessian is given its fast case: one batch, whose gradient is computed once.
"""

import importlib.metadata

import numpy as np
import torch
from pyhessian import hessian
from safetensors.torch import load_file
from torch import nn

from companion import presets
from devlib.regression.task import fixed_set
from tests.bench.measure import cpu
from tests.bench.serving import serve
from tests.plain_twin import PlainTransformer

TASK = presets.PAPER.regression.task


def versions():
    return {name: importlib.metadata.version(name) for name in ("PyHessian", "torch", "numpy")}


class OneInput(PlainTransformer):
    """PyHessian hands a model one tensor and the targets to the criterion."""

    def forward(self, pairs):
        return super().forward(pairs[..., :-1], pairs[..., -1])


def _hessian(weights, samples, seed):
    settings = presets.PAPER.regression
    module = OneInput(settings.model, settings.task)
    module.load_state_dict(load_file(weights))
    xs, ys = fixed_set(seed, "hessian", samples, TASK)
    torch.manual_seed(seed)
    return hessian(module, nn.MSELoss(), data=(torch.cat([xs, ys[..., None]], -1), ys), cuda=False)


def eigenvalues(weights, samples, seed, count, tolerance, most):
    """The largest `count` by its power iteration, with the CPU seconds from the model on."""
    values, seconds = cpu(lambda: _hessian(weights, samples, seed).eigenvalues(
        maxIter=most, tol=tolerance, top_n=count)[0])
    return {"values": values, "cpu": seconds}


def trace(weights, samples, seed, probes):
    """Mean and standard deviation of so many of its probes, and the CPU seconds from the model
    on."""
    # a tolerance that no probe meets: all are taken
    values, seconds = cpu(lambda: _hessian(weights, samples, seed).trace(
        maxIter=probes, tol=-1.0))
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)),
            "probes": len(values), "cpu": seconds}


if __name__ == "__main__":
    serve(versions, eigenvalues, trace)
