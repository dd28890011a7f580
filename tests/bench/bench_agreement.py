"""The same quadratic and the same settings through devlib and devinterp, against the exact answer
of the discrete chain (T1).

For L = 1/2 sum h_i w_i^2 and full batches every coordinate is an AR(1) process, and
E[nbeta L] = 1/2 sum nbeta h / (kappa (1 - eps kappa / 4)) with kappa = nbeta h + gamma.
"""

import dataclasses

import numpy as np
import torch

from devlib.llc import estimate_llc
from devlib.sampling import SGLD, sample_chains
from devlib.sampling.draws import Draws
from tests.bench.measure import Report, cpu
from tests.bench.peer import Peer

TIMES = ("devlib.sampling:sample_chains", "devlib.llc:estimate_llc")
H = (1.0, 10.0, 100.0, 0.0, 0.0)
SAMPLER = SGLD(eps=2e-4, nbeta=30.0, gamma=1.0)
CHAINS, DRAWS, BURN_IN, SEED = 8, 16_000, 1_000, 0


def exact(h, sampler) -> float:
    """The LLC that the discrete chain estimates (its limit of small steps is 1/2 sum nbeta h /
    kappa)."""
    pull = sampler.nbeta * np.asarray(h)
    kappa = pull + sampler.gamma
    return float((pull / (kappa * (1 - sampler.eps * kappa / 4))).sum() / 2)


def quadratic(params, batch):
    """1/2 sum h w^2, the same for each sample."""
    w = params["w"]
    return (torch.tensor(H, dtype=w.dtype) * w**2).sum() / 2 + batch[0] * 0


def main():
    report = Report("agreement", TIMES)
    ours, seconds = cpu(lambda: sample_chains(
        quadratic, {"w": torch.zeros(len(H))}, (torch.zeros(1),), SAMPLER, chains=CHAINS,
        draws=DRAWS + BURN_IN, burn_in=BURN_IN, seed=SEED))
    settings = dataclasses.asdict(SAMPLER)
    with Peer() as peer:
        theirs = peer("quadratic", h=H, chains=CHAINS, draws=DRAWS, burn_in=BURN_IN, seed=SEED,
                      **settings)
        versions = peer("versions")
    losses = np.array(theirs["losses"])
    draws = Draws(losses, np.zeros_like(losses), 0.0, SAMPLER, 0, 1, SEED)
    report.store({
        "settings": settings | {"h": H, "chains": CHAINS, "draws": DRAWS, "burn_in": BURN_IN},
        "exact": exact(H, SAMPLER),
        "devlib": facts(estimate_llc(ours), seconds),
        "devinterp": facts(estimate_llc(draws), theirs["cpu"]) | {"own llc": theirs["llc"]}},
        devinterp=versions["devinterp"])


def facts(estimate, seconds) -> dict:
    return {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
            "rhat": estimate.rhat, "cpu seconds": seconds}


if __name__ == "__main__":
    main()
