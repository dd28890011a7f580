"""How the cost of an SGLD step grows with parameters, batch and chains, on one thread.

Each ladder varies one thing and holds the others at the published preset's. `exponent` is the
slope of log cost on log size over the whole ladder, with its standard error from the scatter of
the rungs around the line.
"""

import numpy as np
import torch

from companion import presets
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.sampling import SGLD, Chains
from devlib.settings import replace
from tests.bench.measure import Report, cpu, in_turns, spread

TIMES = ("devlib.sampling:Chains", "devlib.sampling:SGLD",
         "devlib.regression.model:per_sample_loss")
SETTINGS = presets.PUBLISHED.regression
WIDTHS = (16, 32, 64, 128, 256)  # embedding and MLP alike
BATCHES = (32, 64, 128, 256, 512, 1024)
CHAINS = (1, 2, 4, 8)
ROUNDS, SECONDS = 5, 0.15  # of work in a round, about
SAMPLES, SEED = 2**11, 0


def with_width(width):
    model = replace(SETTINGS.model, embed_dim=width, mlp_dim=width)
    return replace(SETTINGS, model=model)


def multiplications(model, task) -> int:
    """Of a forward pass over one context, in the weight matrices (what grows as width squared).

    All blocks but the last take the 2K - 1 tokens that matter; the last makes keys and values for
    those, and queries, output and MLP at the K x-tokens alone. An SGLD step takes three times as
    many, less the one product that nothing is behind: the embedding's input needs no gradient.
    """
    width, features = model.embed_dim, task.task_dim + 1
    tokens, read = 2 * task.examples - 1, task.examples
    everywhere, reading = 2 * width**2, 2 * width**2 + 2 * width * model.mlp_dim
    last = everywhere * tokens + reading * read
    before = (model.layers - 1) * (everywhere + reading) * tokens
    return features * width * tokens + before + last + width * read


def step_multiplications(model, task) -> int:
    """Of forward and backward over one context."""
    tokens = 2 * task.examples - 1
    return 3 * multiplications(model, task) - (task.task_dim + 1) * model.embed_dim * tokens


def chains_of(settings, batch, chains=1, vectorised=False):
    """A run, and its number of parameters."""
    model, llc = build_model(settings, SEED), settings.llc
    params = {name: p.detach() for name, p in model.named_parameters()}
    run = Chains(per_sample_loss(model), params, fixed_set(SEED, "llc", SAMPLES, settings.task),
                 SGLD(llc.eps, llc.nbeta, llc.gamma), chains=chains, seed=SEED, batch_size=batch,
                 vectorised=vectorised, compile=not vectorised, microbatch=MICROBATCH)
    return run, run.size


def contestant(run):
    """CPU milliseconds of one step of all chains, over as many steps as fill a round."""
    run.extend(1)  # compiles
    once = cpu(lambda: run.extend(2))[1] / 2
    steps = max(2, round(SECONDS / once))
    return lambda: cpu(lambda: run.extend(steps))[1] / steps * 1e3


def exponent(sizes, costs) -> dict:
    """Least-squares slope of log cost on log size and its standard error."""
    x, y = np.log(sizes), np.log(costs)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / (len(x) - 2) / (centred @ centred)))
    return {"slope": slope, "error": error}


def ladder(runs: dict, sizes) -> dict:
    """Costs of each rung, in turns, and the exponent."""
    taken = in_turns({name: contestant(run) for name, run in runs.items()}, ROUNDS)
    costs = {name: spread(values) for name, values in taken.items()}
    return {"sizes": list(sizes), "cost": list(costs.values()),
            "exponent": exponent(sizes, [cost["median"] for cost in costs.values()])}


def main():
    report = Report("scaling", TIMES)
    batch = SETTINGS.llc.batch
    by_width = {width: chains_of(with_width(width), batch) for width in WIDTHS}
    parameters = ladder({width: run for width, (run, _) in by_width.items()},
                        [size for _, size in by_width.values()])
    parameters["widths"] = WIDTHS
    parameters["multiplications"] = [
        step_multiplications(with_width(width).model, SETTINGS.task) * batch for width in WIDTHS]
    del by_width
    torch.compiler.reset()  # torch keeps only a few compiled shapes of one function
    batches = ladder({m: chains_of(SETTINGS, m)[0] for m in BATCHES}, BATCHES)
    torch.compiler.reset()
    one_by_one = ladder({c: chains_of(SETTINGS, batch, c)[0] for c in CHAINS}, CHAINS)
    together = ladder({c: chains_of(SETTINGS, batch, c, True)[0] for c in CHAINS}, CHAINS)
    report.store({"unit": "CPU ms a step of all chains", "batch": batch,
                  "parameters": parameters, "batches": batches,
                  "chains one by one": one_by_one, "chains together": together})


if __name__ == "__main__":
    main()
