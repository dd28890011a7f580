"""The error of a change between two checkpoints."""

import numpy as np
import pandas as pd
import pytest

from companion.claims import ledger, text
from companion.claims.paired import PAIRED, UNPAIRED, change, standing_for
from companion.results import save
from companion.runs import RunKey
from devlib.settings import as_dict
from tests.companion.claims.made_up import development, put, regression

TABLE = pd.DataFrame({"step": [0, 900], "loss": [4.0, 3.0], "loss_se": [0.3, 0.4]})
SHARED = np.random.default_rng(0).normal(0, 2.4, 64)  # of every checkpoint, the same
OWN = np.linspace(-1, 1, 64) * 0.1


def blocks(**steps):
    """A table of block means: `step_0=values`."""
    return pd.DataFrame([{"metric": "loss", "step": int(name.removeprefix("step_")),
                          **{f"block_{i}": value for i, value in enumerate(values)}}
                         for name, values in steps.items()])


def test_a_change_without_blocks_takes_both_errors_and_says_so():
    found = change(TABLE, 0, 900, "loss")
    assert (found.value, found.error, found.about) == (-1, pytest.approx(0.5), UNPAIRED)


def test_what_the_contexts_do_to_both_ends_drops_out():
    found = change(TABLE, 0, 900, "loss", blocks(step_0=4 + SHARED, step_900=3 + SHARED + OWN))
    assert found.value == -1 and found.about == PAIRED  # the value is the table's own
    assert found.error == pytest.approx(OWN.std(ddof=1) / 8)


@pytest.mark.parametrize("kept", [
    dict(step_0=SHARED), dict(step_0=SHARED, step_1000=SHARED)])  # none near; none of the stage
def test_a_step_that_no_kept_checkpoint_stands_for_leaves_it_unpaired(kept):
    found = change(TABLE, 0, 900, "loss", blocks(**kept))
    assert (found.error, found.about) == (pytest.approx(0.5), UNPAIRED)


@pytest.mark.parametrize("step, stands", [
    (0, 0), (984, 984), (40_292, 40_404), (499_999, 499_999),
    (318_181, None),  # the nearest is beyond the end of LR4, and 3% off
    (126_262, None), (39_900, None)])  # nothing near; in LR2
def test_a_kept_step_stands_for_one_of_its_stage_that_is_near(step, stands):
    kept = [0, 661, 984, 40_404, 95_959, 146_464, 328_282, 499_999]
    assert standing_for(step, kept, "LR") == stands
    assert standing_for(step, [], "LR") is None


@pytest.mark.parametrize("reuse", [False, True])
def test_the_ledger_takes_a_run_s_blocks_and_each_row_says_which_error_it_has(tmp_path, reuse):
    """Of the run's own, or of the checkpoints that the repository keeps of it."""
    put(tmp_path, "paper", "regression", 0, regression())
    put(tmp_path, "paper", "development", 0, development())
    one = blocks(step_0=4 + SHARED, step_984=3 + SHARED + OWN, step_40404=2 + SHARED)
    key = RunKey.of("blocks", "paper", 0, reuse=reuse)
    save(key.own(tmp_path), {"blocks": one},
         {"preset": "paper", "seed": 0, "settings": as_dict(key.settings), "seconds": {}})
    run = ledger.open_run("paper", 0, tmp_path)
    rows = ledger.judged(ledger.chosen(["LR-2"])["LR-2"], run)
    first, second, third = (rows[f"loss over LR{i}"] for i in (1, 2, 3))
    assert (first.error, second.error) == pytest.approx((OWN.std(ddof=1) / 8,) * 2, rel=1e-4)
    assert text.cells(first)[2].endswith("(paired)")
    assert text.cells(third)[2].endswith("(unpaired, an upper bound)")
    fall = ledger.judged(ledger.chosen(["LR-5"])["LR-5"], run)["fall over LR2"]
    assert fall.reading.about == UNPAIRED  # there are blocks, and none of this metric
