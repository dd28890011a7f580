"""Stages have the paper's names exactly where they are the paper's stages."""

import numpy as np
import pandas as pd
import pytest

from companion import presets
from companion.claims.table_rows import MATCH
from companion.paper_stages import find_named, match, names, paper_ends
from devlib.settings import StageSettings, replace
from devlib.stages import find_stages

LR = paper_ends()
LAST = 499_999


@pytest.mark.parametrize("boundaries, last, expected", [
    ([1_000, 40_000, 126_000, 320_000], LAST, ["LR1", "LR2", "LR3", "LR4", "LR5"]),
    ([900, 50_000, 120_000, 330_000], LAST, ["LR1", "LR2", "LR3", "LR4", "LR5"]),
    ([1_000, 40_000, 126_000], LAST, ["LR1", "LR2", "LR3", "A"]),  # no end of LR4
    ([1_000, 6_000, 40_000, 126_000, 320_000], LAST, ["LR1", "A", "B", "LR3", "LR4", "LR5"]),
    ([755, 1_283, 50_505, 116_345, 318_181, 459_595], LAST,
     ["A", "B", "LR2", "LR3", "LR4", "C", "D"]),  # 1,283 is nearer to 1,000 than 755 is
    ([200, 5_000], LAST, ["A", "B", "C"]),
    ([], LAST, ["A"]),
    ([], 6_299, ["A"]),  # it stops in LR2, and shows no end of LR1
    ([984], 6_299, ["LR1", "LR2"]),  # it stops before LR2 ends
    ([984], 400_000, ["LR1", "A"]),  # it went past the paper's end of LR2 and found none
])
def test_names_follow_the_match(boundaries, last, expected):
    assert names(boundaries, last, LR) == expected


def test_a_match_is_one_to_one_and_near():
    just, beyond = (round(1_001 * MATCH * factor) - 1 for factor in (0.999, 1.001))
    assert match([just], LR) == {just: "LR1"}
    assert match([beyond], LR) == {}
    assert match([950, 1_050], LR) == {1_050: "LR1"}  # by log steps the second is nearer
    assert match([60_000], {"a": 50_000, "b": 65_000}) == {60_000: "b"}


def test_more_stages_than_the_paper_has_take_further_letters():
    found = names([100, 200, 300, 400, 500], 600, LR)
    assert found == ["A", "B", "C", "D", "E", "F"]


def test_steps_by_another_optimiser_or_model_match_nothing():
    paper = presets.PAPER.language
    for same in (paper, presets.PUBLISHED.language,  # other text, batches and contexts
                 replace(paper, training=replace(paper.training, batch=16, stop=9_000))):
        assert paper_ends(same)["LM1"] == 900
    for other in (presets.LAPTOP.language, presets.PAPER.one_layer,
                  replace(paper, training=replace(paper.training, lr=3e-3)),
                  replace(paper, training=replace(paper.training, warmup=300)),
                  replace(paper, model=replace(paper.model, embed_dim=128))):
        assert paper_ends(other) == {}
    assert names([900, 6_500], 50_000, {}) == ["A", "B", "C"]


def test_only_the_names_are_other_than_find_stages():
    steps = np.unique(np.logspace(0, 5, 40).astype(int))
    curve = 60 / (1 + np.exp(-3 * (np.log(steps) - np.log(300))))
    llc = pd.DataFrame({"step": steps, "llc": curve, "mcse": 0.1})
    loss = pd.DataFrame({"step": steps, "loss": -curve, "loss_se": 0.01})
    settings = StageSettings(restarts=0)
    found, expected = find_named(llc, loss, settings)[1:], find_stages(llc, loss, settings)[1:]
    assert found[0] == expected[0]
    pd.testing.assert_frame_equal(found[1].drop(columns="stage"),
                                  expected[1].drop(columns="stage"))
    assert list(found[1].stage) == names(found[0], int(steps[-1]), LR)
