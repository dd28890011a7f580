"""The two-layer language model at a larger learning rate, beside the run at the paper's (ours): the
same circuit, and another LLC curve. Its tables lie in data/larger_rate; its checkpoints are not
kept."""

import functools
import math

import pandas as pd

from companion.claims.measures_language import TWO, best_head
from companion.health import chain_loss
from companion.places import project_root
from companion.tables import Results, load
from devlib.settings import LanguageModel, LLCSettings
from devlib.steps import at, nearest

PLACE = project_root() / "data" / "larger_rate"
PANELS = {"llc": "LLC (no unit)", "weight_norm": "norm of the weights",
          "loss": "test loss (nats)", "icl": "ICL score (nats)",
          "previous": "best previous-token head, layer 1",
          "prefix": "best prefix-matching head, layer 2"}


@functools.cache
def larger_rate() -> Results:
    """The tables of that run: "behaviour", "structure", "heads", "composition", "llc", "corpus".
    Raises UserError if one is damaged."""
    return load(PLACE)


def by_step(run: Results) -> pd.DataFrame:
    """What the two runs are compared in, one row a checkpoint: step, and the columns of PANELS.
    The heads are those that score most at the run's end."""
    table = run["behaviour"][["step", "loss", "icl"]]
    for part in (run["llc"][["step", "llc", "mcse", "init_loss"]],
                 run["structure"][["step", "weight_norm"]],
                 *(best_head({TWO: run}, layer, score)[["step", score]]
                   for layer, score in ((1, "previous"), (2, "prefix")))):
        table = table.merge(part, on="step")
    return table


def of_runs(runs: dict[str, Results]) -> dict[str, pd.DataFrame]:
    """A table for each panel: step, and a column for each named run, empty where that run has no
    checkpoint."""
    tables = {name: by_step(run).set_index("step") for name, run in runs.items()}
    return {title: pd.DataFrame({name: table[column] for name, table in tables.items()})
            .rename_axis("step").reset_index() for column, title in PANELS.items()}


def weights_beside_spring(runs: dict[str, Results], steps) -> pd.DataFrame:
    """At each step, of each run's nearest checkpoint: the LLC, the norm of the weights, their root
    mean square over the spring's sd, 1 / sqrt(gamma), and the loss L(w0) on the text that chains
    sample beside the mean loss of a chain there (companion.health.chain_loss)."""
    from devlib.language.parameters import parameter_shapes  # torch, only where it is used

    rows = []
    for step in steps:
        for name, run in runs.items():
            table, made = by_step(run), run.manifest["settings"]
            size = sum(map(math.prod, parameter_shapes(LanguageModel(**made["model"])).values()))
            there = at(table, nearest(table.step, step, log=True))
            rows.append({"step": int(there.step), "run": name, "LLC": there.llc,
                         "its error": there.mcse, "norm": there.weight_norm,
                         "rms / spring's sd": there.weight_norm * math.sqrt(
                             made["llc"]["gamma"] / size),
                         "loss": there.init_loss,
                         "loss of a chain": chain_loss(there, LLCSettings(**made["llc"]))})
    return pd.DataFrame(rows)
