"""What a standard error of 2 % costs, at some checkpoints of the regression transformer: devlib's
cheaper settings against the paper's settings run through devinterp.

devlib's side is measured whole: the pass for the init losses, burn-in, and chains run on until the
error is small enough and they agree in the loss, as the stored curves ask (companion's llc_row);
what equilibrium costs is another bench's. devinterp's is a part, scaled: a step times the paper's
chains and draws, and a batch of its init-loss pass times the batches of the paper's set. Compiling
comes beside it.

Beside the costs it looks at what the batch does: chains of every batch size with the same noise,
so that their difference is far better known than either mean.
"""

import tempfile
from pathlib import Path

from safetensors.torch import save_file

from companion import presets, results
from companion.packed import open_run
from devlib.llc import estimate_llc, scaled_losses
from devlib.llc.precision import estimate_to_precision
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.sampling import SGLD, Chains, per_sample_losses, sample_chains
from devlib.sampling.draws import import_arviz
from devlib.settings import as_dict
from devlib.steps import nearest_each
from tests.bench.measure import Report, cpu, spread
from tests.bench.peer import Peer

TIMES = ("devlib.llc.precision:estimate_to_precision", "devlib.sampling:sample_chains")
PAPER = presets.PAPER.regression
SAMPLER = SGLD(PAPER.llc.eps, PAPER.llc.nbeta, PAPER.llc.gamma)
WANTED = (4_232, 40_292, 318_181)  # in LR2, at the peak, and the end of LR4: the nearest there are
EARLY = (984, 4_232, 6_299)  # of a run that stops early
SEED = 1  # the paper's own
SAMPLES = presets.PUBLISHED.regression.llc.samples
OURS = {"chains": 8, "batch_size": 64, "precision": 0.02, "cap_draws": 2_500, "block": 200,
        "min_ess": 50, "microbatch": MICROBATCH}  # MCSE itself known to about a tenth
BATCHES = (32, 64, 128, 1024)
PAIRED = {"chains": 4, "draws": 200, "burn_in": 100, "microbatch": MICROBATCH}
PEER_STEPS, PEER_ROUNDS, PEER_BATCHES = 20, 3, 32


def runs(checkpoints=None):
    """The run to measure on: the one named, a directory or a packed file, else the few checkpoints
    of the published preset that the repository holds."""
    return open_run(checkpoints) if checkpoints else results.committed_checkpoints("published",
                                                                                   SEED)


def chosen(steps) -> list[int]:
    """Three steps of those there are: the nearest to WANTED, or to EARLY in a short run."""
    wanted = WANTED if max(steps) >= WANTED[1] else EARLY
    return nearest_each(steps, wanted)


def between_chains(kept) -> float:
    """Standard error of the mean from the spread of the chains' means, (C, T) -> number. It counts
    correlations of any length, and with few chains is itself rough: to one part in
    sqrt(2 (C - 1))."""
    return float(kept.mean(1).std(ddof=1) / len(kept) ** 0.5)


def facts(draws, baseline="same-batch") -> dict:
    """Estimate and both errors. `tau` is draws an effective draw."""
    kept = scaled_losses(draws, baseline)[:, draws.burn_in:]
    estimate = estimate_llc(draws, baseline)
    return {"llc": estimate.mean, "mcse": estimate.mcse, "between chains": between_chains(kept),
            "ess": estimate.ess, "rhat": estimate.rhat, "tau": kept.size / estimate.ess,
            "sd": float(kept.std()), "chains": len(kept), "draws": draws.losses.shape[1],
            "burn_in": draws.burn_in}


def cheaper(loss, params, data) -> dict:
    """devlib's side, measured from the parameters to the estimate."""
    init, first = cpu(lambda: per_sample_losses(loss, params, data, MICROBATCH))
    found, chains = cpu(lambda: estimate_to_precision(
        loss, params, data, SAMPLER, seed=SEED, compile=True, init_losses=init, health=False,
        max_distance_rhat=None, warn=False, **OURS))
    return facts(found.draws) | {
        "reached": found.reached, "reason": found.reason, "batch": OURS["batch_size"],
        "cpu": {"init losses": first, "chains": chains, "total": first + chains}}


def paired(loss, params, data) -> tuple[list[dict], object]:
    """One row a batch size, all with the same noise, and the draws of the largest. `difference` is
    the mean over chains of (this batch - the paper's), with its standard error over chains."""
    init = per_sample_losses(loss, params, data, MICROBATCH)
    draws = {batch: cpu(lambda batch=batch: sample_chains(
        loss, params, data, SAMPLER, seed=SEED, batch_size=batch, compile=True, init_losses=init,
        **PAIRED)) for batch in BATCHES}  # with the CPU seconds of each
    means = {batch: scaled_losses(run)[:, run.burn_in:].mean(1)
             for batch, (run, _) in draws.items()}
    rows = []
    for batch, (run, seconds) in draws.items():
        difference = means[batch] - means[max(BATCHES)]
        rows.append({"batch": batch, **facts(run),
                     "ms a step": seconds / run.losses.size * 1e3,
                     "difference": float(difference.mean()),
                     "difference error": between_chains(difference[:, None])})
    return rows, draws[max(BATCHES)][0]


def devinterp(peer, weights) -> dict:
    """The paper's settings, a part of them: CPU seconds as measured, and scaled."""
    llc = PAPER.llc
    common = {"model": "plain", "weights": weights, "samples": SAMPLES, "seed": SEED,
              "batch": llc.batch, "loader": "lean"}
    steps = [peer("steps", draws=PEER_STEPS, sampler="SGMCMC.sgld", **common)["cpu"] / PEER_STEPS
             for _ in range(PEER_ROUNDS)]
    batch = peer("initial_pass", batches=PEER_BATCHES, **common)["cpu"] / PEER_BATCHES
    step = spread(steps)
    cost = {"init loss": batch * llc.samples / llc.batch,
            "chains": step["median"] * llc.chains * llc.draws}
    return {"seconds a step": step, "steps timed": PEER_STEPS * PEER_ROUNDS,
            "init batches timed": PEER_BATCHES, "cpu": cost | {"total": sum(cost.values())}}


def paper_error(draws) -> dict:
    """Standard errors that the paper's chains and draws would have, from few draws of its batch
    with its baseline: by effective draws, which shrinks with all draws kept, and by the spread of
    chains, as if longer chains did not help at all. The truth lies between."""
    llc = PAPER.llc
    now = facts(draws, "whole-set")
    kept = now["chains"] * (now["draws"] - now["burn_in"])
    whole = llc.chains * (llc.draws - llc.burn_in)
    return {"by effective draws": now["mcse"] * (kept / whole) ** 0.5,
            "by chains": now["between chains"] * (now["chains"] / llc.chains) ** 0.5}


def compile_seconds(loss, params, data) -> float:
    """CPU seconds until the first step of devlib has been taken, once a process."""
    run = Chains(loss, params, data, SAMPLER, chains=1, seed=SEED, vectorised=False,
                 batch_size=OURS["batch_size"], compile=True)
    return cpu(lambda: run.extend(1))[1]


def main(checkpoints=None):
    report = Report("precision", TIMES)
    import_arviz()  # its seconds are no sampler's
    store = runs(checkpoints)
    model = build_model(PAPER, 0)
    loss, data = per_sample_loss(model), fixed_set(SEED, "llc", SAMPLES, PAPER.task)
    rows = []
    compiling = compile_seconds(loss, store.load(store.steps[0]), data)
    with tempfile.TemporaryDirectory() as folder, Peer() as peer:
        versions = peer("versions")
        early = nearest_each(store.steps, EARLY[:1])  # where the batch's noise shows
        for step in sorted({*early, *chosen(store.steps)}):
            params, weights = store.load(step), str(Path(folder) / f"{step}.safetensors")
            save_file(params, weights)
            ours = cheaper(loss, params, data)
            theirs = devinterp(peer, weights)
            batches, largest = paired(loss, params, data)
            rows.append({
                "step": step, "devlib": ours, "devinterp": theirs, "batches": batches,
                "paper's error": paper_error(largest),
                "ratio": theirs["cpu"]["total"] / ours["cpu"]["total"],
                "ratio at as many steps": (
                    theirs["cpu"]["init loss"] + theirs["seconds a step"]["median"]
                    * ours["chains"] * ours["draws"]) / ours["cpu"]["total"]})
    report.store({"run": store.manifest["settings"], "settings": OURS | {"samples": SAMPLES},
                  "paired": PAIRED, "paper": as_dict(PAPER.llc),
                  "compile seconds": compiling, "checkpoints": rows},
                 devinterp=versions["devinterp"])


if __name__ == "__main__":
    main()
