"""The page on the language LLC by other samplers: its joint test, and how seeds are compared."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from companion.pages import protocols_language as page


def target(values, errors, steps=(1, 2), batches=(2, 16, 100)):
    rows = [{"step": step, "batch": batch, "start": "prior"} for step in steps for batch in batches]
    return pd.DataFrame(rows).assign(llc=values, mcse=errors, chains=2, draws=80,
                                     protocol="target")


def test_two_values_far_apart_are_the_normal_tail():
    """Of two values d apart with errors s the statistic is d^2 / 2 s^2, one degree of freedom."""
    one = target([10.0, 10.0 + 1.96 * 2**0.5], 1.0, steps=(1,), batches=(2, 16))
    assert page.joint_p(one) == pytest.approx(0.05, abs=1e-3)
    assert page.joint_p(target(np.full(6, 3.0), 1.0)) == 1
    assert np.isnan(page.joint_p(target(np.full(6, 3.0), [1.0, np.nan, np.nan] * 2)))


def test_without_an_effect_p_is_uniform():
    gen = np.random.default_rng(0)
    errors = np.array([2.0, 1.0, 0.5] * 2)
    found = [page.joint_p(target(100 + errors * gen.standard_normal(6), errors))
             for _ in range(400)]
    assert kstest(found, "uniform").pvalue > 0.001


def test_the_difference_is_of_the_largest_batch_and_the_smallest():
    table = page.by_batch(target([1.0, 5.0, 4.0, 2.0, 2.0, 2.0], [3.0, 1.0, 4.0] * 2))
    assert table.difference.tolist() == [3.0, 0.0] and table["its error"].tolist() == [5.0, 5.0]
    assert table["batch 16"].tolist() == ["5.0 ± 1.0", "2.0 ± 1.0"]


def test_a_boundary_has_partners_in_other_seeds():
    table = page.shared({0: [100, 1_000], 1: [110], 2: [90, 5_000], 3: []})
    assert table.iloc[:, 2].tolist() == ["2, 0", "2", "2, 0", "-"]
    assert table.boundaries.tolist() == ["100, 1,000", "110", "90, 5,000", "none"]


def test_seeds_are_joined_by_step():
    def run(seed, shift):
        steps = [0, 1, 2]
        return SimpleNamespace(manifest={"seed": seed, "preset": "laptop"}, tables={
            "llc": pd.DataFrame({"step": steps, "llc": [1.0, 2.0, 3.0 + shift], "mcse": 0.5}),
            "behaviour": pd.DataFrame({"step": steps, "loss": [5.0, 4.0, 3.0]})})

    class Run(SimpleNamespace):
        def __getitem__(self, name):
            return self.tables[name]

    runs = [Run(**vars(run(seed, 2.0 * seed))) for seed in (0, 1)]
    assert page.joined(runs).shape == (6, 5)
    assert page.spread(runs).tolist() == [0.0, 0.0, pytest.approx(2**0.5)]
    assert page.seeds_description(runs).startswith("laptop preset, seeds 0, 1: a model a twentieth")


def test_a_larger_preset_shows_the_laptop_s_seeds():
    assert {run.manifest["preset"] for run in page.seeds_shown("published", 0)} == {"laptop"}


def test_a_number_of_the_spring_s_is_in_proportion_to_nbeta():
    rows = pd.DataFrame({"step": 5, "ratio": [0.1, 0.1, 0.1, 1.0], "start": ["w0"] * 4,
                         "nbeta": [2.0, 20.0, 200.0, 2.0], "llc": [0.3, 3.0, 15.0, 9.0]})
    found, = page.proportions(rows).to_dict("records")
    assert found == pytest.approx({"step": 5, "nbeta 2": 1, "nbeta 20": 1, "nbeta 200": 0.5})
