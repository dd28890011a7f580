"""Products, trace, eigenvalues and spectral density against dense matrices and exact answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

from companion import presets
from companion.checkpoint_rows import density_rows, hessian_row
from devlib import hessian
from devlib.errors import UserError
from devlib.hessian import (
    Density,
    Eigenpairs,
    Hessian,
    lanczos,
    random_signs,
    spectral_density,
    top_eigenpairs,
    trace,
)
from devlib.regression.model import RegressionTransformer, per_sample_loss
from devlib.regression.task import sample_contexts
from devlib.rng import generator
from devlib.sampling.model import Layout
from devlib.settings import HessianSettings, RegressionModel, RegressionTask
from tests.plain_twin import PlainTransformer

PROPERTY = settings(max_examples=15, deadline=None, derandomize=True, database=None)


def network(inputs=3, width=4, samples=9, dtype=torch.float64):
    """(loss, params, data) of a tanh network near a minimum; its Hessian has both signs."""
    gen = generator(0, "network")

    def normal(*shape):
        return torch.randn(*shape, generator=gen, dtype=torch.float64).to(dtype)

    def predict(params, xs):
        return torch.tanh(xs @ params["in"].T + params["bias"]) @ params["out"]

    def loss(params, batch):
        xs, ys = batch
        return (predict(params, xs) - ys) ** 2

    params = {"out": normal(width), "in": normal(width, inputs), "bias": normal(width)}
    xs = normal(samples, inputs)
    return loss, params, (xs, predict(params, xs) + 0.3 * normal(samples))


def transformer(model, task, contexts, dtype=torch.float64):
    """(module, params, data) of a regression transformer away from its initialisation."""
    torch.manual_seed(0)
    module = RegressionTransformer(model, task).to(dtype)
    for p in module.parameters():
        p.data += 0.3 * torch.randn_like(p)
    params = {name: p.detach() for name, p in module.named_parameters()}
    data = sample_contexts(generator(0, "tests"), contexts, task)
    return module, params, tuple(part.to(dtype) for part in data)


def tiny_transformer():
    module, params, data = transformer(
        RegressionModel(layers=1, heads=1, embed_dim=2, mlp_dim=3), RegressionTask(1, 2), 4)
    return per_sample_loss(module), params, data


def dense(loss, params, data) -> np.ndarray:
    """The whole Hessian by torch, in the order of Layout."""
    layout = Layout.of(params)
    return torch.func.hessian(lambda w: loss(layout.unflatten(w), data).mean())(
        layout.flatten(params)).numpy()


def matrix(spectrum, seed=0) -> np.ndarray:
    """A symmetric matrix with this spectrum, in random directions."""
    gen = np.random.default_rng(seed)
    q, _ = np.linalg.qr(gen.standard_normal((len(spectrum),) * 2))
    return q * spectrum @ q.T


def near(a, b, units=1e3):
    """Equal within so many roundings of the largest entry."""
    np.testing.assert_allclose(a, b, rtol=0, atol=units * 2.3e-16 * np.abs(b).max())


# Two steep directions, a bulk, and one negative eigenvalue larger than all but one.
SPECTRUM = np.array([50.0, 20.0, *np.linspace(2, 0, 60), -30.0])


# -------------------------------------------------------------------------------------- products


@pytest.mark.parametrize("keep_graph", [False, True])
@pytest.mark.parametrize("problem", [network, tiny_transformer])
def test_products_are_those_of_the_dense_hessian(problem, keep_graph):
    loss, params, data = problem()
    exact = dense(loss, params, data)
    assert np.linalg.eigvalsh(exact)[0] < 0 < np.linalg.eigvalsh(exact)[-1]
    operator = Hessian(loss, params, data, keep_graph=keep_graph)
    assert operator.shape == exact.shape
    vectors = np.random.default_rng(0).standard_normal((len(exact), 4))
    near(operator @ vectors, exact @ vectors, 1e4)
    assert operator.products == 4
    assert np.array_equal(operator.T @ vectors, operator @ vectors)  # symmetric


@given(inputs=st.integers(1, 4), width=st.integers(1, 4), samples=st.integers(1, 9),
       microbatch=st.integers(1, 10), keep_graph=st.booleans())
@PROPERTY
def test_any_shape_and_any_slices(inputs, width, samples, microbatch, keep_graph):
    problem = network(inputs, width, samples)
    exact = dense(*problem)
    operator = Hessian(*problem, microbatch=microbatch, keep_graph=keep_graph)
    assert operator.shape == exact.shape
    v = np.random.default_rng(0).standard_normal((len(exact), 2))
    near(operator @ v, exact @ v, 1e4)


def test_a_loss_without_curvature_has_a_hessian_of_zeros():
    data = (torch.tensor([1.0, 2.0, 4.0]),)
    operator = Hessian(lambda params, batch: batch[0] * params["w"], {"w": torch.zeros(1)}, data,
                       microbatch=2, keep_graph=True)
    assert (operator @ np.ones(1)).tolist() == [0.0]


def linear(params, batch):
    return batch[0] @ params["w"]


def dead(params, batch):
    """A network whose ReLUs are all off."""
    return (torch.relu(batch[0] * params["w"] - 100).sum(-1) - 1) ** 2


OUTSIDE = torch.linspace(1, 2, 6, dtype=torch.float64, requires_grad=True)


def reached_from_outside(params, batch):
    """Linear in w, with a slope that is a function of something else."""
    return batch[0] @ (params["w"] * OUTSIDE)


@pytest.mark.parametrize("keep_graph", [False, True])
@pytest.mark.parametrize("loss", [linear, dead, reached_from_outside])
def test_a_hessian_of_zeros_has_zeros_for_all_that_is_read_off_it(loss, keep_graph):
    problem = (loss, {"w": torch.ones(6, dtype=torch.float64)},
               (torch.arange(18, dtype=torch.float64).reshape(3, 6),))
    row = hessian_row(*problem, SMALL, 0, keep_graph=keep_graph)
    assert {row[name] for name in row if name not in ("probes", "products")} == {0.0}
    pairs = top_eigenpairs(Hessian(*problem, keep_graph=keep_graph), 5, generator(0, "start"))
    np.testing.assert_array_equal(pairs.values, np.zeros(5))
    np.testing.assert_array_equal(pairs.vectors.T @ pairs.vectors, np.eye(5))
    assert {one["node"] for one in density_rows(*problem, SMALL, 0, keep_graph=keep_graph)} == {0.0}


def test_a_search_that_arpack_cannot_make_is_one_line():
    operator = aslinearoperator(np.full((20, 20), np.nan))
    with pytest.raises(UserError, match=r"the search for eigenvalues failed .*finite"):
        top_eigenpairs(operator, 3, generator(0, "start"))


def test_products_at_the_paper_s_size():
    """Against torch's own product through nn.MSELoss, and against a difference quotient of plain
    gradients, which differentiates nothing twice."""
    module, params, (xs, ys) = transformer(RegressionModel(), RegressionTask(), 6)
    layout = Layout.of(params)

    def mean(w):
        predicted = torch.func.functional_call(module, layout.unflatten(w), (xs, ys))
        return torch.nn.functional.mse_loss(predicted, ys)

    w = layout.flatten(params)
    v = torch.randn(51_717, generator=generator(0, "v"), dtype=torch.float64)
    found = Hessian(per_sample_loss(module), params, (xs, ys), microbatch=4) @ v.numpy()
    near(found, torch.autograd.functional.hvp(mean, w, v)[1].numpy(), 1e4)

    def gradient(t):
        at = (w + t * v).requires_grad_()
        return torch.autograd.grad(mean(at), at)[0]

    t = 1e-7  # near enough that no ReLU switches; the gradients' rounding is divided by it
    quotient = (gradient(t) - gradient(-t)) / (2 * t)
    near(found, quotient.numpy(), 10 / t)


def test_products_through_torch_s_own_layers():
    """The plain twin's LayerNorm, softmax and ReLU are fused kernels with derivatives of their
    own; some ways of differentiating them twice are wrong."""
    model, task = RegressionModel(heads=2, embed_dim=8, mlp_dim=8), RegressionTask(2, 3)
    module, params, data = transformer(model, task, 5)
    twin = PlainTransformer(model, task).double()
    v = np.random.default_rng(0).standard_normal(sum(p.numel() for p in params.values()))
    found, expected = (Hessian(per_sample_loss(m), params, data) @ v for m in (twin, module))
    near(found, expected, 1e4)


@pytest.mark.slow
def test_compiled_products_equal_eager_ones():
    module, params, data = transformer(RegressionModel(), RegressionTask(), 64, torch.float32)
    loss, v = per_sample_loss(module), random_signs(51_717, generator(0, "v"))
    exact = Hessian(per_sample_loss(module.double()), {k: p.double() for k, p in params.items()},
                    tuple(part.double() for part in data)) @ v
    eager, compiled = (Hessian(loss, params, data, microbatch=32, compile=c) @ v
                       for c in (False, True))
    off = [np.abs(product - exact).max() for product in (eager, compiled)]
    assert off[0] < 1e-5 * np.abs(exact).max() and off[1] < 4 * off[0]


# ----------------------------------------------------------------------------------- eigenvalues


def test_eigenvalues_are_the_largest_signed_ones():
    loss, params, data = network()
    exact = np.linalg.eigvalsh(dense(loss, params, data))[::-1]
    operator = Hessian(loss, params, data)
    found = top_eigenpairs(operator, 5, generator(0, "start"), tolerance=1e-10)
    np.testing.assert_allclose(found.values, exact[:5], rtol=1e-9)
    near(found.vectors.T @ found.vectors, np.eye(5), 1e6)
    assert (found.residuals(operator) <= 1e-9 * exact[0]).all()
    assert found.residuals(operator, 2).shape == (2,)


@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-4])
def test_no_eigenvalue_is_farther_than_its_residual(tolerance):
    operator = aslinearoperator(matrix(SPECTRUM))
    found = top_eigenpairs(operator, 6, generator(0, "start"), tolerance)
    residuals = found.residuals(operator)
    assert (residuals <= tolerance * found.values).all()
    distance = np.abs(found.values[:, None] - SPECTRUM).min(1)
    assert (distance <= residuals + 1e-12).all()


# ----------------------------------------------------------------------------------------- trace


@pytest.mark.parametrize("pairs", [0, 2, 5])
def test_trace_is_unbiased_and_its_error_is_right(pairs):
    """Over many runs. Pairs that are far from exact, those of another matrix, do not bias it."""
    operator = aslinearoperator(matrix(SPECTRUM))
    other = np.linalg.eigh(matrix(SPECTRUM) + 0.3 * matrix(SPECTRUM, seed=1))
    known = Eigenpairs(other.eigenvalues[::-1][:pairs], other.eigenvectors[:, ::-1][:, :pairs])
    runs, probes = 200, 30
    found = [trace(operator, generator(run, "probes"), known=known if pairs else None,
                   precision=1e-9, most=probes) for run in range(runs)]
    means, errors = np.array([(run.mean, run.se) for run in found]).T
    assert abs(means.mean() - SPECTRUM.sum()) < 4 * means.std() / runs**0.5
    # a variance from so many normal values has the relative error sqrt(2 / runs)
    assert abs(np.mean(errors**2) / means.var() - 1) < 4 * (2 / runs) ** 0.5


def test_trace_of_the_network_is_the_dense_one():
    loss, params, data = network()
    exact, operator = dense(loss, params, data), Hessian(loss, params, data)
    known = top_eigenpairs(operator, 5, generator(0, "start"))
    for pairs in (None, known):
        found = trace(operator, generator(0, "probes"), known=pairs, precision=0.05)
        assert found.se <= 0.05 * abs(found.mean) and 10 <= found.probes < 400
        assert abs(found.mean - np.trace(exact)) < 4 * found.se


def test_known_pairs_leave_the_variance_of_the_rest():
    """With exact pairs the error is that of the matrix without those eigenvalues."""
    whole, bulk = matrix(SPECTRUM), matrix(np.where(SPECTRUM > 10, 0, SPECTRUM))
    values, vectors = np.linalg.eigh(whole)
    known = Eigenpairs(values[::-1][:2], vectors[:, ::-1][:, :2])
    settings = {"precision": 1e-9, "most": 50}
    less = trace(aslinearoperator(whole), generator(0, "probes"), known=known, **settings)
    rest = trace(aslinearoperator(bulk), generator(0, "probes"), **settings)
    assert less.se == pytest.approx(rest.se, rel=1e-9)
    assert less.mean == pytest.approx(rest.mean + 70, rel=1e-9)


def test_a_diagonal_hessian_needs_no_more_than_the_least_probes():
    """z.H z is the trace itself for random signs."""
    curvatures = torch.linspace(-1, 5, 20, dtype=torch.float64)

    def loss(params, batch):
        return (curvatures * params["w"] ** 2).sum() / 2 * batch[0]

    operator = Hessian(loss, {"w": torch.ones(20, dtype=torch.float64)},
                       (torch.ones(3, dtype=torch.float64),))
    found = trace(operator, generator(0, "probes"), precision=1e-9)
    assert found.mean == pytest.approx(40, rel=1e-12)
    assert found.se < 1e-12 and found.probes == operator.products == 10
    pairs = top_eigenpairs(operator, 4, generator(0, "start"), 1e-8)
    np.testing.assert_allclose(pairs.values, curvatures.numpy()[:-5:-1], rtol=1e-9)


def test_the_same_probes_at_two_points():
    """A multiple of the unit matrix shifts the estimate exactly and leaves its error alone."""
    one, two = (trace(aslinearoperator(matrix(SPECTRUM) + shift * np.eye(len(SPECTRUM))),
                      generator(3, "probes"), precision=1e-9, most=20) for shift in (0.0, 2.5))
    assert two.mean - one.mean == pytest.approx(2.5 * len(SPECTRUM), rel=1e-9)
    assert two.se == pytest.approx(one.se, rel=1e-9)


def test_the_precision_that_cannot_be_reached_stops_at_the_most():
    """A trace of 0 has no relative error."""
    operator = aslinearoperator(matrix(np.array([1.0, -1.0] * 20)))
    found = trace(operator, generator(0, "probes"), most=25)
    assert found.probes == 25 and abs(found.mean) < 4 * found.se


# --------------------------------------------------------------------------------------- density


def test_a_probe_s_masses_have_the_moments_of_its_measure():
    """Gauss quadrature: exact up to the moment 2 steps - 1."""
    exact, steps = matrix(SPECTRUM / 50), 6
    start = random_signs(len(exact), generator(0, "density"))
    found = spectral_density(aslinearoperator(exact), generator(0, "density"), probes=1,
                             steps=steps)
    assert len(found.nodes) == steps
    power = start / len(start)
    for j in range(2 * steps):
        assert found.weights @ found.nodes**j == pytest.approx(start @ power, abs=1e-13)
        power = exact @ power


def test_density_of_the_network():
    loss, params, data = network(samples=20)
    exact, operator = dense(loss, params, data), Hessian(loss, params, data)
    probes, size = 30, len(exact)
    found = spectral_density(operator, generator(0, "density"), probes=probes, steps=8)
    assert operator.products == len(found.nodes) == 8 * probes
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    mean = found.weights @ found.nodes
    same = trace(operator, generator(0, "density"), precision=1e-9, most=probes)
    assert mean * size == pytest.approx(same.mean, rel=1e-9)
    assert abs(same.mean - np.trace(exact)) < 4 * same.se
    points = np.linspace(found.nodes.min() - 3, found.nodes.max() + 3, 20_001)
    density = found.smoothed(points, 0.3)
    assert np.trapezoid(density, points) == pytest.approx(1, abs=1e-9)
    assert np.trapezoid(points * density, points) == pytest.approx(mean, rel=1e-6)


def test_smoothed_is_a_sum_of_gaussians():
    density = Density(np.array([0.0, 2.0]), np.array([0.25, 0.75]))
    value = (0.25 * math.exp(-0.5) + 0.75 * math.exp(-0.5)) / math.sqrt(2 * math.pi)
    assert density.smoothed([1.0], 1.0) == pytest.approx([value])


@pytest.mark.parametrize("values", [(0.0,), (3.0,), (-1.0, 4.0), (0.0, 2.0, 5.0)])
def test_few_distinct_eigenvalues_are_found_exactly(values):
    """The Krylov basis is complete after as many steps, and Lanczos stops there."""
    spectrum = np.repeat(values, 12)
    exact = matrix(spectrum)
    found = spectral_density(aslinearoperator(exact), generator(0, "density"), probes=1, steps=30)
    np.testing.assert_allclose(found.nodes, values, atol=1e-12)
    start, (_, vectors) = random_signs(len(exact), generator(0, "density")), np.linalg.eigh(exact)
    shares = (vectors.T @ start).reshape(len(values), 12) ** 2 / len(exact)
    np.testing.assert_allclose(found.weights, shares.sum(1), atol=1e-12)


def test_lanczos_to_the_end_has_the_whole_spectrum():
    diagonal, beside = lanczos(aslinearoperator(matrix(SPECTRUM)), np.ones(len(SPECTRUM)), 100)
    tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    near(np.linalg.eigvalsh(tridiagonal), np.sort(SPECTRUM))


# ------------------------------------------------------------------------------------------ rows


SMALL = HessianSettings(eigenvalues=3, pairs=4, precision=0.1, most_probes=30, density_probes=2,
                        density_steps=5)


def test_a_row_holds_what_its_parts_give():
    problem = network(dtype=torch.float32)
    exact = dense(*network())
    row = hessian_row(*problem, SMALL, 1, microbatch=4)
    assert list(row) == ["trace", "trace_se", "probes", "eig_1", "residual_1", "eig_2",
                         "residual_2", "eig_3", "residual_3", "products"]
    assert all(type(value) in (int, float) for value in row.values())  # what JSON can hold
    assert abs(row["trace"] - np.trace(exact)) < 4 * row["trace_se"]
    eigenvalues = np.linalg.eigvalsh(exact)[::-1]
    for i in (1, 2, 3):
        assert abs(row[f"eig_{i}"] - eigenvalues[i - 1]) <= row[f"residual_{i}"] + 1e-5
        assert row[f"residual_{i}"] <= SMALL.tolerance * row[f"eig_{i}"]
    assert row == hessian_row(*problem, SMALL, 1, microbatch=4)
    assert row["trace"] != hessian_row(*problem, SMALL, 2, microbatch=4)["trace"]


def test_density_rows():
    problem = network()
    rows = density_rows(*problem, SMALL, 1)
    found = spectral_density(Hessian(*problem), generator(1, "hessian", "density"), probes=2,
                             steps=5)
    assert [row["node"] for row in rows] == found.nodes.tolist()
    assert [row["weight"] for row in rows] == found.weights.tolist()


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_settings_that_can_be_computed(preset):
    ours = presets.get(preset).hessian
    assert ours.eigenvalues <= ours.pairs and ours.most_probes > 1


def test_numbers_of_b5():
    assert presets.PAPER.hessian.samples == 1024


# ---------------------------------------------------------------------------------------- errors


def test_losses_that_are_not_finite():
    loss, params, data = network()
    broken = params | {"in": torch.full_like(params["in"], torch.nan)}
    operator = Hessian(loss, broken, data)
    with pytest.raises(UserError, match="the Hessian is not finite"):
        hessian_row(loss, broken, data, SMALL, 0)
    with pytest.raises(UserError, match="the Hessian is not finite"):
        trace(operator, generator(0, "probes"))


def test_a_slope_without_bound():
    """sqrt at 0: the loss is finite, its derivatives are not."""
    def loss(params, batch):
        return params["w"].abs().sqrt().sum() * batch[0]

    with pytest.raises(UserError, match="not finite"):
        Hessian(loss, {"w": torch.zeros(3)}, (torch.ones(2),)) @ np.ones(3)


@pytest.mark.parametrize("count", [20, 21, 10**6])
def test_more_eigenvalues_than_there_are(count):
    operator = aslinearoperator(np.eye(20))
    with pytest.raises(UserError, match=f"20 parameters have 19 .*, not {count}: ask for fewer"):
        top_eigenpairs(operator, count, generator(0, "start"))


def test_eigenvalues_that_do_not_converge(monkeypatch):
    monkeypatch.setattr(hessian, "RESTARTS", 1)
    operator = aslinearoperator(matrix(np.linspace(1, 1.1, 300)))
    with pytest.raises(UserError, match="of 3 eigenvalues converged: ask for fewer, or take"):
        top_eigenpairs(operator, 3, generator(0, "start"), tolerance=1e-15)


def test_no_samples():
    loss, params, (xs, ys) = network()
    with pytest.raises(UserError, match="data must be tensors of one length above 0"):
        Hessian(loss, params, (xs[:0], ys[:0]))


def test_a_loss_of_the_whole_batch():
    loss, params, data = network()
    with pytest.raises(UserError, match="one value a sample"):
        Hessian(lambda params, batch: loss(params, batch).mean(), params, data)


@pytest.mark.parametrize(("call", "match"), [
    (lambda h, g: Hessian(*network(), microbatch=0), "microbatch must be a whole number of 1"),
    (lambda h, g: top_eigenpairs(h, 0, g), "count must be a whole number of 1"),
    (lambda h, g: top_eigenpairs(h, 2, g, tolerance=0), "tolerance must be a finite number"),
    (lambda h, g: trace(h, g, precision=0), "precision must be a finite number, above 0"),
    (lambda h, g: trace(h, g, most=1), "most must be a whole number of 2 or more"),
    (lambda h, g: spectral_density(h, g, probes=0, steps=3), "probes must be a whole number of 1"),
    (lambda h, g: spectral_density(h, g, probes=1, steps=0), "steps must be a whole number of 1")])
def test_settings_out_of_range(call, match):
    with pytest.raises(UserError, match=match):
        call(aslinearoperator(np.eye(5)), generator(0, "start"))
