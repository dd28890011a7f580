"""The LLC of one checkpoint as a row of a curve over training (Fig. 1, Fig. 3)."""

import pandas as pd

from devlib.llc.estimate import estimate_llc
from devlib.llc.precision import estimate_to_precision
from devlib.sampling import SGLD, sample_chains
from devlib.settings import LLCSettings


def llc_row(loss, params, data, llc: LLCSettings, seed, also=None, **options) -> dict:
    """The LLC at one checkpoint as a row: llc, mcse, ess, rhat, init_loss, the chains' means and
    their spread, the same estimate against the loss on the whole set, the draws taken, and how
    many chains escaped or diverged. `also(draws)` gives further entries. Further options as for
    `sample_chains`."""
    sampler = SGLD(llc.eps, llc.nbeta, llc.gamma)
    options |= dict(chains=llc.chains, burn_in=llc.burn_in, batch_size=llc.batch, seed=seed,
                    on_divergence="keep", warn=False)  # the paper's lengths, as they are
    if llc.precision is None:
        draws = sample_chains(loss, params, data, sampler, draws=llc.draws, **options)
        estimate = estimate_llc(draws)
    else:
        found = estimate_to_precision(loss, params, data, sampler, precision=llc.precision,
                                      cap_draws=llc.draws, max_distance_rhat=None, **options)
        draws, estimate = found.draws, found.estimate
    whole_set = estimate_llc(draws, "whole-set")
    return {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
            "rhat": estimate.rhat, "init_loss": estimate.init_loss,
            "chain_sd": float(pd.Series(estimate.chain_means).std()),
            "llc_whole_set": whole_set.mean, "mcse_whole_set": whole_set.mcse,
            "draws": draws.losses.shape[1], "burn_in": draws.burn_in,
            "escaping": len(estimate.escaping), "diverged": len(estimate.diverged),
            **({} if also is None else also(draws)),
            **{f"chain_{chain}": mean for chain, mean in
               zip(draws.healthy, estimate.chain_means, strict=True)}}
