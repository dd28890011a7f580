"""The metrics of Appendix D: each against a case done by hand."""

import math

import pytest
import torch

from companion.claims.table_rows import classify
from devlib.regression.metrics import (
    CHUNK,
    alignment,
    attention_entropy,
    attention_variability,
    behaviour,
    collapsed,
    effective_unembedding,
    explained,
    heads,
    icl_scores,
    layer_norms,
    out_of_distribution,
    predict,
    prior_distances,
    structure,
)
from devlib.regression.model import build_model
from devlib.regression.task import fixed_set, sample_contexts
from devlib.rng import generator
from devlib.settings import RegressionMetrics, RegressionModel, RegressionSettings, RegressionTask

SETTINGS = RegressionSettings(task=RegressionTask(task_dim=2, examples=4),
                              model=RegressionModel(embed_dim=8, mlp_dim=8, heads=2))
METRICS = RegressionMetrics(samples=700, ood_samples=300, attention_samples=40,
                                    gains=(3.0, 10.0))


class Oracle(torch.nn.Module):
    """Predicts scale * x . (1, ..., 1), whatever the parameters."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, xs, ys):
        return self.scale * xs.sum(-1)


@pytest.fixture(scope="module")
def model():
    return build_model(SETTINGS, seed=3)


@pytest.fixture(scope="module")
def params(model):
    return {name: value.detach() for name, value in model.named_parameters()}


# ------------------------------------------------------------------------------------- behaviour


def test_predictions_in_chunks_are_those_at_once(model, params):
    xs, ys = fixed_set(0, "chunks", CHUNK + 77, SETTINGS.task)
    with torch.no_grad():
        torch.testing.assert_close(predict(model, params, xs, ys), model(xs, ys).double())


def test_icl_scores_compare_the_ends_with_the_middle():
    errors = torch.tensor([[4.0, 9, 9, 2, 9, 9, 9, 1], [6.0, 9, 9, 2, 9, 9, 9, 2]],
                          dtype=torch.float64)
    early, late = icl_scores(errors)  # (2 - 4, 2 - 6) and (1 - 2, 2 - 2)
    assert early == (-3.0, 1.0) and late == (-0.5, 0.5)


def test_the_zero_predictor_far_out_has_the_variance_of_the_targets():
    """E y^2 / g^2 = D + sigma^2 / g^2, for inputs and for tasks alike, and it outputs nothing."""
    samples, task = 20_000, SETTINGS.task
    for family in ("input_gain", "task_gain"):
        for gain in (3.0, 100.0):
            for variance in (None, 0.5):
                (mse, se), scale = out_of_distribution(
                    Oracle(0.0), {}, SETTINGS, 0, samples, noise_variance=variance,
                    **{family: gain})
                noise = task.noise_variance if variance is None else variance
                assert abs(mse - task.task_dim - noise / gain**2) < 4 * se < 0.4
                assert scale == (0.0, 0.0)


def test_output_scale_follows_the_gain_of_the_inputs_alone():
    """x . 1 has variance D g^2 where inputs are scaled, D where tasks are."""
    for gain in (3.0, 10.0):
        _, (inputs, se) = out_of_distribution(Oracle(), {}, SETTINGS, 1, 20_000, input_gain=gain)
        assert abs(inputs - 2) < 4 * se < 0.2
        _, (tasks, se) = out_of_distribution(Oracle(), {}, SETTINGS, 1, 20_000, task_gain=gain)
        assert abs(tasks - 2 / gain**2) < 4 * se


def test_distances_to_zero_and_to_the_task_prior():
    xs, ys = fixed_set(0, "prior", 20_000, SETTINGS.task)
    tasks = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # mean (1, 1): the oracle is the prior
    zero, prior = prior_distances(Oracle(), {}, xs, ys, tasks)
    assert abs(zero[0] - 2) < 4 * zero[1] and prior[0] < 1e-12
    zero, prior = prior_distances(Oracle(0.5), {}, xs, ys, tasks)
    assert zero == pytest.approx(prior)


def test_behaviour_row_puts_the_pieces_together(model, params):
    row = behaviour(model, params, SETTINGS, METRICS, seed=5)
    (mse, se), (scale, _) = out_of_distribution(model, params, SETTINGS, 5, 300, task_gain=10.0)
    assert (row["ood_task_10"], row["ood_task_10_se"], row["scale_task_10"]) == (mse, se, scale)
    for suffix, variance in (("", 0.125), ("_slip", 0.125**2)):
        xs, ys = sample_contexts(generator(5, "behaviour"), 700, SETTINGS.task,
                                 noise_variance=variance)
        early, late = icl_scores((predict(model, params, xs, ys) - ys) ** 2)
        assert (row["icl_early" + suffix], row[f"icl_late{suffix}_se"]) == (early[0], late[1])
    assert {"ood_input_3", "ood_input_10_se", "scale_input_3_se"} <= row.keys()
    assert row["icl_early_se"] > 0
    assert row == behaviour(model, params, SETTINGS, METRICS, seed=5)
    assert row != behaviour(model, params, SETTINGS, METRICS, seed=6)


# ------------------------------------------------------------------------------------- structure


def test_explained_variance_of_a_diagonal():
    weight = torch.zeros(5, 3)
    weight[0, 1], weight[3, 0], weight[4, 2] = 1.0, -2.0, 2.0
    torch.testing.assert_close(explained(weight).float(), torch.tensor([4, 4, 1]) / 9)


def test_alignment_is_the_cosine_of_the_angle_between_planes():
    angle = 0.3
    a = torch.eye(4)[:, :2] @ torch.tensor([[1.0, 2.0], [0.0, 3.0]])  # still the plane e1, e2
    b = torch.tensor([[1.0, 0.0], [0.0, math.cos(angle)], [0.0, math.sin(angle)], [0.0, 0.0]])
    torch.testing.assert_close(alignment(a, b).float(), torch.tensor([1.0, math.cos(angle)]))
    torch.testing.assert_close(alignment(a, torch.eye(4)[:, 2:]).float(), torch.zeros(2))


def test_effective_unembedding_is_the_models_read_out(model, params):
    params = params | {"unembed_ln.weight": torch.linspace(-1, 1, 8),
                       "unembed_ln.bias": torch.linspace(0, 2, 8)}
    weights, bias = effective_unembedding(params)
    stream = torch.randn(8, generator=torch.Generator().manual_seed(0))
    normalised = (stream - stream.mean()) / (stream.var(unbiased=False) + 1e-5).sqrt()
    plain = torch.nn.functional.layer_norm(stream, (8,), params["unembed_ln.weight"],
                                           params["unembed_ln.bias"])
    expected = params["unembed.weight"] @ plain + params["unembed.bias"]
    assert float(weights @ normalised.double() + bias) == pytest.approx(float(expected[0]),
                                                                        rel=1e-5)


def test_structure_row(params):
    changed = params | {"unembed_ln.weight": torch.tensor([0.0, 0.05, -0.09, 0.11, 1, 1, -1, 1])}
    row = structure(changed, METRICS)
    assert layer_norms(params) == ["blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2",
                                   "unembed_ln"]
    assert row["unembed_ln_collapsed"] == 3 / 8 and row["blocks.0.ln1_collapsed"] == 0
    assert row["unembed_ln_weight_mean"] == pytest.approx(2.07 / 8, rel=1e-6)
    assert sum(row[f"embed_{i}"] for i in (1, 2, 3)) == pytest.approx(1)
    assert sum(row[f"position_{i}"] for i in range(1, 9)) == pytest.approx(1)
    assert row["cosine_1"] >= row["cosine_3"] >= 0 and "cosine_4" not in row
    weights, bias = effective_unembedding(changed)
    assert row["effective_collapsed"] == float(collapsed(weights, 0.1)) >= 3 / 8
    assert row["effective_bias"] == float(bias)


# ------------------------------------------------------------------------------------- attention


def uniform(tokens):
    """Every query attends evenly to all it may see."""
    return torch.ones(tokens, tokens).tril() / torch.arange(1, tokens + 1)[:, None]


def test_entropy_is_one_where_even_and_nought_where_hard():
    torch.testing.assert_close(attention_entropy(uniform(7)), torch.ones(6))
    torch.testing.assert_close(attention_entropy(torch.eye(7)), torch.zeros(6))
    half = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0], [0.5, 0, 0, 0.5]])
    torch.testing.assert_close(attention_entropy(half)[-1], torch.tensor(0.5))  # 1 bit of 2


def test_variability_counts_what_moves_between_contexts():
    still = uniform(3).expand(4, 2, 3, 3)  # (B, H, T, T)
    torch.testing.assert_close(attention_variability(still), torch.zeros(2, 3))
    swaps = torch.stack([torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]]),
                         torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])])
    torch.testing.assert_close(attention_variability(swaps), torch.tensor([0.0, 0.5, 0.0]))


class Patterns(torch.nn.Module):
    """A model whose attention is known: two blocks of two heads, the same in every context."""

    def __init__(self, patterns):
        super().__init__()
        self.patterns = patterns  # (L, H, T, T)

    def attention(self, xs, ys):
        return self.patterns[:, None].expand(-1, len(xs), -1, -1, -1)


def pattern(targets):
    """Query k attends to token targets[k] alone."""
    return torch.eye(len(targets))[targets]


def test_head_rows_of_known_patterns():
    tokens = 7  # x1 y1 x2 y2 x3 y3 x4
    last_x, last_y = [0, 0, 0, 2, 2, 4, 4], [0, 0, 1, 1, 3, 3, 5]
    known = Patterns(torch.stack([
        torch.stack([torch.eye(tokens), pattern([0, 0, 1, 2, 3, 4, 5])]),
        torch.stack([pattern(last_x), uniform(tokens)])]))
    rows = {(r["block"], r["head"], r["part"]): r
            for r in heads(known, {}, SETTINGS, METRICS, seed=0)}
    assert len(rows) == 8
    kind = {key: classify(row, METRICS) for key, row in rows.items()}
    assert kind[1, 1, "x"] == kind[1, 1, "y"] == "self"
    assert kind[1, 2, "x"] == kind[1, 2, "y"] == "previous token"
    assert kind[2, 1, "x"] == "previous x" and kind[2, 1, "y"] == "previous token"
    assert kind[2, 2, "x"] == kind[2, 2, "y"] == "-"
    even = rows[2, 2, "x"]  # queries x2, x3, x4 see 3, 5, 7 tokens, of them 1, 2, 3 y
    assert even["entropy"] == pytest.approx(1) and even["variability"] == pytest.approx(0)
    assert even["y"] == pytest.approx((1 / 3 + 2 / 5 + 3 / 7) / 3)
    assert even["x"] == pytest.approx(1 - even["y"])
    assert even["self"] == even["previous"] == pytest.approx((1 / 3 + 1 / 5 + 1 / 7) / 3)
    only_y = heads(Patterns(pattern(last_y)[None, None]), {}, SETTINGS, METRICS, seed=0)
    assert [classify(row, METRICS) for row in only_y] == ["previous token", "-"]


def test_a_head_that_wanders_is_of_no_kind():
    row = {"variability": 0.3, "self": 0.0, "previous": 0.95, "x": 0.0, "y": 1.0}
    assert classify(row, METRICS) == "-"
    assert classify(row | {"variability": 0.05}, METRICS) == "previous token"


def test_head_rows_of_a_model_are_those_of_its_attention(model, params):
    rows = heads(model, params, SETTINGS, METRICS, seed=2)
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        assert row["x"] + row["y"] == pytest.approx(1, abs=1e-5)
        assert 0 <= row["variability"] <= 1 and 0 <= row["entropy"] <= 1 + 1e-6
    assert rows == heads(model, params, SETTINGS, METRICS, seed=2)
