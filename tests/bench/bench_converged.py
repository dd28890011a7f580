"""What an LLC at equilibrium costs, its health included, at four checkpoints of the regression
transformer, counted and not timed: contexts whose gradient is taken, a loss alone as a third.

Chains of the paper's target, on small batches, from w0 and from the prior, run until both agree
and their mean is known, or to the cap. Where those from the prior are at rest and those from w0
elsewhere, the latter begin anew from where chains of a larger step went from w0, which counts too.
Those from w0 carry their companions, from which the step bias is known.

Held beside it is the paper's protocol, run as long as its chains need to come to rest.
"""

from dataclasses import replace

import numpy as np

from companion import presets, results
from devlib.llc import estimate_llc
from devlib.llc.equilibrium import compare
from devlib.llc.precision import MIN_ESS, TEST_RHAT
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.rng import stream_seed
from devlib.sampling import SGLD, Chains, per_sample_losses
from devlib.sampling.beside import Watched
from tests.bench.measure import Report

TIMES = ("devlib.llc:estimate_llc", "devlib.llc.equilibrium:compare",
         "devlib.sampling.beside:Watched")
PAPER = presets.PAPER.regression
SAMPLER = SGLD(PAPER.llc.eps, PAPER.llc.nbeta, PAPER.llc.gamma)
SEED, SAMPLES = 1, presets.PUBLISHED.regression.llc.samples
# checkpoint -> draws a chain that the paper's chains take from w0 until they are at rest, seen on
# chains of 12,000 (at the last they are not at rest then)
STEPS = {984: 0, 40_404: 0, 217_171: 4_000, 499_999: 12_000}
CHAINS, BATCH, BLOCK, CAP = 4, 32, 100, 2_400
PRECISION = 0.02
WARM = {"eps": 1e-3, "draws": 1_000}
LOSS_ALONE = 1 / 3  # of the cost of a loss with its gradient


def contexts(draws, companions=False) -> float:
    """Of a set of chains of so many draws; with their companions, which are chains of twice the
    step, half as many draws, and one chain without noise."""
    return BATCH * draws * (CHAINS * 1.5 + 1 if companions else CHAINS)


def paper_contexts(rest) -> float:
    """Of the paper's chains and draws after `rest` draws a chain to come to rest, or of its whole
    protocol where that has enough burn-in, and of the loss of its set."""
    llc = PAPER.llc
    draws = max(llc.draws, rest + llc.draws - llc.burn_in)
    return llc.batch * llc.chains * draws + LOSS_ALONE * llc.samples


def precise(found, precision, ess) -> bool:
    """Whether chains agree among themselves, and their mean is known."""
    return bool(found.rhat <= TEST_RHAT and found.ess >= ess
                and found.mcse <= precision * abs(found.mean))


def agree(one, other) -> bool:
    """Whether two sets of chains do by the estimates' difference: within the precision asked for,
    or within two of its standard errors."""
    difference = abs(one.mean - other.mean)
    return bool(difference <= max(PRECISION * abs(other.mean), 2 * np.hypot(one.mcse, other.mcse)))


def converged(problem, init) -> dict:
    """One checkpoint: the row of the table."""
    def chains(kind, start, name, eps=SAMPLER.eps):
        return kind(*problem, replace(SAMPLER, eps=eps), chains=CHAINS, batch_size=BATCH,
                    seed=stream_seed(SEED, name), init_losses=init, vectorised=False,
                    microbatch=MICROBATCH, start=start)

    prior, w0 = chains(Chains, "prior", "prior"), chains(Watched, "w0", "w0")
    cost, warmed, cold = LOSS_ALONE * SAMPLES, "no", None
    while True:
        prior.extend(BLOCK)
        more = prior.taken - w0.taken  # all of them, after a warm up
        w0.extend(more)
        cost += contexts(BLOCK) + contexts(more, companions=True)
        first, second = w0.draws(), prior.draws()
        one, other = estimate_llc(first), estimate_llc(second)
        both = estimate_llc(compare(first, second, burn_in=max(first.burn_in,
                                                               second.burn_in)).draws)
        met = agree(one, other)
        if (met and precise(both, PRECISION, MIN_ESS)) or prior.taken >= CAP:
            break
        apart = abs(one.mean - other.mean) > abs(other.mean) / 2  # and not merely on its way
        if apart and warmed == "no" and precise(other, 2 * PRECISION, MIN_ESS / 2):
            hot, cold = chains(Chains, "w0", "warm up", WARM["eps"]), one
            hot.extend(WARM["draws"])
            cost += contexts(np.isfinite(hot.draws(0).losses).sum() / CHAINS)
            warmed = "diverged" if hot.draws(0).diverged else "yes"
            if warmed == "yes":
                w0 = chains(Watched, "w0", "warmed")
                w0.w, w0.doubled.w = hot.w.clone(), hot.w.clone()
    told = {name: {"llc": found.mean, "mcse": found.mcse, "ess": found.ess, "rhat": found.rhat}
            for name, found in (("from w0", one), ("from prior", other), ("both", both),
                                ("from w0, before", cold)) if found}
    return {**told, "step bias": one.step_bias, "step bias mcse": one.step_bias_mcse,
            "slope share": one.slope_share, "chain loss": both.chain_loss,
            "init loss": both.init_loss, "draws": prior.taken, "warmed up": warmed, "agree": met,
            "precise": precise(both, PRECISION, MIN_ESS), "contexts": cost}


def main(steps=STEPS, name="converged"):
    report = Report(name, TIMES)
    store = results.committed_checkpoints("published", SEED)
    model = build_model(PAPER, 0)
    loss, data = per_sample_loss(model), fixed_set(SEED, "llc", SAMPLES, PAPER.task)
    rows = []
    for step, rest in steps.items():
        params = store.load(step)
        init = per_sample_losses(loss, params, data, MICROBATCH)
        row = converged((loss, params, data), init)
        paper = paper_contexts(rest)
        rows.append({"step": step, **row, "the paper's contexts": paper,
                     "times less": paper / row["contexts"]})
        print(rows[-1], flush=True)
        report.store({"run": store.manifest["settings"], "settings": {
            "chains": CHAINS, "batch": BATCH, "block": BLOCK, "cap": CAP, "precision": PRECISION,
            "warm up": WARM, "samples": SAMPLES}, "checkpoints": rows})


if __name__ == "__main__":
    main()
