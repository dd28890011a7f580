"""One call from a model and its data to an LLC that says how far it can be believed.

    found = devlib.measure(model, (xs, ys), loss=torch.nn.CrossEntropyLoss())
    print(found)                    # one line: the estimate, or two regimes; reached or not
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from devlib.checks import check_count, check_flag, check_number
from devlib.devices import of
from devlib.errors import Interrupted, UserError
from devlib.llc.equilibrium import Equilibrium, compare
from devlib.llc.estimate import LLC, default_nbeta, estimate_llc
from devlib.llc.precision import SHORTEN, shorter_step, too_long_a_step, unmet_gates
from devlib.own.data import Samples, samples_of
from devlib.own.masks import mask_of
from devlib.own.model import check_module, in_eval, loss_of, plain, short_numbers
from devlib.own.observe import Observed, named
from devlib.own.saddle import fall_both_ways
from devlib.own.settings import curvature_eps
from devlib.rng import stream_seed
from devlib.sampling.beside import Watched
from devlib.sampling.chains import DRAWN, Chains
from devlib.sampling.draws import ChainDiverged, Draws
from devlib.sampling.sgld import SGLD
from devlib.settings import MIN_ESS, LanguageSettings

GAMMA = LanguageSettings().llc.gamma  # the paper's spring for language models (A.4.1)
BATCH = 128  # samples, or all where there are fewer
BLOCK = 200  # draws before the first look
TRIES = 3  # so often a step size of our own is made smaller


@dataclass(frozen=True)
class Measurement:
    """An LLC with its health. `estimate` is None where the two starts do not meet; `starts` has
    the estimates of both. `observed` holds, by name, losses (C, D, n) on other data. `saddle` is
    how far the potential falls both ways from w0 (devlib.own.saddle): above 0, no chain stays."""

    estimate: LLC | None
    starts: Equilibrium
    reached: bool  # the starts meet, and the error is as small as was asked
    reason: str
    observed: dict = field(default_factory=dict)
    saddle: float = math.nan

    @property
    def draws(self) -> Draws:
        """All draws, of the chains from w0 first."""
        return self.starts.draws

    def __str__(self):
        return f"{self.starts}; {self.reason}"


@dataclass(frozen=True)
class Plan:
    """How long, and how exactly."""

    precision: float
    cap_draws: int
    chains: int
    seed: int
    every: int

    def __post_init__(self):
        check_number("precision", self.precision, above=0)
        check_count("cap_draws", self.cap_draws, least=16)  # halved by burn-in, eight are left
        check_count("chains", self.chains)
        check_count("seed", self.seed, least=0)
        check_count("every", self.every)


def measure(model, data, *, loss, only=None, eps=None, nbeta=None, gamma=GAMMA, batch_size=None,
            chains=4, precision=0.05, cap_draws=5_000, seed=0, whole_set=None, observables=None,
            callback=None, every=10, health=True, vectorised=None, compile=False,
            progress=False) -> Measurement:
    """The LLC (eq. 3) of an nn.Module at its present weights, by SGLD (eq. 8) from two starts.

    `chains` chains begin at w0 and as many at w0 + N(0, 1 / gamma). They run on together until
    they cannot be told apart (devlib.llc.equilibrium: R-hat of the loss and of |w - w0|^2 at most
    1.01) and the error, Monte Carlo error and step bias together (`LLC.error`), is `precision` of
    the mean, from 200 effective draws or more; or to `cap_draws` draws a chain, or until the step
    bias alone is surely too large. Then the result says that, and what is missing.

    data: tensors, numpy arrays (memory-mapped ones stay on disk), a tuple or dictionary of them, a
    Dataset, a DataLoader, or a Hugging Face dataset (devlib.own.data.samples_of).
    loss: loss(model, batch) -> (m,), one value a sample, or one of torch's loss modules for
    batches (x, y) (devlib.own.model.loss_of); `devlib.own.next_token` for language models.
    only: "blocks.1.attn.*", "l0h1", or a list: the weights that move (devlib.own.masks.mask_of).
    batch_size m: 128, or all samples where there are fewer. nbeta: m / ln m (A.5.1). gamma: 100.
    eps: from the largest curvature (devlib.own.settings.curvature_eps), a quarter of that, and
    again, where a chain diverges; and where its bias is above the precision, from the bias.
    health: whether chains of twice the step and one without noise run beside the others, from
    which the step bias and the share of slope are known (devlib.sampling.beside), and whether w0
    is looked at as a saddle (devlib.own.saddle): half as much work again and one chain more, of
    few chains twice as much.
    Without, all three are NaN, and the error is that of the draws alone.
    whole_set: whether the loss of w0 is taken on all samples. None does so unless that is more
    samples than all chains draw; False takes it on the drawn batches alone.
    observables: data by name, in the forms and with the loss of `data`: their per-sample losses at
    every `every`-th draw come back in `observed`, as devlib.llc.response takes them.
    callback(chain, draw, params): called as often, of chains from w0 first, then the others'.

    The model is in eval mode meanwhile and afterwards as it was: weights, ties, buffers, modes.
    Parameters with requires_grad=False stay held. Raises UserError, before any draw, for what
    cannot be taken, for a loss that is random, depends on a sample's neighbours, or is not reached
    by a parameter that moves (devlib.sampling.checked), and ChainDiverged.
    """
    plan = Plan(precision, cap_draws, chains, seed, every)
    for name, value in {"health": health, "compile": compile, "progress": progress}.items():
        check_flag(name, value)
    for name, value in {"whole_set": whole_set, "vectorised": vectorised}.items():
        check_flag(name, value, or_none=True)
    if callback is not None and not callable(callback):
        raise UserError(f"callback must be a function, not {callback!r}")
    model = plain(model)
    with in_eval(model):
        params = parameters(model)
        samples = samples_for(params, data)
        others = {name: samples_for(params, other) for name, other in named(observables).items()}
        sets = {name: (loss_of(model, loss, other), other.parts) for name, other in others.items()}
        return measure_at(loss_of(model, loss, samples), params, samples, plan,
                          mask=mask_of(model, only), eps=eps, nbeta=nbeta, gamma=gamma,
                          batch_size=batch_size, whole_set=whole_set, sets=sets, callback=callback,
                          health=health, vectorised=vectorised, compile=compile,
                          progress=progress)


def measure_at(loss, params, samples, plan, *, mask, eps, nbeta, gamma, batch_size, whole_set,
               sets, callback, progress, health, **options) -> Measurement:
    """The same of a loss(params, parts) at parameters by name."""
    size, sampler = chosen(loss, params, samples, plan.seed, mask, eps, nbeta, gamma, batch_size)
    if whole_set is None:
        whole_set = len(samples) <= 2 * plan.chains * plan.cap_draws * size
    options |= {"mask": mask, "batch_size": size, "init_losses": None if whole_set else DRAWN}
    tries, found = TRIES if eps is None else 0, None
    while True:
        watches = [_Watch(Observed(sets), callback, shift) for shift in (0, plan.chains)]
        try:
            found = _run(loss, params, samples, sampler, plan, watches, options, progress, health)
            shorter = tries and found.estimate and shorter_step(found.estimate, sampler,
                                                                plan.precision, MIN_ESS)
            if not shorter:
                return found
        except ChainDiverged:
            if not tries:
                raise
            shorter = sampler.eps / SHORTEN
        except KeyboardInterrupt as stop:  # of a second try, when the first has ended
            known = found and not isinstance(stop, Interrupted)
            raise (Interrupted(found) if known else stop) from None
        tries -= 1
        sampler = dataclasses.replace(sampler, eps=float(f"{shorter:.1e}"))


def chosen(loss, params, samples, seed, mask, eps, nbeta, gamma, batch_size) -> tuple[int, SGLD]:
    """Batch size and sampler, with what was not given filled in."""
    if len(samples) < 2:
        raise UserError("the data are a single sample: an LLC needs two or more")
    size = min(BATCH, len(samples)) if batch_size is None else batch_size
    check_count("batch_size", size, least=2)
    if size > len(samples):
        raise UserError(f"batch_size = {size} is more than the {len(samples)} samples")
    check_number("gamma", gamma, above=0)  # without a spring there is no second start
    nbeta = default_nbeta(size) if nbeta is None else nbeta
    sampler = SGLD(1.0 if eps is None else eps, nbeta, gamma)  # refuses before any work
    if eps is None:
        found = curvature_eps(loss, params, samples.parts, mask=mask, nbeta=nbeta, gamma=gamma,
                              batch_size=size, seed=seed)
        sampler = dataclasses.replace(sampler, eps=found)
    return size, sampler


def _run(loss, params, samples, sampler, plan, watches, options, progress, health):
    runs = []
    for start, seed in (("w0", plan.seed), ("prior", stream_seed(plan.seed, "prior"))):
        beside = {"still": start == "w0"} if health else {}  # one chain without noise is enough
        runs.append((Watched if health else Chains)(
            loss, params, samples.parts, sampler, chains=plan.chains, seed=seed, start=start,
            **options, **beside))
        if runs[0].init_losses is not None:
            options = options | {"init_losses": runs[0].init_losses}
    for watch in watches:
        watch.observed.check_memory(plan.chains * plan.cap_draws // plan.every + 1)
    saddle = fall_both_ways(runs[0], plan.seed) if health else math.nan
    short = short_numbers(loss, params, samples.parts)
    more, found = min(BLOCK, plan.cap_draws), None
    while True:
        try:
            starts = _extend(runs, watches, more, plan, progress)
        except KeyboardInterrupt as stop:
            raise (Interrupted(found) if found else stop) from None
        pooled, taken = starts.estimate or estimate_llc(starts.draws), runs[0].taken
        unmet = ([] if starts.meet else ["the starts do not meet"]) + unmet_gates(
            pooled, plan.precision, MIN_ESS, np.inf)
        if advice := starts.meet and too_long_a_step(pooled, sampler, plan.precision, MIN_ESS):
            unmet = [advice]
        found = _result(starts, pooled, unmet, plan, saddle, short, watches)
        if not unmet or advice or taken >= plan.cap_draws:
            return found
        more = min(taken, plan.cap_draws - taken)  # few looks: each is a chance to stop too soon


def _extend(runs, watches, more, plan, progress) -> Equilibrium:
    """Takes `more` draws of both starts, and compares them. Raises ChainDiverged."""
    for run, watch in zip(runs, watches, strict=True):
        run.extend(more, progress, callback=watch if watch.needed else None, every=plan.every)
        if (draws := run.draws(0)).diverged:
            raise ChainDiverged(draws)
    return compare(*(run.draws() for run in runs))


def _result(starts, pooled, unmet, plan, saddle, short, watches):
    draws = starts.draws
    sampler, taken = draws.sampler, draws.losses.shape[1]
    notes = [f"precision {100 * plan.precision:g}% "
             + (f"not reached ({', '.join(unmet)})" if unmet else "reached")
             + f" in {taken:,} draws of {2 * plan.chains} chains",
             f"eps {sampler.eps:.2g}, nbeta {sampler.nbeta:.3g}, gamma {sampler.gamma:g}, "
             f"batch {draws.batch_size}"]
    if pooled.set_by_spring:
        notes.append(f"set by the spring, not the loss: a gamma smaller by the factor e would give "
                     f"about {-pooled.spring_slope:.2g} more")
    if saddle > 0:
        notes.append(f"no place where the spring holds a chain: along one direction nbeta times "
                     f"the loss falls both ways from w0, by {saddle:.2g} more than the spring "
                     "rises, as at a saddle")
    if 1 < pooled.spring_ratio < np.inf:
        notes.append(f"not local: the spring's sd is {pooled.spring_ratio:.2g} times the "
                     "weights' rms")
    if pooled.mean + 4 * pooled.mcse < 0:
        notes.append("negative: these weights are at no minimum of this loss")
    if short:
        notes.append(f"parts of the loss are computed in {' and '.join(short)}, and their rounding "
                     "is in the number: hold it against one in float32")
    if draws.init_loss_se:
        notes.append(f"loss of w0 {draws.init_loss:.4g} +- {draws.init_loss_se:.2g}, of the drawn "
                     "batches")
    observed = {name: np.concatenate([watch.observed.losses(name, range(plan.chains),
                                                            draws.burn_in) for watch in watches])
                for name in watches[0].observed.sets}
    return Measurement(starts.estimate, starts, not unmet, "; ".join(notes), observed, saddle)


@dataclass(frozen=True)
class _Watch:
    """What looks at the chains of one start, numbered on from `shift` for the user."""

    observed: Observed
    callback: object
    shift: int

    @property
    def needed(self):
        return bool(self.observed.sets or self.callback)

    def __call__(self, chain, draw, params):
        self.observed(chain, draw, params)
        if self.callback:
            self.callback(self.shift + chain, draw, params)


def parameters(model) -> dict:
    """Its parameters by name. Raises UserError for what is no module, or has none."""
    check_module(model)
    params = dict(model.named_parameters())
    if not params:
        raise UserError(f"the model {type(model).__name__} has no parameters")
    if any(isinstance(p, torch.nn.UninitializedParameter) for p in params.values()):
        raise UserError(f"the model {type(model).__name__} has lazy parameters, which have no "
                        "values yet: call it once on a batch")
    return params


def samples_for(params, data) -> Samples:
    """The data for these parameters, where they are and of the widest dtype among those that move:
    a frozen backbone may be of another, or whole numbers."""
    moving = [p.dtype for p in params.values() if p.requires_grad and p.is_floating_point()]
    dtype = max(moving or [torch.get_default_dtype()], key=lambda kind: kind.itemsize)
    return samples_of(data, dtype, of(params))
