"""The released seeds lie behind our curves, over the same steps and no further."""

import numpy as np
import pandas as pd
import pytest

from companion import figures_development as draw
from companion.claims import seeds
from companion.figures_released import LABEL, behind
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
