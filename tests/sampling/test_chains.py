"""Chains: the update itself, its invariances, bad inputs, divergence, and files of draws."""

import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from llc_gates import assert_within, estimate

from companion.known.answers import quadratic_chain_mean
from companion.known.potentials import LinearNetwork, MeanModel, quadratic
from devlib.errors import UserError
from devlib.llc import estimate_llc
from devlib.sampling import SGLD, ChainDiverged, Chains, RMSpropSGLD, sample_chains, sgld_step
from devlib.sampling.draws import Draws, import_arviz
from devlib.sampling.streams import Random

PLAIN = SGLD(eps=1e-2, nbeta=10.0, gamma=1.0)
RMS = RMSpropSGLD(eps=1e-3, nbeta=10.0, gamma=1.0, decay=0.9)
SAMPLERS = pytest.mark.parametrize("sampler", [PLAIN, RMS], ids=["plain", "rmsprop"])
BATCHES = pytest.mark.parametrize("batch_size", [None, 7])
MODES = pytest.mark.parametrize("vectorised", [False, True], ids=["one by one", "vectorised"])


def regression():
    """(loss, params, data): a linear model with two parameters, neither at a minimum."""
    gen = torch.Generator().manual_seed(0)
    xs, ys = (torch.randn(40, k, generator=gen, dtype=torch.float64) for k in (3, 1))

    def loss(params, batch):
        x, y = batch
        return ((x @ params["weight"] + params["bias"] - y) ** 2)[:, 0]

    params = {"weight": torch.randn(3, 1, generator=gen, dtype=torch.float64),
              "bias": torch.zeros(1, dtype=torch.float64)}
    return loss, params, (xs, ys)


def run(problem=None, sampler=PLAIN, **settings) -> Draws:
    settings = {"chains": 3, "draws": 50, "burn_in": 0, "seed": 5, "vectorised": False,
                "compile": False, **settings}
    return sample_chains(*(problem or regression()), sampler, **settings)


def near(a, b):
    """Equal up to the rounding of some thousand operations in double precision."""
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


# -------------------------------------------------------------------------------- the update (8)


@BATCHES
def test_equals_a_plain_loop(batch_size):
    """Chain 1 in numpy, one line an operation, from the same batches and noise."""
    loss, params, data = regression()
    draws = run(batch_size=batch_size)
    x, y = (part.numpy() for part in data)
    w0 = np.concatenate([params["bias"].numpy(), params["weight"].numpy()[:, 0]])  # sorted names
    random = Random(Chains(loss, params, data, PLAIN, chains=3, seed=5, batch_size=batch_size,
                           compile=False), [1])
    w = w0.copy()
    for t in range(50):
        indices, noise = random.at(t)
        at = slice(None) if indices is None else indices[0].numpy()

        def error(w, at=at):
            return x[at] @ w[1:] + w[0] - y[at, 0]

        near(draws.losses[1, t], (error(w) ** 2).mean())  # read before the step
        near(draws.baseline[1, t], (error(w0) ** 2).mean())
        near(draws.distances[1, t], ((w - w0) ** 2).sum())
        gradient = 2 * np.append(error(w).mean(), x[at].T @ error(w) / len(error(w)))
        drift = PLAIN.nbeta * gradient + PLAIN.gamma * (w - w0)
        w = w - PLAIN.eps / 2 * drift + PLAIN.eps**0.5 * noise[0].numpy()
    near(draws.init_loss, ((x @ w0[1:] + w0[0] - y[:, 0]) ** 2).mean())
    near(draws.weight_rms, (w0**2).mean() ** 0.5)


@pytest.mark.parametrize("gamma", [0.0, 3.0])
def test_without_noise_it_is_sgd_at_half_the_step(gamma):
    """torch.optim.SGD with lr = eps nbeta / 2; from w0 = 0 localisation is its weight decay."""
    sampler = SGLD(eps=1e-2, nbeta=8.0, gamma=gamma)
    w0, centre = torch.zeros(4, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)
    w, leaf = w0, w0.clone().requires_grad_()
    optimiser = torch.optim.SGD([leaf], lr=sampler.eps * sampler.nbeta / 2,
                                weight_decay=gamma / sampler.nbeta)
    for _ in range(100):
        w = sgld_step(w, w - centre, w0, torch.zeros(4), sampler)
        optimiser.zero_grad()
        ((leaf - centre) ** 2).sum().div(2).backward()
        optimiser.step()
    near(w, leaf.detach())


# ------------------------------------------------------------------------------------ invariances


@SAMPLERS
@BATCHES
def test_vectorised_equals_one_by_one(sampler, batch_size):
    one, all_ = (run(sampler=sampler, batch_size=batch_size, vectorised=v) for v in (False, True))
    near(one.losses, all_.losses)
    near(one.baseline, all_.baseline)
    near(one.distances, all_.distances)


@MODES
@BATCHES
def test_a_chain_does_not_depend_on_how_many_run(vectorised, batch_size):
    few, many = (run(chains=c, vectorised=vectorised, batch_size=batch_size) for c in (2, 5))
    if vectorised:  # matrix products of another size may round differently
        near(few.losses, many.losses[:2])
    else:
        assert np.array_equal(few.losses, many.losses[:2])
    assert len(np.unique(many.losses[:, -1])) == 5  # and no two are the same


@MODES
@SAMPLERS
def test_extended_equals_unbroken(vectorised, sampler, monkeypatch):
    """Bit for bit, across the block length of the random numbers too."""
    monkeypatch.setattr("devlib.sampling.streams.LONGEST_BLOCK", 16)
    chains = Chains(*regression(), sampler, chains=2, seed=1, batch_size=3, vectorised=vectorised,
                    compile=False)
    for draws in (1, 30, 9, 20):
        chains.extend(draws)
    whole = run(sampler=sampler, chains=2, seed=1, batch_size=3, vectorised=vectorised, draws=60)
    assert np.array_equal(chains.draws(0).losses, whole.losses)
    assert np.array_equal(chains.draws(0).baseline, whole.baseline)
    assert np.array_equal(chains.draws(0).distances, whole.distances)


def test_order_of_the_parameters_does_not_matter():
    loss, params, data = regression()
    turned = dict(reversed(params.items()))
    assert list(turned) != list(params)
    assert np.array_equal(run((loss, turned, data)).losses, run((loss, params, data)).losses)


def test_a_constant_in_the_loss_does_not_matter():
    loss, params, data = regression()

    def higher(params, batch):
        return loss(params, batch) + 100

    plain, shifted = run(), run((higher, params, data))
    np.testing.assert_allclose(shifted.losses - 100, plain.losses, rtol=1e-11, atol=1e-11)
    for baseline in ("same-batch", "whole-set"):
        assert estimate_llc(plain, baseline).mean == pytest.approx(
            estimate_llc(shifted, baseline).mean, rel=1e-10)


@pytest.mark.parametrize("factor", [4.0, 3.0])
def test_units_of_the_loss_do_not_matter(factor):
    """L -> c L with nbeta -> nbeta / c walks the same way."""
    loss, params, data = regression()

    def scaled(params, batch):
        return factor * loss(params, batch)

    other = SGLD(PLAIN.eps, PLAIN.nbeta / factor, PLAIN.gamma)
    near(run((scaled, params, data), other).losses, factor * run().losses)


def test_small_models_run_vectorised():
    """And larger ones, on a CPU, one chain after another."""
    assert Chains(*regression(), PLAIN, chains=2, compile=False).vectorised
    wide = LinearNetwork((50, 40, 50))
    assert not Chains(wide.loss, wide.params, wide.data, PLAIN, chains=2, compile=False).vectorised


@pytest.mark.slow
def test_compiled_equals_plain():
    for options in ({}, {"batch_size": 7}, {"batch_size": 7, "microbatch": 3}):  # slices 3, 3, 1
        near(run(compile=True, **options).losses, run(**options).losses)


@pytest.mark.slow
def test_losses_do_not_use_up_one_anothers_compiled_shapes():
    """torch compiles a function for so many shapes and then runs it plain, without a word."""
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for _ in range(2):  # the loss is another function each time
            run(regression(), compile=True)


def test_a_loss_that_cannot_be_vectorised():
    """It runs one chain after another instead, and says so when asked for more."""
    loss, params, data = regression()

    def branching(params, batch):
        value = loss(params, batch)
        return value if float(params["bias"].detach().sum()) < 1e9 else 2 * value

    problem = (branching, params, data)
    chains = Chains(*problem, PLAIN, chains=2, compile=False)
    assert not chains.vectorised
    assert np.array_equal(run(problem, vectorised=None).losses, run().losses)
    with pytest.raises(RuntimeError):
        run(problem, vectorised=True)


@MODES
def test_a_loss_that_its_parameters_do_not_change(vectorised):
    loss, params, data = regression()
    draws = run((lambda params, batch: batch[1][:, 0] ** 2 + 0 * loss(params, batch), params,
                 data), vectorised=vectorised)
    assert estimate_llc(draws).mean == 0.0


# ------------------------------------------------------------------------------------------ mask


def test_mask_gives_the_restricted_llc():
    """Half the free directions that matter, up to gamma and eps."""
    curvatures = (1.0, 3.0, 5.0, 0.0, 8.0, 0.0)
    toy, free = quadratic(curvatures), torch.tensor([True, False, True, True, False, False])
    sampler = SGLD(eps=5e-3, nbeta=30, gamma=1.0)
    found, _ = estimate(toy, sampler, draws=700, burn_in=200, mask={"w": free})
    left = [h for h, keep in zip(curvatures, free, strict=True) if keep]
    assert_within(found, quadratic_chain_mean(left, sampler))
    assert abs(found.mean - 1) < abs(found.mean - 2)  # 2 without the mask


@MODES
def test_mask_holds_the_rest(vectorised):
    """By name, whole tensors; what is not free keeps w0 and gets no noise."""
    loss, params, data = regression()
    held = {"weight": params["weight"]}

    def bias_only(params, batch):
        return loss({**held, **params}, batch)

    masked = run(mask={"bias": True}, vectorised=vectorised)
    alone = run((bias_only, {"bias": params["bias"]}, data), vectorised=vectorised)
    near(masked.losses, alone.losses)


def test_mask_of_everything_is_no_mask():
    assert np.array_equal(run(mask={"bias": True, "weight": True}).losses, run().losses)


# --------------------------------------------------------------------------- preconditioned SGLD


def test_constant_preconditioner_is_plain_sgld_at_another_step():
    """decay = 1 freezes G at the first gradient; in one dimension that only scales eps."""
    model = MeanModel.make(np.zeros((5, 1)), [2.0], [0.7])
    problem = (model.loss, model.params, model.data)
    scale = 1 / (0.1 + 2 * 0.7)  # 1 / (floor + |gradient|)
    frozen = run(problem, RMSpropSGLD(1e-2, 10.0, 1.0, decay=1.0))
    near(frozen.losses, run(problem, SGLD(1e-2 * scale, 10.0, 1.0)).losses)


def test_preconditioned_sgld_targets_what_plain_sgld_does():
    """An anisotropic quadratic. G stands still after `adapt` draws, and then the chain's exact
    mean is known: each direction has the step eps G."""
    h = np.array([1.0, 10.0, 100.0])
    toy, plain = quadratic(h), SGLD(eps=2e-3, nbeta=20, gamma=1)
    rms = RMSpropSGLD(eps=2e-3, nbeta=20, gamma=1, decay=0.99, floor=1.0, adapt=300)
    chains = Chains(toy.loss, toy.params, toy.data, rms, chains=128, vectorised=True)
    chains.extend(1000)
    scale = rms.scale(chains.state).numpy()  # (C, 3), each chain its own
    assert np.ptp(scale.mean(0)) > 0.4  # it does tell the directions apart
    kappa = rms.nbeta * h + rms.gamma
    reference = (rms.nbeta * h / (kappa * (1 - rms.eps * scale * kappa / 4))).sum(1).mean() / 2
    assert_within(estimate_llc(chains.draws(500)), reference)
    found, _ = estimate(toy, SGLD(1e-3, 20, 1), draws=900, burn_in=400)
    assert_within(found, quadratic_chain_mean(h, SGLD(1e-3, 20, 1)))
    assert quadratic_chain_mean(h, SGLD(1e-6, 20, 1)) == pytest.approx(
        (plain.nbeta * h / kappa).sum() / 2, rel=1e-3)  # what both target


def test_a_window_too_short_is_biased():
    """The limit that the docstring names: a preconditioner that follows the position."""
    toy = quadratic((10.0,))
    target = quadratic_chain_mean((10.0,), SGLD(1e-9, 10, 1))
    found, _ = estimate(toy, RMSpropSGLD(2e-4, 10, 1, decay=0.5, floor=0.1), draws=1500,
                        burn_in=500)
    assert found.ess >= 200
    assert found.mean - target > 4 * found.mcse


# ------------------------------------------------------------------------------------ divergence


def cliff(params, batch):
    """A quadratic with no loss beyond a standard deviation: some chains fall off."""
    w = params["w"]
    return torch.where(w > 0.3, torch.inf, w**2 / 2).sum().expand(len(batch[0]))


def cliff_problem():
    toy = quadratic((1.0,))
    return cliff, toy.params, toy.data


@MODES
def test_divergence_names_chain_and_draw_and_keeps_the_rest(vectorised):
    sound = run((lambda p, b: (p["w"] ** 2 / 2).sum().expand(len(b[0])), *cliff_problem()[1:]),
                chains=8, draws=80)
    with pytest.raises(ChainDiverged) as raised:
        run(cliff_problem(), chains=8, draws=80, vectorised=vectorised)
    draws = raised.value.draws
    assert 0 < len(draws.diverged) < 8
    for chain in range(8):
        where = draws.diverged.get(chain, 80)
        near(draws.losses[chain, :where], sound.losses[chain, :where])
        assert np.isnan(draws.losses[chain, where:]).all()
    chain, draw = next(iter(draws.diverged.items()))
    assert f"chain {chain} at draw {draw}" in str(raised.value)
    assert "smaller eps" in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))  # as it comes back from another process
    assert again.draws.diverged == draws.diverged and str(again) == str(raised.value)


@MODES
def test_diverged_chains_stay_so(vectorised):
    """An extended run equals an unbroken one there too."""
    whole = run(cliff_problem(), chains=8, draws=80, vectorised=vectorised, on_divergence="keep")
    chains = Chains(*cliff_problem(), PLAIN, chains=8, seed=5, vectorised=vectorised,
                    compile=False)
    for _ in range(4):
        chains.extend(20)
    assert 0 < len(whole.diverged) < 8
    assert chains.draws(0).diverged == whole.diverged
    np.testing.assert_array_equal(chains.draws(0).losses, whole.losses)
    found = estimate_llc(whole)
    assert found.diverged == tuple(whole.diverged)
    assert len(found.chain_means) == 8 - len(whole.diverged)


def test_an_unstable_step_diverges():
    toy = quadratic((1.0,))
    with pytest.raises(ChainDiverged, match="chain 0 at draw"):
        run((toy.loss, toy.params, toy.data), SGLD(1.0, 100.0, 0.0), draws=400)
    kept = run((toy.loss, toy.params, toy.data), SGLD(1.0, 100.0, 0.0), draws=400,
               on_divergence="keep", burn_in=None)
    with pytest.raises(UserError, match="every chain diverged"):
        estimate_llc(kept)


def test_zero_loss_at_the_start_is_legal():
    toy = quadratic((1.0,))
    assert run((toy.loss, toy.params, toy.data)).init_loss == 0.0


# ------------------------------------------------------------------------------------ bad inputs


BAD = {
    "chains": ({"chains": 0}, "chains"),
    "chains not whole": ({"chains": 2.5}, "chains"),
    "draws": ({"draws": 0}, "draws"),
    "burn-in negative": ({"burn_in": -1}, "burn_in"),
    "burn-in too long": ({"burn_in": 50}, "burn_in"),
    "batch": ({"batch_size": 0}, "batch_size"),
    "seed": ({"seed": -1}, "seed"),
    "on_divergence": ({"on_divergence": "ignore"}, "on_divergence"),
    "sampler": ({"sampler": 1e-3}, "sampler"),
    "params empty": ({"params": {}}, "params is empty"),
    "params of whole numbers": ({"params": {"w": torch.arange(3)}}, "floating-point"),
    "params of two kinds": ({"params": {"a": torch.zeros(1), "b": torch.zeros(1).double()}},
                            "one dtype"),
    "data bare": ({"data": torch.zeros(4, 2)}, "tuple of tensors"),
    "data empty": ({"data": ()}, "one length"),
    "data without samples": ({"data": (torch.zeros(0, 2),)}, "one length"),
    "data of two lengths": ({"data": (torch.zeros(4), torch.zeros(3))}, "one length"),
    "mask unknown": ({"mask": {"nothing": True}}, "nothing"),
    "mask shape": ({"mask": {"bias": torch.ones(3, dtype=torch.bool)}}, "shape"),
    "mask not boolean": ({"mask": {"bias": torch.ones(1)}}, "boolean"),
    "mask empty": ({"mask": {"bias": False}}, "no parameter free"),
    "mask no dictionary": ({"mask": torch.ones(3)}, "map names"),
    "start": ({"start": "elsewhere"}, "start must be one of w0, prior"),
    "prior without a spring": ({"start": "prior", "sampler": SGLD(1e-3, 10.0, 0.0)},
                               "gamma = 0 gives no prior to start from"),
    "init losses": ({"init_losses": torch.zeros(3)}, "init_losses"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_before_any_work(name):
    changed, words = BAD[name]
    loss, params, data = regression()
    calls = []

    def counting(params, batch):
        calls.append(1)
        return loss(params, batch)

    arguments = {"params": params, "data": data, "sampler": PLAIN, "chains": 2, "draws": 50,
                 "compile": False, **changed}
    with pytest.raises(UserError, match=words):
        sample_chains(counting, **arguments)
    assert not calls


@pytest.mark.parametrize("bad", [
    lambda p, b: ((b[0] @ p["weight"]) ** 2).mean(), lambda p, b: (b[0] @ p["weight"]) ** 2,
    lambda p, b: 1.0])
def test_a_loss_not_by_sample(bad):
    _, params, data = regression()
    with pytest.raises(UserError, match="one value a sample"):
        run((bad, params, data))


def test_a_loss_not_finite_at_the_start():
    _, params, data = regression()
    with pytest.raises(UserError, match="not finite"):
        run((lambda p, b: torch.log(b[1][:, 0] * 0), params, data))


@pytest.mark.parametrize(("kind", "values"), [
    (SGLD, (0.0, 1, 1)), (SGLD, (-1e-3, 1, 1)), (SGLD, (1e-3, 0.0, 1)), (SGLD, (1e-3, 1, -1)),
    (SGLD, (float("nan"), 1, 1)), (SGLD, (1e-3, float("inf"), 1)), (SGLD, ("1e-3", 1, 1)),
    (RMSpropSGLD, (1e-3, 1, 1, 1.5)), (RMSpropSGLD, (1e-3, 1, 1, 0.9, 0.0)),
    (RMSpropSGLD, (1e-3, 1, 1, 0.9, 0.1, 0))])
def test_settings_out_of_range(kind, values):
    with pytest.raises(UserError, match="must be a"):
        kind(*values)


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("burn_in", [0, 10])
@SAMPLERS
def test_draws_come_back_bit_for_bit(tmp_path, sampler, burn_in):
    draws = run(cliff_problem(), sampler, chains=8, draws=40, burn_in=burn_in,
                on_divergence="keep")
    assert draws.diverged
    draws.save(tmp_path / "draws.nc")
    again = Draws.read(tmp_path / "draws.nc")
    for name in ("losses", "baseline", "distances"):
        saved, read = getattr(draws, name), getattr(again, name)
        assert read.dtype == saved.dtype and read.tobytes() == saved.tobytes()
    for name in ("init_loss", "sampler", "burn_in", "batch_size", "seed", "diverged",
                 "weight_rms", "start"):
        assert getattr(again, name) == getattr(draws, name)
    assert [path.name for path in tmp_path.iterdir()] == ["draws.nc"]


def test_arviz_reads_them_and_says_the_same(tmp_path):
    arviz = import_arviz()
    draws = run(batch_size=7, draws=200, burn_in=50)
    draws.save(tmp_path / "draws.nc")
    found = estimate_llc(draws)
    for data in (draws.to_inferencedata(), arviz.from_netcdf(tmp_path / "draws.nc")):
        assert data.warmup_posterior.sizes["draw"] == 50
        assert float(data.posterior.llc.mean()) == pytest.approx(found.mean)
        assert np.asarray(arviz.mcse(data.posterior.llc.values)).item() == pytest.approx(found.mcse)
        assert np.asarray(arviz.rhat(data.posterior.llc.values)).item() == pytest.approx(found.rhat)


def test_no_draws_in_the_file(tmp_path):
    (tmp_path / "other.nc").write_text("not a netCDF file")
    for name in ("other.nc", "absent.nc"):
        with pytest.raises(UserError, match="no draws"):
            Draws.read(tmp_path / name)


def test_arviz_is_imported_without_its_notice(tmp_path, monkeypatch):
    """And with every other warning."""
    (tmp_path / "arviz.py").write_text(
        "import warnings\n"
        "warnings.warn('\\nArviZ is undergoing a major refactor', FutureWarning)\n"
        "warnings.warn('something else', FutureWarning)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "arviz", raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import_arviz()
    monkeypatch.delitem(sys.modules, "arviz")
    assert [str(warning.message) for warning in said] == ["something else"]
