"""What is estimated at one checkpoint, as rows of a table over training: the LLC (Fig. 1, Fig. 3)
and the Hessian (B.5)."""

import pandas as pd

from companion.health import row_health
from devlib.hessian import Hessian, spectral_density, top_eigenpairs, trace
from devlib.llc.estimate import estimate_llc
from devlib.llc.precision import estimate_to_precision
from devlib.rng import generator
from devlib.sampling import SGLD, sample_chains
from devlib.settings import HessianSettings, LLCSettings


def llc_row(loss, params, data, llc: LLCSettings, seed, also=None, health=False,
            **options) -> dict:
    """The LLC at one checkpoint as a row: llc, mcse, ess, rhat, init_loss, the chains' means and
    their spread, the same estimate against the loss on the whole set, the draws taken, how many
    chains escaped or diverged, and the health of it all (`row_health`). With `health` also the step
    bias, its standard error and the share of slope (devlib.llc.LLC), and then the bias counts to a
    precision. `also(draws)` gives further entries. Further options as for `sample_chains`."""
    sampler = SGLD(llc.eps, llc.nbeta, llc.gamma)
    options |= dict(chains=llc.chains, burn_in=llc.burn_in, batch_size=llc.batch, seed=seed,
                    on_divergence="keep", health=health,
                    warn=False)  # the paper's lengths, as they are
    if llc.precision is None:
        draws = sample_chains(loss, params, data, sampler, draws=llc.draws, **options)
        estimate = estimate_llc(draws)
    else:
        found = estimate_to_precision(loss, params, data, sampler, precision=llc.precision,
                                      cap_draws=llc.draws, max_distance_rhat=None, **options)
        draws, estimate = found.draws, found.estimate
    whole_set = estimate_llc(draws, "whole-set")
    row = {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
            "rhat": estimate.rhat, "init_loss": estimate.init_loss,
            "chain_sd": float(pd.Series(estimate.chain_means).std()),
            "llc_whole_set": whole_set.mean, "mcse_whole_set": whole_set.mcse,
            "draws": draws.losses.shape[1], "burn_in": draws.burn_in,
            "escaping": len(estimate.escaping), "diverged": len(estimate.diverged)}
    if health:
        row |= {name: getattr(estimate, name)
                for name in ("step_bias", "step_bias_mcse", "slope_share")}
    return {**row, "health": row_health(row, llc),
            **({} if also is None else also(draws)),
            **{f"chain_{chain}": mean for chain, mean in
               zip(draws.healthy, estimate.chain_means, strict=True)}}


def block_rows(names, kept) -> list[dict]:
    """What the error of a change needs: the means of blocks of the contexts that all checkpoints
    share, as devlib.means.keeping_blocks kept them, one row a metric."""
    return [{"metric": name, **{f"block_{i}": mean for i, mean in enumerate(kept[name])}}
            for name in names]


def hessian_row(loss, params, data, settings: HessianSettings, seed, **options) -> dict:
    """Trace with its standard error and largest eigenvalues with their residual norms at one
    checkpoint, as a row (Fig. B.4), and the probes and products that they took. The same seed at
    every checkpoint gives each the same probes. Further options as for `Hessian`."""
    operator = Hessian(loss, params, data, **options)
    pairs = top_eigenpairs(operator, settings.pairs, generator(seed, "hessian", "start"),
                           settings.tolerance)
    found = trace(operator, generator(seed, "hessian", "probes"), known=pairs,
                  precision=settings.precision, most=settings.most_probes)
    residuals = pairs.residuals(operator, settings.eigenvalues)
    row = {"trace": found.mean, "trace_se": found.se, "probes": found.probes}
    for i, residual in enumerate(residuals):
        row |= {f"eig_{i + 1}": float(pairs.values[i]), f"residual_{i + 1}": float(residual)}
    return row | {"products": operator.products}


def density_rows(loss, params, data, settings: HessianSettings, seed, **options) -> list[dict]:
    """The spectral density at one checkpoint, one row a point mass: node and weight."""
    density = spectral_density(Hessian(loss, params, data, **options),
                               generator(seed, "hessian", "density"),
                               probes=settings.density_probes, steps=settings.density_steps)
    return [{"node": float(node), "weight": float(weight)}
            for node, weight in zip(density.nodes, density.weights, strict=True)]
