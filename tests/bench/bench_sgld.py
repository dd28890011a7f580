"""One SGLD step of the regression transformer, batch 1,024, one thread: devlib and devinterp.

A step is everything that one costs in a long chain: fetching the batch, gradient, noise, update,
and the books. Left out on both sides: compiling, loading data, and the init loss of the whole set.
"""

import tempfile
from pathlib import Path

from safetensors.torch import save_file
from torch.func import functional_call

from companion import presets
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set, squared_errors
from devlib.sampling import SGLD, Chains
from tests.bench.measure import Report, cpu, in_turns, spread
from tests.bench.peer import Peer
from tests.plain_twin import PlainTransformer

TIMES = ("devlib.sampling:Chains", "devlib.sampling:SGLD")
SETTINGS = presets.PAPER.regression
SAMPLES, SEED = 2**14, 0  # a set that both sides load in no time
STEPS, ROUNDS = 24, 7
PEERS = {  # contestant -> model, sampler and loader on devinterp's side
    "devinterp": ("plain", "SGMCMC.sgld", "usual"),
    "devinterp, lean data loader": ("plain", "SGMCMC.sgld", "lean"),
    "devinterp, its default sampler": ("plain", "SGLD", "usual"),
    "devinterp, devlib's model": ("ours", "SGMCMC.sgld", "lean")}


def plain_loss():
    """The loss of the model as a reader of F.2.1 would write it, for devlib's sampler."""
    model = PlainTransformer(SETTINGS.model, SETTINGS.task)

    def loss(params, batch):
        return squared_errors(functional_call(model, params, batch), batch[1]).mean(-1)
    return loss


def stepper(loss, params, data, compile, batch=SETTINGS.llc.batch, steps=STEPS):
    """A contestant: CPU milliseconds of a step of devlib."""
    llc = SETTINGS.llc
    run = Chains(loss, params, data, SGLD(llc.eps, llc.nbeta, llc.gamma), chains=1, seed=SEED,
                 batch_size=batch, vectorised=False, compile=compile,
                 microbatch=MICROBATCH if compile else None)
    return lambda: cpu(lambda: run.extend(steps))[1] / steps * 1e3


def speed_up(theirs, ours) -> dict:
    """Of each round, so that what slows one second slows both sides of a ratio."""
    return spread([other / own for other, own in zip(theirs, ours, strict=True)])


def main():
    report = Report("sgld", TIMES)
    model = build_model(SETTINGS, SEED)
    params = {name: p.detach() for name, p in model.named_parameters()}
    data = fixed_set(SEED, "llc", SAMPLES, SETTINGS.task)
    with tempfile.TemporaryDirectory() as folder, Peer() as peer:
        weights = str(Path(folder) / "weights.safetensors")
        save_file(params, weights)

        def ask(model, sampler, loader):
            return lambda: peer("steps", model=model, weights=weights, samples=SAMPLES, seed=SEED,
                                batch=SETTINGS.llc.batch, draws=STEPS, sampler=sampler,
                                loader=loader)["cpu"] / STEPS * 1e3

        contestants = {
            "devlib": stepper(per_sample_loss(model), params, data, True),
            "devlib, plain model": stepper(plain_loss(), params, data, True),
            "devlib, plain model, not compiled": stepper(plain_loss(), params, data, False),
            **{name: ask(*how) for name, how in PEERS.items()}}
        taken = in_turns(contestants, ROUNDS)
        versions = peer("versions")
    report.store({
        "batch": SETTINGS.llc.batch, "steps a round": STEPS, "unit": "CPU ms a step",
        "parameters": sum(p.numel() for p in params.values()), "peers": PEERS,
        "steps": {name: spread(values) for name, values in taken.items()},
        "speed-up": {name: speed_up(taken[name], taken["devlib"]) for name in PEERS}},
        devinterp=versions["devinterp"])


if __name__ == "__main__":
    main()
