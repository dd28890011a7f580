"""The LLC of a regression run's kept checkpoints by three protocols (ours), and what its chains
look like:

- *as published*: the paper's eps, nbeta and gamma, from w0, every draw averaged;
- *equilibrium*: the same target, from w0 and from the prior N(w0, 1 / gamma), burn-in left out,
  from the prior in longer chains too;
- *local*: the paper's nbeta under a spring that keeps most of what the model knows, from both
  starts too;

beside them the paper's target by a smaller step, whose chains are stable where the loss is steep,
and the profile, the LLC over nbeta and over the spring's sd in units of the weights' root mean
square.
"""

import functools

import numpy as np
import pandas as pd
import torch

from companion.curve import tables
from companion.long_chains import AS_PUBLISHED, FROM_PRIOR
from companion.measurements import version_key
from companion.presets import ProtocolSettings
from companion.regression import model_frame, model_loss
from devlib.devices import move, of
from devlib.fast import cache_slice
from devlib.hessian import Hessian, top_eigenpairs
from devlib.llc.estimate import estimate_llc, scaled_losses
from devlib.regression.metrics import predict
from devlib.regression.model import MICROBATCH
from devlib.regression.task import fixed_set, squared_errors
from devlib.rng import generator, stream_seed
from devlib.sampling import SGLD, Chains
from devlib.settings import RegressionSettings, as_dict
from devlib.steps import nearest_each

STARTS = ("w0", "prior")


def protocol_tables(store, settings: RegressionSettings, chosen: ProtocolSettings, seed,
                    directory) -> dict:
    """"estimates", one row a checkpoint, protocol and start (`estimate_row`); "climb", one row a
    checkpoint, start and block of draws of the long chains and of those of both starts;
    "positions", the loss at each position k of the model and of where its chains end; "profile",
    rows as the estimates'."""
    parts = {
        "starts": (measure_starts, nearest_each(store.loadable, chosen.steps)),
        "long": (measure_long, nearest_each(store.loadable, chosen.long_steps)),
        "prior": (measure_prior, nearest_each(store.loadable, chosen.prior_steps)),
        "small": (measure_small, nearest_each(store.loadable, chosen.small_steps)),
        "profile": (measure_profile, nearest_each(store.loadable, chosen.profile_steps))}
    found = {}
    for part, (measure, steps) in parts.items():
        facts = {"part": part, "task": as_dict(settings.task), "seed": seed,
                 "target": [settings.llc.eps, settings.llc.nbeta, settings.llc.gamma],
                 **settings_of(part, chosen), **version_key("protocols")}
        for table, rows in () if not steps else tables(
                functools.partial(measure, settings, chosen, seed), store, steps, directory,
                facts, f"protocols: {part}").items():
            found.setdefault(table, []).append(rows)
    return {name: pd.concat(rows, ignore_index=True) for name, rows in found.items()}


def settings_of(part, chosen) -> dict:
    """The settings that a part's numbers hang on, so that another grid of the profile leaves the
    chains of the other parts as they are."""
    others = {"starts", "long", "prior", "small", "profile"} - {part}
    shared = ("batch", "samples", "block")
    return {name: value for name, value in as_dict(chosen).items()
            if name in shared or (not name.endswith(("steps", "compile"))
            and not any(name.startswith(f"{other}_") for other in others)
            and (part == "starts" or name.startswith(f"{part}_")))}


# What is measured at one checkpoint: the last argument is its parameters.

def measure_starts(settings, chosen, seed, params):
    """Equilibrium and the local protocol, each from both starts."""
    curvature = largest_curvature(settings, chosen, seed, params)
    local = SGLD(*stable(settings.llc.nbeta, chosen.local_ratio, curvature, params))
    found = {"estimates": [], "climb": [],
             "positions": [position_row("model", "", settings, chosen, seed, params)]}
    for protocol, sampler in (("equilibrium", papers(settings)), ("local", local)):
        for start in STARTS:
            run = _chains(settings, chosen, seed, params, sampler, start, chosen.chains)
            run.extend(chosen.draws)
            draws = run.draws(chosen.burn_in)
            found["estimates"].append(estimate_row(protocol, draws) | {"curvature": curvature})
            found["positions"].append(position_row(protocol, start, settings, chosen,
                                                   seed, run.layout.unflatten(run.w[0])))
            if protocol == "equilibrium":
                found["climb"] += climb_rows(draws, chosen.block)
    return found


def measure_long(settings, chosen, seed, params):
    """As published: long chains from w0, every draw averaged."""
    run = _chains(settings, chosen, seed, params, papers(settings), "w0", chosen.long_chains)
    run.extend(chosen.long_draws)
    draws = run.draws(0)
    return {"estimates": [estimate_row(AS_PUBLISHED, draws)],
            "climb": climb_rows(draws, chosen.block, "w0, long")}


def measure_prior(settings, chosen, seed, params):
    """The same target from the prior, in chains that outlast its slow directions."""
    run = _chains(settings, chosen, seed, params, papers(settings), "prior", chosen.prior_chains)
    run.extend(chosen.prior_draws)
    draws = run.draws(chosen.prior_draws // 2)
    return {"estimates": [estimate_row(FROM_PRIOR, draws)],
            "climb": climb_rows(draws, chosen.block, "prior, long")}


def measure_small(settings, chosen, seed, params):
    """The paper's target by a tenth of its step, from both starts, in as many times the draws."""
    sampler = SGLD(settings.llc.eps / chosen.small_factor, settings.llc.nbeta, settings.llc.gamma)
    found = {"estimates": [], "climb": []}
    for start in STARTS:
        run = _chains(settings, chosen, seed, params, sampler, start, chosen.small_chains)
        run.extend(chosen.small_draws)
        draws = run.draws(chosen.small_draws // 2)
        found["estimates"].append(estimate_row("small step", draws))
        found["climb"] += climb_rows(draws, chosen.block, f"{start}, small step")
    return found


def measure_profile(settings, chosen, seed, params):
    """The LLC over nbeta and the spring, from both starts."""
    curvature, found = largest_curvature(settings, chosen, seed, params), []
    for sampler, start in profile_cells(chosen, curvature, params):
        run = _chains(settings, chosen, seed, params, sampler, start, chosen.profile_chains)
        run.extend(chosen.profile_draws)
        found.append(estimate_row("profile", run.draws(chosen.profile_draws // 2)))
    return {"profile": found}


def profile_cells(chosen, curvature, params):
    """(sampler, start) of every cell of a profile: over nbeta, the spring, and both starts."""
    for nbeta in chosen.profile_nbetas:
        for ratio in chosen.profile_ratios:
            sampler = SGLD(*stable(nbeta, ratio, curvature, params))
            for start in STARTS:
                yield sampler, start


def estimate_row(protocol, draws) -> dict:
    """An estimate with all that its health hangs on (devlib.llc.estimate.LLC)."""
    found, sampler = estimate_llc(draws), draws.sampler
    return {"protocol": protocol, "start": draws.start, "eps": sampler.eps,
            "nbeta": sampler.nbeta, "gamma": sampler.gamma, "relaxation": sampler.relaxation(),
            "chains": len(draws.losses), "draws": draws.losses.shape[1], "burn_in": draws.burn_in,
            "llc": found.mean, "mcse": found.mcse, "ess": found.ess, "rhat": found.rhat,
            "chain_sd": float(np.std(found.chain_means, ddof=1)),
            "distance_rhat": found.distance_rhat, "init_loss": found.init_loss,
            "chain_loss": found.chain_loss, "spring_ratio": found.spring_ratio,
            "diverged": len(found.diverged)}


def climb_rows(draws, block, start=None) -> list[dict]:
    """Means over the chains and over blocks of draws: nbeta (L_m - L_m(w0)) with the spread of
    the chains' own means, and the root mean square distance |w - w0|."""
    scaled = scaled_losses(draws)[draws.healthy]
    rows = []
    for first in range(0, scaled.shape[1] - block + 1, block):
        part = scaled[:, first:first + block].mean(1)
        apart = draws.distances[draws.healthy, first:first + block].mean()
        rows.append({"start": start or draws.start, "draw": first + block // 2,
                     "llc": part.mean(), "chain_sd": part.std(ddof=1),
                     "distance": float(np.sqrt(apart))})
    return rows


def position_row(what, start, settings, chosen, seed, params) -> dict:
    """Test loss at each position k, and the mean square of the predictions."""
    xs, ys = move(fixed_set(seed, "positions", chosen.position_samples, settings.task),
                  of(params))
    predictions = predict(model_frame(settings), params, xs, ys)
    losses = squared_errors(predictions, ys.double()).mean(0)
    return {"what": what, "start": start, "msp": float(predictions.square().mean()),
            **{f"loss_{k}": float(loss) for k, loss in enumerate(losses, 1)}}


def largest_curvature(settings, chosen, seed, params) -> float:
    """The largest eigenvalue of the Hessian of the loss at w0, on some of the LLC's samples."""
    data = tuple(part[:chosen.curvature_samples] for part in _data(settings, chosen, seed))
    operator = Hessian(model_loss(settings), params, data, keep_graph=True,
                       microbatch=cache_slice(MICROBATCH, of(params)))
    pairs = top_eigenpairs(operator, 1, generator(seed, "protocols", "curvature"), 0.02)
    return float(pairs.values[0])


def stable(nbeta, ratio, curvature, params) -> tuple[float, float, float]:
    """(eps, nbeta, gamma) of a target whose spring has an sd of `ratio` times the weights' root
    mean square, with a step that is stable: eps nbeta h and eps gamma at most STEEPEST. The Euler
    step of a direction of curvature h diverges from eps (nbeta h + gamma) = 4 on."""
    rms = float(torch.cat([p.flatten() for p in params.values()]).double().square().mean().sqrt())
    gamma = 1 / (ratio * rms) ** 2
    return min(STEEPEST / (nbeta * curvature), STEEPEST / gamma), nbeta, gamma


STEEPEST = 0.4


def papers(settings) -> SGLD:
    """The paper's sampler."""
    return SGLD(settings.llc.eps, settings.llc.nbeta, settings.llc.gamma)


def _chains(settings, chosen, seed, params, sampler, start, chains) -> Chains:
    """Chains whose two starts have batches and noise of their own."""
    number = seed if start == "w0" else stream_seed(seed, "prior")
    return Chains(model_loss(settings), params, _data(settings, chosen, seed), sampler,
                  chains=chains, seed=number, batch_size=chosen.batch, start=start,
                  compile=chosen.compile, microbatch=cache_slice(MICROBATCH, of(params)))


@functools.lru_cache(maxsize=2)  # once a process, not at each checkpoint
def _data(settings, chosen, seed):
    return move(fixed_set(seed, "llc", chosen.samples, settings.task))
