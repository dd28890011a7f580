"""The run at a larger rate beside another: what is compared, and what the two have in common."""

import math

import numpy as np
import pandas as pd
import pytest

from companion import presets
from companion.pages.larger_rate import (
    PANELS,
    by_step,
    larger_rate,
    of_runs,
    weights_beside_spring,
)
from companion.tables import Results
from devlib.language.parameters import parameter_shapes
from devlib.settings import LanguageModel, LLCSettings, as_dict

MODEL = LanguageModel(heads=2, embed_dim=2, head_dim=1, layers=2, context=4, vocabulary=8)
CHAINS = as_dict(LLCSettings(gamma=4.0, nbeta=20.0))


def run(steps, norm):
    """Two heads a layer: the second is the better one at the end, and the worse before it."""
    steps = np.array(steps)
    last = steps == steps.max()
    heads = pd.concat([pd.DataFrame({
        "step": steps, "layer": layer, "head": head, "previous": 0.1 * layer,
        "prefix": np.where(last == (head == 2), 0.9, 0.2)}) for layer in (1, 2) for head in (1, 2)],
        ignore_index=True)
    return Results({"behaviour": pd.DataFrame({"step": steps, "loss": 5.0, "icl": -0.1}),
                    "llc": pd.DataFrame({"step": steps, "llc": 100.0, "mcse": 1.0,
                                         "init_loss": 4.5}),
                    "structure": pd.DataFrame({"step": steps, "weight_norm": norm}),
                    "heads": heads},
                   {"settings": {"model": as_dict(MODEL), "llc": CHAINS}})


def test_the_heads_are_those_that_lead_at_the_end():
    table = by_step(run([0, 10, 20], 3.0))
    assert table.step.tolist() == [0, 10, 20]
    assert table.prefix.tolist() == [0.2, 0.2, 0.9]  # head 2, which is behind until then


def test_a_run_is_empty_where_it_has_no_checkpoint():
    found = of_runs({"one": run([0, 10], 3.0), "other": run([0, 20], 3.0)})
    assert list(found) == list(PANELS.values())
    for table in found.values():
        assert table.step.tolist() == [0, 10, 20]
        assert table.one.isna().tolist() == [False, False, True]
        assert table.other.isna().tolist() == [False, True, False]


def test_the_weights_beside_the_spring():
    size = sum(map(math.prod, parameter_shapes(MODEL).values()))
    row = weights_beside_spring({"one": run([0, 10], 6.0)}, [9]).iloc[0]
    assert row.step == 10
    assert row["rms / spring's sd"] == pytest.approx(6.0 / size**0.5 / (1 / 4.0**0.5))
    assert row["loss of a chain"] == pytest.approx(4.5 + 100.0 / 20.0)  # of the chains' text


def test_only_rate_and_length_are_other_than_the_published_runs():
    """Text, batches, contexts and chains are the same, so that the rate is what differs."""
    found, ours = larger_rate().manifest["settings"], as_dict(presets.PUBLISHED.language)
    assert found["model"] == ours["model"] and found["llc"] == ours["llc"]
    other = {name for name, value in found["training"].items() if ours["training"][name] != value}
    assert other == {"lr", "warmup", "steps", "stop", "log_checkpoints", "linear_checkpoints"}
    assert found["training"]["lr"] == pytest.approx(3 * ours["training"]["lr"])
    assert "three times the paper's rate" in larger_rate().description
