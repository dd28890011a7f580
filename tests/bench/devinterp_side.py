"""devinterp's side of the benches. Run by peer.py in devinterp's own environment, with the
project's root on PYTHONPATH; of devlib it takes presets, data and the model, which need torch
alone.
"""

import functools
import importlib.metadata
import time

import torch
from devinterp.optim.sgld import SGLD
from devinterp.optim.sgmcmc import SGMCMC
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from devinterp.utils import get_init_loss_multi_batch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from companion import presets
from devlib.regression.model import RegressionTransformer
from devlib.regression.task import fixed_set
from tests.bench.serving import serve
from tests.plain_twin import PlainTransformer

MODELS = {"plain": PlainTransformer, "ours": RegressionTransformer}
# SGMCMC.sgld is what devinterp recommends; SGLD, deprecated, is still its default.
SAMPLERS = {"SGMCMC.sgld": SGMCMC.sgld, "SGLD": SGLD}


def versions():
    return {name: importlib.metadata.version(name) for name in ("devinterp", "torch", "numpy")}


def steps(model, weights, samples, seed, batch, draws, sampler, loader):
    """CPU and wall seconds of one chain on the regression transformer, started from `weights`.
    The init loss is given, so that no time goes into it."""
    module, llc = _model(model, weights), presets.PAPER.regression.llc
    data = _loader(loader, samples, seed, batch)
    return _timed(lambda: _estimate(module, data, _regression_loss, SAMPLERS[sampler], llc.eps,
                                    llc.nbeta, llc.gamma, 1, draws, 0, seed, 1.0))[1]


def initial_pass(model, weights, samples, seed, batch, batches, loader):
    """CPU and wall seconds of devinterp's own init loss over some batches."""
    module, data = _model(model, weights), _loader(loader, samples, seed, batch)
    return _timed(lambda: get_init_loss_multi_batch(
        data, batches, module, _regression_loss, torch.device("cpu")))[1]


def quadratic(h, eps, nbeta, gamma, chains, draws, burn_in, seed):
    """The losses of every draw on 1/2 sum h_i w_i^2, started at 0, and devinterp's own LLC."""
    h = torch.tensor(h)
    module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(len(h)))})
    data = DataLoader(TensorDataset(torch.zeros(4096, 1)), batch_size=1)
    result, spent = _timed(lambda: _estimate(
        module, data, lambda model, _: (h * model["w"] ** 2).sum() / 2, SGMCMC.sgld, eps, nbeta,
        gamma, chains, draws, burn_in, seed, 0.0))
    return spent | {"llc": result["llc/mean"], "losses": result["loss/trace"].tolist()}


def _estimate(module, data, evaluate, sampler, eps, nbeta, gamma, chains, draws, burn_in, seed,
              init_loss):
    """devinterp's conventions: lr is eps of eq. 8, localization gamma, nbeta is n beta; this entry
    point hands nbeta on to its LLC callback."""
    return estimate_learning_coeff_with_summary(
        module, data, evaluate=evaluate, sampling_method=sampler,
        optimizer_kwargs={"lr": eps, "localization": gamma, "nbeta": nbeta}, num_draws=draws,
        num_chains=chains, num_burnin_steps=burn_in, init_loss=init_loss, seed=seed,
        verbose=False)


def _regression_loss(model, batch):
    xs, ys = batch
    return nn.functional.mse_loss(model(xs, ys), ys)


@functools.lru_cache(maxsize=4)
def _model(name, weights):
    settings = presets.PAPER.regression
    module = MODELS[name](settings.model, settings.task)
    module.load_state_dict(load_file(weights))
    return module


@functools.lru_cache(maxsize=4)
def _loader(kind, samples, seed, batch):
    """"usual": DataLoader as its manual shows it, one sample fetched at a time. "lean": the same
    shuffled batches by one indexing, the fastest that devinterp's interface allows."""
    data = fixed_set(seed, "llc", samples, presets.PAPER.regression.task)
    if kind == "usual":
        return DataLoader(TensorDataset(*data), batch_size=batch, shuffle=True)
    return DataLoader(_Whole(*data), batch_size=batch, shuffle=True, collate_fn=_as_it_is)


class _Whole(TensorDataset):
    def __getitems__(self, indices):
        return self[indices]


def _as_it_is(batch):
    return batch


def _timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    value = work()
    return value, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


if __name__ == "__main__":
    serve(versions, steps, initial_pass, quadratic)
