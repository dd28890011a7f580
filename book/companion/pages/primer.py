"""Tables of the page "Primer": what the LLC is, computed where the answer is known.

Volumes of sets of low loss by quadrature, SGLD estimates beside exact answers, linear networks
beside Aoyagi's formula, and the sampler's calibration. All of it needs seconds, no data, and
nothing from a trained model.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from companion import provenance, results
from companion.pages.volumes import LEVELS, mean_from_volumes, volume_potentials, volumes
from companion.places import project_root
from companion.results import Results
from companion.runs import RunKey
from devlib.rng import stream_seed
from devlib.settings import replace

NBETAS = np.logspace(1, 12, 45)  # of the means from volumes
FAR = 1e12  # the n beta that stands for infinity in the column `limit`
ENDS = 150  # chains whose last points are kept for the pictures


@dataclass(frozen=True)
class Sampling:
    """One SGLD run on a potential: the sampler, and how much of it."""

    eps: float
    nbeta: float
    gamma: float
    chains: int
    draws: int
    burn_in: int

    @property
    def settled(self) -> bool:
        """Whether burn-in lasts four relaxation times, 1 / (eps gamma) draws each, of the square
        of a direction that nothing but gamma holds."""
        return self.burn_in * self.eps * self.gamma >= 4


@dataclass(frozen=True)
class Settings:
    """Everything the page's tables depend on, besides the seed."""

    toys: Sampling
    powers: Sampling
    networks: Sampling
    gibbs_chains: int
    gibbs_draws: int
    gibbs_burn_in: int
    sbc_repetitions: int
    sbc_draws: int
    sbc_steps: int


# One scale serves every preset but smoke: nothing here is cut down from the paper.
FULL = Settings(
    toys=Sampling(eps=1e-3, nbeta=100.0, gamma=4.0, chains=512, draws=2000, burn_in=1200),
    powers=Sampling(eps=0.02, nbeta=1.0, gamma=0.0, chains=512, draws=1000, burn_in=400),
    networks=Sampling(eps=2e-4, nbeta=100.0, gamma=10.0, chains=256, draws=3200, burn_in=2200),
    gibbs_chains=64, gibbs_draws=300, gibbs_burn_in=100,
    sbc_repetitions=60, sbc_draws=19, sbc_steps=250)
SMOKE = Settings(
    toys=Sampling(eps=1e-3, nbeta=100.0, gamma=4.0, chains=32, draws=60, burn_in=20),
    powers=Sampling(eps=0.02, nbeta=1.0, gamma=0.0, chains=32, draws=60, burn_in=20),
    networks=Sampling(eps=2e-4, nbeta=100.0, gamma=10.0, chains=16, draws=60, burn_in=20),
    gibbs_chains=16, gibbs_draws=20, gibbs_burn_in=10,
    sbc_repetitions=3, sbc_draws=19, sbc_steps=10)
SETTINGS = {"smoke": SMOKE, "laptop": FULL, "published": FULL, "paper": FULL}

NETWORKS = (((2, 2, 2), 0), ((2, 2, 2), 1), ((3, 2, 3), 1), ((5, 3, 5), 0), ((1, 1, 1, 1), 0),
            ((3, 3, 3, 3), 1), ((4, 3, 3, 4), 2))  # widths and rank: T4 and T5
SAMPLED = (((2, 2, 2), 0), ((3, 2, 3), 1), ((3, 3, 3, 3), 1))  # those that SGLD is run on
NETWORK_NBETAS = (1e2, 1e3, 1e4, 1e5, 1e6)
COEFFICIENTS_AND_POWERS = ((1.0, 2), (10.0, 2), (1.0, 4), (1.0, 6))  # c |w|^p


class PrimerResults(Results):
    """Results whose words are the primer's own: the presets' are about training runs."""

    @property
    def description(self) -> str:
        return (f"{self.manifest['preset']} preset, seed {self.manifest['seed']}: losses whose "
                "LLC is known")


def primer(preset: str, seed: int, recompute=False) -> PrimerResults:
    """The page's tables: "volumes", "means", "estimates", "ends", "powers", "networks",
    "network_estimates" and "sbc" (see `results.load_or_compute`)."""
    key = RunKey.of("primer", preset, seed)
    settings = SETTINGS[preset]
    found = results.load_or_compute(key, asdict(settings), recompute,
                                    lambda _, timed: compute(settings, seed, timed), page="primer")
    return PrimerResults(**vars(found))


def compute(settings: Settings, seed: int, timed) -> dict:
    """All tables by name; `timed(part, work)` is told which part each belongs to."""
    volumes = timed("potentials", volume_table)
    tables = {"volumes": volumes, "means": mean_table(volumes)}
    tables["estimates"], tables["ends"] = timed(
        "potentials", lambda: estimate_tables(settings.toys, seed, volumes))
    tables["powers"] = timed("potentials", lambda: power_table(settings.powers, seed))
    tables["networks"] = timed("networks", lambda: network_table(settings, seed))
    tables["network_estimates"] = timed(
        "networks", lambda: network_estimate_table(settings, seed))
    tables["sbc"] = timed("SBC", lambda: sbc_table(settings, seed))
    return tables


# -------------------------------------------------------------------------------------- volumes


def volume_table() -> pd.DataFrame:
    """V(eps) and its local slope d log V / d log eps for each potential."""
    parts = []
    for potential in volume_potentials():
        volume = volumes(potential)
        parts.append(pd.DataFrame({
            "potential": potential.name, "formula": potential.formula, "llc": potential.llc,
            "multiplicity": potential.multiplicity, "eps": LEVELS, "volume": volume,
            "slope": np.gradient(np.log(volume), np.log(LEVELS))}))
    return pd.concat(parts, ignore_index=True)


def mean_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """E[nbeta L] on the ball for each potential of a volume table, over nbeta."""
    rows = [{"potential": name, "llc": part.llc.iloc[0], "nbeta": nbeta,
             "mean": mean_from_volumes(part.eps.values, part.volume.values, nbeta)}
            for name, part in volumes.groupby("potential", sort=False) for nbeta in NBETAS]
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------- estimates and answers


def sampled(potential, sampling: Sampling, seed):
    """The LLC by SGLD, and where the chains ended, {name: (C, ...)}."""
    from devlib.llc import estimate_llc
    from devlib.sampling import SGLD, Chains

    run = Chains(potential.loss, potential.params, potential.data,
                 SGLD(sampling.eps, sampling.nbeta, sampling.gamma), chains=sampling.chains,
                 seed=stream_seed(seed, "primer", potential.name), vectorised=True)
    run.extend(sampling.draws)
    return estimate_llc(run.draws(sampling.burn_in)), run.w.numpy()


def coordinates(potential):
    """The one-coordinate potentials that a `Powers` is the sum of, without the unused ones."""
    from companion.known.potentials import Powers

    return [Powers(potential.name, (c,), (p,)) for c, p in
            zip(potential.coefficients, potential.exponents, strict=True) if c]


def reference(potential, sampling: Sampling) -> tuple[float, bool]:
    """What SGLD should give at this nbeta and gamma, and whether the step eps is in it.

    Coordinates of a `Powers` are independent chains. A potential that is not even has no exact
    law of the chain here: the integral of the Gibbs density, which is its limit as eps -> 0.
    """
    from companion.known.answers import chain_moments, gibbs_moments
    from companion.known.potentials import Powers
    from devlib.sampling.sgld import SGLD

    sampler = SGLD(sampling.eps, sampling.nbeta, sampling.gamma)
    if isinstance(potential, Powers):
        return sum(chain_moments(part, sampler)[0] for part in coordinates(potential)), True
    if potential.even and potential.dim <= 2:
        return chain_moments(potential, sampler)[0], True
    return gibbs_moments(potential, sampling.nbeta, sampling.gamma)[0], False


def estimate_tables(sampling: Sampling, seed, volumes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The examples of A.2 and of Fig. 2: exact LLC, its numerical limit, the reference at finite
    nbeta, the estimate with its error; and the points where chains ended, for Fig. 2.

    Where the reference leaves out the step, the step is half as large and the chain twice as
    long. The limit is E[nbeta L] at nbeta = 1e12, from one-dimensional integrals for A.2 and from
    volumes for Fig. 2.
    """
    from companion.known.answers import gibbs_moments
    from companion.known.potentials import A2_EXAMPLES, FIGURE_2

    rows, ends = [], []
    for group, potential in [("A.2", toy) for toy in A2_EXAMPLES] + [
            ("Fig. 2", toy) for toy in FIGURE_2]:
        value, with_step = reference(potential, sampling)
        run = sampling if with_step else replace(
            sampling, eps=sampling.eps / 2, draws=2 * sampling.draws,
            burn_in=2 * sampling.burn_in)
        found, last = sampled(potential, run, seed)
        if group == "A.2":
            limit = sum(gibbs_moments(part, FAR, sampling.gamma)[0]
                        for part in coordinates(potential))
        else:
            part = volumes[volumes.potential == potential.name]
            limit = mean_from_volumes(part.eps.values, part.volume.values, FAR)
            ends.append(pd.DataFrame(last[:ENDS], columns=["w1", "w2"]).assign(
                potential=potential.name))
        rows.append({"group": group, "potential": potential.name, "formula": potential.formula,
                     "llc": potential.llc, "limit": limit, "reference": value,
                     "step_in_reference": with_step, "estimate": found.mean,
                     "mcse": found.mcse, "ess": found.ess, "rhat": found.rhat})
    return pd.DataFrame(rows), pd.concat(ends, ignore_index=True).round(4)


def hessian_eigenvalues(potential, step=1e-6) -> np.ndarray:
    """Eigenvalues at 0, ascending, of the central difference of the gradient."""
    import torch
    from torch.func import grad, vmap

    shifts = step * torch.eye(potential.dim, dtype=torch.float64)
    gradient = vmap(grad(potential.energy))
    hessian = (gradient(shifts) - gradient(-shifts)).numpy() / (2 * step)
    return np.linalg.eigvalsh((hessian + hessian.T) / 2)


def power_table(sampling: Sampling, seed) -> pd.DataFrame:
    """c |w|^p in one coordinate: what the Hessian sees, and what the LLC is.

    The step is `sampling.eps` in units of the square of the width (nbeta c)^(-1/p).
    """
    from companion.known.potentials import Powers

    rows = []
    for c, p in COEFFICIENTS_AND_POWERS:
        potential = Powers(f"{c:g} |w|^{p}", (c,), (p,))
        run = replace(sampling, eps=sampling.eps * (sampling.nbeta * c) ** (-2 / p))
        found, _ = sampled(potential, run, seed)
        rows.append({"potential": potential.name, "coefficient": c, "power": p,
                     "eigenvalue": round(float(hessian_eigenvalues(potential)[0]), 9),
                     "llc": potential.llc, "reference": reference(potential, run)[0],
                     "estimate": found.mean, "mcse": found.mcse, "ess": found.ess,
                     "rhat": found.rhat})
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------ linear networks


def network_table(settings: Settings, seed) -> pd.DataFrame:
    """E[nbeta L] of linear networks over nbeta, from exact Gibbs chains, beside Aoyagi's LLC."""
    from companion.known.potentials import LinearNetwork

    rows = []
    for widths, rank in NETWORKS:
        network = LinearNetwork(widths, rank)
        for nbeta in NETWORK_NBETAS:
            rows.append({**_network_facts(network), "nbeta": nbeta,
                         **_gibbs(network, nbeta, settings, seed)})
    return pd.DataFrame(rows)


def network_estimate_table(settings: Settings, seed) -> pd.DataFrame:
    """SGLD on some of the networks, beside Gibbs chains at the same nbeta and gamma."""
    from companion.known.potentials import LinearNetwork

    rows, run = [], settings.networks
    for widths, rank in SAMPLED:
        network = LinearNetwork(widths, rank)
        found, _ = sampled(network, run, seed)
        known = _gibbs(network, run.nbeta, settings, seed)
        rows.append({**_network_facts(network), "nbeta": run.nbeta,
                     "reference": known["mean"], "reference_mcse": known["mcse"],
                     "estimate": found.mean, "mcse": found.mcse, "ess": found.ess,
                     "rhat": found.rhat})
    return pd.DataFrame(rows)


def _network_facts(network):
    return {"network": "-".join(map(str, network.widths)), "rank": network.rank,
            "layers": len(network.widths) - 1, "llc": network.llc,
            "multiplicity": network.multiplicity}


def _gibbs(network, nbeta, settings, seed):
    from companion.known.answers import network_draws
    from devlib.sampling.draws import diagnostic

    values = network_draws(
        network, nbeta, settings.networks.gamma, chains=settings.gibbs_chains,
        draws=settings.gibbs_draws, burn_in=settings.gibbs_burn_in,
        seed=stream_seed(seed, "primer", network.widths, network.rank, nbeta))
    return {"mean": float(values.mean()), "mcse": diagnostic("mcse", values),
            "ess": diagnostic("ess", values, method="mean")}


# ---------------------------------------------------------------------------------- calibration


def sbc_table(settings: Settings, seed) -> pd.DataFrame:
    """Rank histogram of companion.pages.sbc."""
    from companion.pages.sbc import rank_histogram, sbc_ranks

    ranks = sbc_ranks(settings.sbc_repetitions, settings.sbc_draws, settings.sbc_steps, seed)
    return rank_histogram(ranks, settings.sbc_draws)


def kept_histogram() -> pd.DataFrame:
    """The rank histogram of 200 repetitions that the slow test of companion.pages.sbc wrote
    last."""
    path = project_root() / "data" / "bench" / "sbc.csv"
    provenance.note_file(path)
    return pd.read_csv(path)


def agrees(found: pd.DataFrame, error=0.0) -> pd.Series:
    """The gate of every comparison: ESS of 200 or more, then within four Monte Carlo standard
    errors of the reference, whose own error may be given."""
    limit = 4 * np.hypot(found.mcse, error)
    return (found.ess >= 200) & ((found.estimate - found.reference).abs() < limit)
