"""The LLC over training: one row a checkpoint, and the stages of it."""

import math
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch

from devlib.checks import check_number
from devlib.errors import Interrupted, UserError
from devlib.llc.estimate import estimate_llc
from devlib.own.masks import mask_of
from devlib.own.measure import GAMMA, Plan, chosen, measure_at, parameters, samples_for
from devlib.own.model import in_eval, loss_of, plain
from devlib.sampling.draws import ChainDiverged
from devlib.sampling.model import per_sample_losses
from devlib.settings import StageSettings
from devlib.stages import IMPRECISE, by_step, find_stages

NUMBERS = ("llc", "mcse", "ess", "rhat", "step_bias", "step_bias_mcse", "slope_share")


@dataclass(frozen=True, eq=False)
class Curve:
    """`table` has one row a checkpoint: step; loss and loss_se, of w0 on the whole set; llc, mcse,
    ess, rhat, step_bias, its mcse and slope_share (devlib.llc.LLC), of both starts together;
    saddle (devlib.own.saddle); meet and reached; health, as devlib.stages takes it: empty, or what
    is wrong; eps and draws."""

    table: pd.DataFrame

    def stages(self, settings: StageSettings = StageSettings(), prefix="S"):
        """(smoothed curve, boundaries, stage table) by devlib.stages.find_stages (B.1) of all
        rows, with its warning of the boundaries that go without the rows that are not sound."""
        return find_stages(self.table, self.table, settings, prefix)

    def __str__(self):
        sound = int(self.table.reached.sum())
        return (f"{len(self.table)} checkpoints, {sound} of them at the precision asked for\n"
                + self.table.to_string(index=False, float_format="{:.4g}".format))


def llc_curve(model, checkpoints, data, *, loss, eps=None, only=None, nbeta=None, gamma=GAMMA,
              batch_size=None, chains=4, precision=0.05, cap_draws=5_000, seed=0, health=True,
              progress=False) -> Curve:
    """The LLC of each checkpoint with one sampler and the same batches and noise throughout
    (A.5.2), as `measure` has it, with its loss, errors and health.

    checkpoints: step -> state dict, a list of such pairs, or what has `steps` and `load(step)`
    (devlib.checkpoints.CheckpointStore). The model gives its form; its own weights stay as they
    are. eps=None takes the smallest of the step sizes that the checkpoints ask for. Remaining
    arguments and errors as for `measure`; a state that is not the model's, or not finite, is
    refused before anything is measured. A checkpoint that fails after others were measured has a
    row that says why. Interrupted, it raises Interrupted with the Curve of the checkpoints before.
    """
    plan = Plan(precision, cap_draws, chains, seed, 1)
    pairs = list(_pairs(checkpoints))
    if not pairs:
        raise UserError("there are no checkpoints")
    model = plain(model)
    with in_eval(model):
        for step, load in pairs:
            check_number("a checkpoint's step", step, least=0)
            _state(model, step, load())
        by_step([step for step, _ in pairs])  # refuses what stands twice
        samples, mask = samples_for(parameters(model), data), mask_of(model, only)

        def problem(step, load):
            params, held = _state(model, step, load())
            return loss_of(model, loss, samples, held), params

        if eps is None:
            eps = min(chosen(*problem(*pair), samples, seed, mask, None, nbeta, gamma,
                             batch_size)[1].eps for pair in pairs)
        rows = []
        for step, load in pairs:
            try:
                row = _row(*problem(step, load), samples, plan, mask=mask, eps=eps, nbeta=nbeta,
                           gamma=gamma, batch_size=batch_size, whole_set=True, sets={},
                           callback=None, health=health, progress=progress)
            except UserError as error:
                if not rows:  # nothing is lost yet
                    raise UserError(f"at step {step}: {error}") from error
                row = _nothing(str(error), eps)
            except KeyboardInterrupt:  # which may have a Measurement, that of this checkpoint
                raise (Interrupted(_curve(rows)) if rows else KeyboardInterrupt) from None
            rows.append({"step": step} | row)
    return _curve(rows)


def _curve(rows) -> Curve:
    table = pd.DataFrame(rows)
    return Curve(table.iloc[by_step(table.step)].reset_index(drop=True))


def _row(loss, params, samples, plan, **settings) -> dict:
    """What the chains say at one checkpoint; NaN where they diverge."""
    losses = per_sample_losses(loss, params, samples.parts).double()
    row = {"loss": float(losses.mean()), "loss_se": float(losses.std() / len(losses) ** 0.5)}
    try:
        found = measure_at(loss, params, samples, plan, **settings)
    except ChainDiverged:
        return _nothing("diverged", settings["eps"]) | row
    both, meet = estimate_llc(found.draws), found.starts.meet
    health = "" if found.reached else IMPRECISE if meet else "two regimes"
    return row | {name: getattr(both, "mean" if name == "llc" else name) for name in NUMBERS} | {
        "saddle": found.saddle, "meet": meet, "reached": found.reached, "health": health,
        "eps": settings["eps"], "draws": found.draws.losses.shape[1]}


def _nothing(health, eps) -> dict:
    """The row of a checkpoint that gave no estimate, and why."""
    return dict.fromkeys(("loss", "loss_se", *NUMBERS, "saddle"), math.nan) | {
        "meet": False, "reached": False, "health": health, "eps": eps, "draws": 0}


def _pairs(checkpoints):
    """(step, function that loads its state) of each."""
    if hasattr(checkpoints, "steps") and hasattr(checkpoints, "load"):
        return [(step, partial(checkpoints.load, step)) for step in checkpoints.steps]
    if isinstance(checkpoints, dict):
        checkpoints = checkpoints.items()
    try:
        return [(step, lambda state=state: state) for step, state in checkpoints]
    except (TypeError, ValueError) as error:
        raise UserError("checkpoints must map steps to state dicts, be pairs of both, or a "
                        "CheckpointStore") from error


def _state(model, step, state) -> tuple[dict, dict]:
    """(parameters, buffers) of a state dict, in the place of the model's own."""
    own, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    if not isinstance(state, dict):
        raise UserError(f"the checkpoint of step {step} is no state dict, but a "
                        f"{type(state).__name__}")
    for name, p in own.items():
        if name not in state or tuple(state[name].shape) != tuple(p.shape):
            has = "has none" if name not in state else f"has shape {tuple(state[name].shape)}"
            raise UserError(f"the checkpoint of step {step} is not of this model: it needs {name} "
                            f"of shape {tuple(p.shape)}, and {has}")
        if not state[name].isfinite().all():
            raise UserError(f"the checkpoint of step {step} has values in {name} that are not "
                            "finite: leave it out")
    params = {name: torch.nn.Parameter(state[name].detach().to(p), requires_grad=p.requires_grad)
              for name, p in own.items()}
    return params, {name: state[name].to(b) for name, b in buffers.items() if name in state}
