"""What is estimated at one checkpoint, as rows of a table over training: the LLC (Fig. 1, Fig. 3)
and the Hessian (B.5)."""

import math

import pandas as pd

from devlib.hessian import Hessian, spectral_density, top_eigenpairs, trace
from devlib.llc.estimate import estimate_llc
from devlib.llc.precision import MIN_ESS, TEST_RHAT, estimate_to_precision
from devlib.rng import generator
from devlib.sampling import SGLD, sample_chains
from devlib.settings import HessianSettings, LLCSettings
from devlib.stages import IMPRECISE


def llc_row(loss, params, data, llc: LLCSettings, seed, also=None, **options) -> dict:
    """The LLC at one checkpoint as a row: llc, mcse, ess, rhat, init_loss, the chains' means and
    their spread, the same estimate against the loss on the whole set, the draws taken, how many
    chains escaped or diverged, and the health of it all (`row_health`). `also(draws)` gives further
    entries. Further options as for `sample_chains`."""
    sampler = SGLD(llc.eps, llc.nbeta, llc.gamma)
    options |= dict(chains=llc.chains, burn_in=llc.burn_in, batch_size=llc.batch, seed=seed,
                    on_divergence="keep", warn=False)  # the paper's lengths, as they are
    if llc.precision is None:
        draws = sample_chains(loss, params, data, sampler, draws=llc.draws, **options)
        estimate = estimate_llc(draws)
    else:
        found = estimate_to_precision(loss, params, data, sampler, precision=llc.precision,
                                      cap_draws=llc.draws, max_distance_rhat=None, health=False,
                                      **options)
        draws, estimate = found.draws, found.estimate
    whole_set = estimate_llc(draws, "whole-set")
    row = {"llc": estimate.mean, "mcse": estimate.mcse, "ess": estimate.ess,
            "rhat": estimate.rhat, "init_loss": estimate.init_loss,
            "chain_sd": float(pd.Series(estimate.chain_means).std()),
            "llc_whole_set": whole_set.mean, "mcse_whole_set": whole_set.mcse,
            "draws": draws.losses.shape[1], "burn_in": draws.burn_in,
            "escaping": len(estimate.escaping), "diverged": len(estimate.diverged)}
    return {**row, "health": row_health(row, llc),
            **({} if also is None else also(draws)),
            **{f"chain_{chain}": mean for chain, mean in
               zip(draws.healthy, estimate.chain_means, strict=True)}}


def row_health(row, llc: LLCSettings) -> str:
    """What is wrong with an estimate, in a few words; empty where nothing is. From what every row
    of an LLC table holds and the settings of its chains, so that tables from before there was such
    a column have it too. In order: chains that escaped or diverged; a burn-in, found from the
    trace, that ends on its bound, half of the draws; R-hat above the limit of
    `estimate_to_precision`. Where none of these fails but the precision asked for was not reached,
    or the ESS is below 200 where none was, it begins with "imprecise" (devlib.stages)."""
    unmet = [f"{row[name]:.0f} {name}" for name in ("escaping", "diverged") if row[name]]
    if llc.burn_in is None and row["burn_in"] >= row["draws"] // 2:
        unmet.append("burn-in at its bound")
    if not (row["rhat"] <= TEST_RHAT or row["mcse"] == 0):
        unmet.append(f"R-hat {row['rhat']:.2f}")
    if llc.precision is not None and not row["mcse"] <= llc.precision * abs(row["llc"]):
        unmet.append(f"{IMPRECISE}: error {row['mcse'] / (abs(row['llc']) or math.nan):.1%}")
    elif not (row["ess"] >= MIN_ESS or row["mcse"] == 0):
        unmet.append(f"{IMPRECISE}: ESS {row['ess']:.0f}")
    return ", ".join(unmet)


def curve_health(table: pd.DataFrame, llc: LLCSettings) -> pd.Series:
    """The `row_health` of each row of an LLC table."""
    return pd.Series([row_health(row, llc) for row in table.to_dict("records")], table.index,
                     dtype=str)


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
