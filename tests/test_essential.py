"""Essential dynamics: paths whose components and turning points are known."""

import numpy as np
import pandas as pd
import pytest

from devlib.errors import UserError
from devlib.essential import nearest_boundaries, principal_path, turning_points
from devlib.settings import StageSettings
from devlib.steps import schedule

STEPS = np.array(schedule(500_000, 100, 100))
X = np.log1p(STEPS)
RULE = StageSettings(restarts=0)


def test_a_path_in_a_plane_is_found_again():
    """Outputs = a(t) u + b(t) v + c with u, v orthogonal: two components explain all, and the
    scores are a and b (about their means) in root-mean-square units."""
    n = 50
    u, v = np.ones(n), np.tile([1.0, -1.0], n // 2)
    a, b = X - X.mean(), np.sin(X)
    b -= b.mean() + (a @ b) / (a @ a) * a  # uncorrelated, so that the axes are u and v
    path = principal_path(STEPS, a[:, None] * u + b[:, None] * v + 7.0, components=3)
    np.testing.assert_allclose(path.scores[:, 0], a, atol=1e-9)
    np.testing.assert_allclose(path.scores[:, 1], b * np.sign(b[-1]), atol=1e-9)
    np.testing.assert_allclose(path.scores[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(path.explained, np.array([a @ a, b @ b, 0]) / (a @ a + b @ b),
                               atol=1e-12)
    assert list(path.table().columns) == ["step", "pc_1", "pc_2", "pc_3"]


def test_scores_do_not_depend_on_the_size_of_the_probe_set():
    outputs = np.outer(X, np.ones(8)) + np.outer(np.cos(X), np.tile([1, -1], 4))
    once = principal_path(STEPS, outputs, 2)
    twice = principal_path(STEPS, np.tile(outputs, (1, 2)), 2)
    np.testing.assert_allclose(once.scores, twice.scores, atol=1e-9)


def test_outputs_of_any_shape_and_too_few_checkpoints():
    outputs = np.random.default_rng(0).normal(size=(5, 3, 2))
    assert principal_path(range(5), outputs, 4).scores.shape == (5, 4)
    with pytest.raises(UserError, match="4 components need more than 4 checkpoints, not 4"):
        principal_path(range(4), outputs[:4], 4)


def test_a_still_model_has_a_path_of_one_point():
    path = principal_path(range(6), np.ones((6, 4)), 2)
    assert (path.scores == 0).all() and (path.explained == 0).all()
    assert turning_points(range(6), path.scores[:, 0]) == []


def test_turning_points_of_a_parabola_and_a_line():
    peak = 6.0
    found = turning_points(STEPS, -((X - peak) ** 2), RULE)
    assert len(found) == 1 and abs(np.log1p(found[0]) - peak) < 0.3
    assert turning_points(STEPS, X, RULE) == []
    assert turning_points(STEPS, 1e-6 * -((X - peak) ** 2), RULE) == found  # whatever the scale


def test_each_turning_point_has_its_nearest_boundary():
    steps = np.unique(np.logspace(0, 4, 60).astype(int))
    x = np.log1p(steps)
    waves = pd.DataFrame({"step": steps, "pc_1": np.sin(x), "pc_2": x, "pc_3": x})
    rule = StageSettings(restarts=0)
    table = nearest_boundaries(waves, [100, 1_000], rule)
    assert set(table.component) == {1}
    turns = np.expm1(np.pi * np.array([0.5, 1.5, 2.5]))  # sin turns at odd multiples of pi / 2
    np.testing.assert_allclose(table["turns at"], turns, rtol=0.2)
    assert table.boundary.tolist() == [100, 100, 1_000]
    np.testing.assert_allclose(table.factor, table["turns at"] / table.boundary)
    assert nearest_boundaries(waves, [], rule).boundary.isna().all()
