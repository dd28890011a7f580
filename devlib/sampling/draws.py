"""What chains leave behind: losses, with all that an estimate needs to agree with them."""

import dataclasses
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from devlib.errors import UserError
from devlib.files import replacing
from devlib.resume import digest
from devlib.sampling.burn_in import find_burn_in
from devlib.sampling.sgld import SGLD, RMSpropSGLD, SmoothedSGLD

SAMPLERS = {sampler.__name__: sampler for sampler in (SGLD, RMSpropSGLD, SmoothedSGLD)}
LAYER = "distance of "  # a stored layer's distances: this and the parameter's name
MAX_RHAT = 1.01  # Vehtari et al. (2021)
GROUPS = ("warmup_posterior", "posterior")  # ArviZ's names: before and after burn-in


def import_arviz():
    """ArviZ, imported where it is needed (it takes seconds) and without its daily notice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\\s*ArviZ is undergoing", category=FutureWarning)
        import arviz
    return arviz


def diagnostic(name, values, **options) -> float:
    """ArviZ's `name` ("mcse", "ess", "rhat") of values (chains, draws) as a number: from some
    versions of NumPy on it is an array of one, which `float` refuses."""
    return np.asarray(getattr(import_arviz(), name)(values, **options)).item()


@dataclass(frozen=True, eq=False)
class Draws:
    """Minibatch losses along the chains, with all that an estimate needs to agree with them.

    losses[c, t] is L_m at w_t on batch t of chain c, read before the step; baseline[c, t] is the
    loss of w0 on that same batch; init_loss is the loss of w0 on the whole set. All in units of
    the loss. A chain that diverged has NaN from that draw on and stands in `diverged`.

    distances[c, t] is |w_t - w0|^2 over the weights that the chain moves, read where the loss is,
    and `weight_rms` the root mean square of those weights at w0; both are None in draws that were
    stored without. `start` says where the chains began ("w0", "prior", or "both"), and `max_rhat`
    up to which R-hat chains of both starts count as met (devlib.llc.equilibrium).

    init_loss_se is 0 where init_loss is of the whole set. Where no pass was made over that, both
    are the mean, and its standard error, of the loss of w0 on the drawn batches.

    Where they were asked for: layer_distances has |w_t - w0|^2 of each parameter that moves, by
    name; doubled[c, t] is L_m on that same batch at a chain of twice the step that shares the
    noise, at even t (NaN at odd, as it steps half as often); descent[t] is what chain 0 comes to
    without its noise, L_m less that of w0 on the same batch (devlib.sampling.beside).
    """

    losses: np.ndarray  # (C, T) float64
    baseline: np.ndarray  # (C, T) float64
    init_loss: float
    sampler: SGLD
    burn_in: int
    batch_size: int
    seed: int
    diverged: dict[int, int] = field(default_factory=dict)  # chain -> draw
    distances: np.ndarray | None = None  # (C, T) float64
    weight_rms: float | None = None
    start: str = "w0"
    init_loss_se: float = 0.0
    layer_distances: dict[str, np.ndarray] | None = None  # each (C, T) float64
    doubled: np.ndarray | None = None  # (C, T) float64
    descent: np.ndarray | None = None  # (T,) float64
    max_rhat: float = MAX_RHAT

    @property
    def healthy(self) -> list[int]:
        """The chains that did not diverge."""
        return [chain for chain in range(len(self.losses)) if chain not in self.diverged]

    def distance_burn_in(self) -> int:
        """The burn-in that |w - w0|^2 asks for, by the rule for the loss (find_burn_in): where it
        is the longer, the loss came to rest before the chain did. Raises UserError for draws
        without distances, and if every chain diverged."""
        if self.distances is None:
            raise UserError("these draws were stored without their distances from w0; sample anew")
        return find_burn_in(self.distances)

    def to_inferencedata(self):
        """ArviZ's InferenceData: group `posterior` holds the draws after burn-in and
        `warmup_posterior` those before, each with loss, baseline, llc = nbeta (loss - baseline)
        and distance = |w - w0|^2, so that `arviz.summary(draws.to_inferencedata(),
        var_names="llc")` is the estimate of two or more chains (of one, ArviZ has no R-hat).
        Chains that diverged are left out, as the estimate leaves them out; `healthy` numbers those
        that are there. Raises UserError if every chain diverged."""
        if not self.healthy:
            raise UserError("every chain diverged: take a smaller eps")
        return import_arviz().InferenceData(**{
            group: part.isel(chain=self.healthy) for group, part in self._datasets().items()})

    def save(self, path):
        """Writes the draws as netCDF, which `arviz.from_netcdf` also reads; whole or not at all.
        The file holds all chains: what diverged is NaN in it, and in ArviZ's summary of it."""
        with replacing(path) as temporary:
            mode = "w"
            for group, dataset in self._datasets().items():
                dataset.to_netcdf(temporary, mode=mode, group=group, engine="h5netcdf")
                mode = "a"

    @classmethod
    def read(cls, path) -> "Draws":
        """The draws that `save` wrote, bit for bit. Raises UserError for any other file."""
        import xarray

        parts = []
        try:
            for group in GROUPS:
                try:
                    with xarray.open_dataset(path, group=group, engine="h5netcdf") as dataset:
                        parts.append(dataset.load())
                except OSError:
                    if group == "posterior" or not Path(path).is_file():
                        raise
            whole = xarray.concat(parts, "draw", data_vars="minimal", join="override",
                                  combine_attrs="override")
            if parts[-1].attrs.get("sha256", seal := _seal(whole)) != seal:
                raise ValueError("its sha256 is another")
            facts = json.loads(parts[-1].attrs["devlib"])
            sampler = SAMPLERS[facts.pop("sampler")](**facts.pop("settings"))
            losses, baseline = whole["loss"].values, whole["baseline"].values
            asked = {name: whole[name].values for name in whole
                     if name not in ("loss", "baseline", "llc")}
        except (OSError, KeyError, ValueError, AttributeError, RuntimeError, TypeError) as error:
            raise UserError(f"{path} holds no draws of devlib ({error})") from error
        facts["diverged"] = {int(chain): draw for chain, draw in facts["diverged"].items()}
        layers = {name.removeprefix(LAYER): asked[name] for name in asked
                  if name.startswith(LAYER)}
        return cls(losses, baseline, sampler=sampler, distances=asked.get("distance"),
                   layer_distances=layers or None, doubled=asked.get("doubled"),
                   descent=asked.get("descent"), **facts)

    def _datasets(self) -> dict:
        """One xarray Dataset a group; an empty warm-up is left out."""
        import xarray

        facts = {"sampler": type(self.sampler).__name__,
                 "settings": dataclasses.asdict(self.sampler), "init_loss": self.init_loss,
                 "burn_in": self.burn_in, "batch_size": self.batch_size, "seed": self.seed,
                 "diverged": self.diverged, "weight_rms": self.weight_rms, "start": self.start,
                 "init_loss_se": self.init_loss_se, "max_rhat": self.max_rhat}
        values = {"loss": self.losses, "baseline": self.baseline,
                  "llc": self.sampler.nbeta * (self.losses - self.baseline)}
        values |= {"distance": self.distances, "doubled": self.doubled, "descent": self.descent}
        values |= {f"{LAYER}{name}": part for name, part in (self.layer_distances or {}).items()}
        chains, draws = self.losses.shape
        whole = xarray.Dataset(
            {name: (("chain", "draw")[-value.ndim:], value) for name, value in values.items()
             if value is not None},
            {"chain": np.arange(chains), "draw": np.arange(draws)},
            {"devlib": json.dumps(facts, default=lambda value: value.item())})
        whole.attrs["sha256"] = _seal(whole)
        parts = [whole.isel(draw=slice(self.burn_in)),
                 whole.isel(draw=slice(self.burn_in, None))]
        return {group: part for group, part in zip(GROUPS, parts, strict=True)
                if part.sizes["draw"]}


def _seal(dataset) -> str:
    """The sha256 of a Dataset's values and facts."""
    return digest({name: torch.as_tensor(np.ascontiguousarray(dataset[name].values))
                   for name in dataset.data_vars}, dataset.attrs["devlib"])


class ChainDiverged(UserError):
    """A chain's loss became infinite or NaN. `draws` keeps all chains, `diverged` says where."""

    def __init__(self, draws: Draws):
        self.draws = draws
        where = ", ".join(f"chain {chain} at draw {draw}" for chain, draw in draws.diverged.items())
        super().__init__(
            f"SGLD diverged: {where}; {len(draws.healthy)} of {len(draws.losses)} chains are "
            "sound. Take a smaller eps, or a smaller nbeta or larger gamma")

    def __reduce__(self):  # so that it travels between processes whole
        return type(self), (self.draws,)
