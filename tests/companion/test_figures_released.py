"""The released seeds lie behind our curves, over the same steps and no further."""

import numpy as np
import pandas as pd
import pytest

from companion import figures_development as draw
from companion.claims import seeds
from companion.figures_released import LABEL, ONE, behind
from devlib.errors import UserError


def ours(last):
    return draw.curves({"LLC": pd.DataFrame({"step": [0, last], "ours": [0.0, 100.0]})},
                       pd.DataFrame(columns=["stage", "start", "end"]), "LLC", columns=1)


@pytest.mark.parametrize("last", [6_299, 499_999])
def test_mean_and_range_to_the_end_of_our_run(last):
    fig = ours(last)
    ax = fig.axes[0]
    before = ax.get_xlim()
    behind(ax, "llc")
    assert ax.get_xlim() == before
    known = seeds.curve("llc", last)
    x, y = ax.lines[-1].get_data()
    assert x.max() <= last and np.array_equal(y, known["mean"])
    assert ax.lines[-1].get_zorder() < ax.lines[0].get_zorder()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours", LABEL]


def test_several_curves_are_named_once():
    fig = ours(499_999)
    behind(fig.axes[0], "ood_input_3", "ood_input_5")
    labels = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert labels.count(LABEL) == 1 and len(fig.axes[0].lines) == 3


def test_a_range_holds_its_mean_and_a_curve_that_is_not_there_is_refused():
    known = seeds.curve("weight_norm")
    assert (known.least <= known["mean"]).all() and (known["mean"] <= known.greatest).all()
    assert len(known) == 190
    with pytest.raises(UserError, match="no curve speed"):
        behind(ours(100).axes[0], "speed")


@pytest.mark.parametrize("kind, curves", [
    ("language-2layer", ("loss", "loss_ablated", "ablation", "bigram", "llc", "icl", "ngram_3",
                         "weight_norm", "previous", "prefix", "k_composition")),
    ("language-1layer", ("loss", "ablation", "bigram", "llc", "ngram_2", "weight_norm"))])
def test_the_one_run_of_a_language_model_is_a_line_of_its_own_steps(kind, curves):
    fig = ours(15_000)
    ax = fig.axes[0]
    behind(ax, *curves, of=kind)
    mine, *drawn = ax.lines
    assert not ax.collections and len(drawn) == len(curves)  # one run has no range
    for line, name in zip(drawn, curves, strict=True):
        known = seeds.curve(name, 15_000, kind)
        assert list(line.get_xdata()) == list(known.step) and known.step.max() <= 15_000
        assert list(line.get_ydata()) == list(known["mean"]) and line.zorder < mine.zorder
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours", ONE]
    with pytest.raises(UserError, match=f"no curve speed of {kind} is among the released ones"):
        behind(ax, "speed", of=kind)


def test_the_released_language_values_are_those_that_the_claims_cite():
    """Those of LM-9 and LM-11 at steps that were kept; and zeroed positions cost what the two
    losses differ by."""
    two = {name: seeds.curve(name, of="language-2layer").set_index("step")["mean"]
           for name in ("loss", "loss_ablated", "ablation", "llc")}
    assert (two["loss"][0], two["loss"][50_000]) == pytest.approx((7.94, 3.21), abs=0.005)
    assert (two["llc"][0], two["llc"][49_900]) == pytest.approx((42.0, 148.2), abs=0.05)
    assert (two["loss_ablated"] - two["loss"]).to_numpy() == pytest.approx(
        two["ablation"].to_numpy(), abs=2e-4)


def test_a_panel_without_room_names_nothing():
    ax = ours(100).axes[0]
    behind(ax, "loss", of="language-1layer", named=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours"]
