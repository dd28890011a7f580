"""From a loss to draws: SGLD on the localised Gibbs posterior (A.3)."""

from devlib.sampling.chains import Chains
from devlib.sampling.draws import ChainDiverged, Draws
from devlib.sampling.model import per_sample_losses
from devlib.sampling.sample import sample_chains
from devlib.sampling.sgld import SGLD, RMSpropSGLD, SmoothedSGLD, sgld_step

__all__ = ["SGLD", "ChainDiverged", "Chains", "Draws", "RMSpropSGLD", "SmoothedSGLD",
           "per_sample_losses", "sample_chains", "sgld_step"]
