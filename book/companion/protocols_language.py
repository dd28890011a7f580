"""The LLC of a few checkpoints of a language run by other batches, starts and springs (ours).

- *target*: the paper's eps, nbeta and gamma, from w0 and from the prior N(w0, 1 / gamma), and
  from the prior with batches of several sizes, burn-in left out;
- *long*: the same by the smallest batch from both starts, in chains some times as long;
- *profile*: over nbeta and the spring's sd in units of the weights' root mean square, from both
  starts, by a stable step. Its narrowest spring at the paper's nbeta is the local protocol.
"""

import functools

import pandas as pd
import torch

from companion.curve import tables
from companion.language import llc_data, model_loss, unigram_loss
from companion.measurements import version_key
from companion.presets import LanguageProtocolSettings
from companion.protocols import STARTS, climb_rows, estimate_row, papers, profile_cells
from companion.readings_language import measure_readings
from devlib.hessian import Hessian, top_eigenpairs
from devlib.own.model import next_token
from devlib.rng import generator, stream_seed
from devlib.sampling import Chains
from devlib.settings import LanguageSettings, as_dict
from devlib.steps import nearest_each


def protocol_table(store, settings: LanguageSettings, chosen: LanguageProtocolSettings, seed,
                   directory) -> dict:
    """"estimates", one row a checkpoint, part (`protocol`), sampler, batch and start: those of
    `companion.protocols.estimate_row` with `batch` and `unigram_loss`, the loss on the same text of
    a predictor that knows the tokens' shares alone; "climb", block means along the long chains;
    "prefix" and "bigrams" (readings_language)."""
    found = {}
    for part, measure, own, steps in (
            ("target", measure_target, "llc", chosen.steps),
            ("long", measure_long, "llc", chosen.long_steps),
            ("profile", measure_profile, "llc", chosen.steps),
            ("reading", measure_readings, "metrics", chosen.reading_steps)):
        facts = {"part": part, "corpus": settings.training.corpus, "seed": seed,
                 own: as_dict(getattr(settings, own)), **settings_of(part, chosen),
                 **version_key("language protocols")}
        for name, table in () if not steps else tables(
                functools.partial(measure, settings, chosen, seed), store,
                nearest_each(store.loadable, steps), directory, facts,
                f"language protocols: {part}").items():
            found.setdefault(name, []).append(table)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def settings_of(part, chosen) -> dict:
    """The settings that a part's numbers hang on."""
    found = {name: value for name, value in as_dict(chosen).items()
             if name.startswith(f"{part}_") and not name.endswith("steps")}
    return found | {"batch": chosen.target_batches[0]} if part == "long" else found


# What is measured at one checkpoint: the last argument is its parameters.

def measure_target(settings, chosen, seed, params):
    """The paper's target from both starts by the smallest batch, and by every batch from the prior
    in half as many draws, the same of each: late in training the prior's chains are not at rest by
    then, and a batch is to be held against another and not against longer chains."""
    smallest = chosen.target_batches[0]
    cells = [(smallest, start, chosen.target_draws) for start in STARTS]
    cells += [(batch, "prior", chosen.target_draws // 2) for batch in chosen.target_batches]
    return {"estimates": [
        _estimate("target", settings, seed, params, papers(settings), batch, start,
                  chosen.target_chains, draws)[0] for batch, start, draws in cells]}


def measure_long(settings, chosen, seed, params):
    """The target by the smallest batch from both starts, run until they should have met."""
    found = {"estimates": [], "climb": []}
    for start in STARTS:
        row, draws = _estimate("long", settings, seed, params, papers(settings),
                               chosen.target_batches[0], start, chosen.long_chains,
                               chosen.long_draws)
        found["estimates"].append(row)
        found["climb"] += climb_rows(draws, chosen.long_draws // 12)
    return found


def measure_profile(settings, chosen, seed, params):
    """Over nbeta and the spring, by a step that is stable in the steepest direction."""
    curvature, found = largest_curvature(settings, chosen, seed, params), []
    for sampler, start in profile_cells(chosen, curvature, params):
        row, _ = _estimate("profile", settings, seed, params, sampler, settings.llc.batch, start,
                           chosen.profile_chains, chosen.profile_draws)
        found.append(row | {"curvature": curvature})
    return {"estimates": found}


def largest_curvature(settings, chosen, seed, params) -> float:
    """The largest eigenvalue of the Hessian of the loss at w0, on a few of the LLC's contexts. The
    loss that chains read has no second derivatives; that of the hooked model has."""
    from companion.hooked import LanguageTransformer  # TransformerLens, only where it is used

    model = LanguageTransformer(settings.model, params)

    def loss(params, batch):
        return next_token(functools.partial(torch.func.functional_call, model, params), batch)

    few = tuple(part[:chosen.profile_curvature_samples] for part in llc_data(settings, seed))
    pairs = top_eigenpairs(Hessian(loss, dict(model.named_parameters()), few, keep_graph=True), 1,
                           generator(seed, "language protocols", "curvature"), 0.02)
    return float(pairs.values[0])


def _estimate(part, settings, seed, params, sampler, batch, start, chains, draws):
    """One row, and its draws, of which the first half is burn-in."""
    number = seed if start == "w0" else stream_seed(seed, "prior")  # batches and noise of its own
    run = Chains(model_loss(settings.model), params, llc_data(settings, seed), sampler,
                 chains=chains, seed=number, batch_size=batch, start=start, compile=False,
                 vectorised=False)
    run.extend(draws)
    found = run.draws(draws // 2)
    return estimate_row(part, found) | {
        "batch": batch, "unigram_loss": unigram_loss(settings, seed)}, found
