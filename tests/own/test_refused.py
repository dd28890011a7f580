"""Mistakes that would give a number without a word, found by somebody who tried to break the
estimator: each is refused in one line before a draw, or said beside the number."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import BatchSampler, DataLoader, TensorDataset, WeightedRandomSampler

import devlib
from devlib.errors import Interrupted, UserError
from devlib.llc.equilibrium import equilibrium
from devlib.llc.estimate import estimate_llc
from devlib.sampling import Chains, sample_chains
from devlib.sampling.draws import Draws
from devlib.sampling.sgld import SGLD

GEN = torch.Generator().manual_seed(0)
X = torch.randn(512, 4, generator=GEN)
Y = X @ torch.tensor([[1.0, -2.0, 0.5, 0.7]]).T + 0.1 * torch.randn(512, 1, generator=GEN)
LABELS = torch.randint(3, (512,), generator=GEN)
SIGNS = torch.sign(torch.randn(512, generator=GEN))
SIGNS[[0, 1, -1, -2]] = 1.0
MSE = nn.MSELoss()
SHORT = {"cap_draws": 16, "eps": 1e-4}


def line(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 1, bias=False)


STATE = line().state_dict()


class Rounded(nn.Module):
    """Weights rounded forwards, and not backwards: a straight-through estimator."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.9, -1.8, 0.6, 0.8]]))

    def forward(self, x):
        return x @ (self.w + (torch.round(4 * self.w) / 4 - self.w).detach()).T


class Bag(nn.Module):
    """A sum of embeddings, of which the padding's gets no gradient and counts."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(8, 3, padding_idx=0)

    def forward(self, x):
        return self.embed(x).sum(1)


def half_detached(model, batch):
    gap = model(batch[0]) - batch[1]
    return (gap * gap.detach()).sum(1)


TOKENS = torch.randint(8, (512, 6), generator=GEN)
SLOPE, MEAN = "the gradient is not the slope of the loss", "mean over samples"


@pytest.mark.parametrize("model, data, loss, match", [
    (Rounded(), (X, Y), MSE, SLOPE), (Bag(), (TOKENS, torch.zeros(512, 3)), MSE, SLOPE),
    (line(), (X, Y), half_detached, SLOPE),
    (nn.Linear(4, 3), (X, torch.where(LABELS == 0, -100, LABELS)), nn.CrossEntropyLoss(),
     "leaves labels of -100 out"),
    (nn.Linear(4, 3), (X, LABELS), nn.CrossEntropyLoss(weight=torch.ones(3)), "has weights"),
    (line(), (X, Y), nn.MSELoss(reduction="sum"), MEAN),
    (line(), (X, Y), nn.KLDivLoss(reduction="batchmean"), MEAN),
    (line(), DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(
        WeightedRandomSampler(torch.ones(512), 512), 32, False)), MSE, "WeightedRandomSampler"),
    (line(), (X, SIGNS), lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean(1),
     "neighbours"),
    (line(), (X, Y), nn.functional.mse_loss, "the loss cannot be called"),
    (nn.LazyLinear(1), (X, Y), MSE, "lazy parameters"),
    (line(), (X[:1], Y[:1]), MSE, "a single sample")])
def test_it_is_refused(model, data, loss, match):
    with pytest.raises(UserError, match=match):
        devlib.measure(model, data, loss=loss, **SHORT)


@pytest.mark.parametrize("model, data, loss, match", [
    (nn.Linear(4, 3), (X, LABELS.float()), nn.CrossEntropyLoss(), "the loss fails on two samples"),
    (nn.Linear(4, 3), (X, LABELS + 3), nn.CrossEntropyLoss(), "the loss fails on two samples"),
    (nn.Linear(4, 1), (X, LABELS[:, None]), nn.BCEWithLogitsLoss(),
     r"the loss fails on two samples, float32 \(2, 4\), int64 \(2, 1\): "),
    (line(), (X[:, :3], Y), MSE, "the loss fails on two samples"),
    (line(), (torch.where(X > 2, torch.nan, X), Y), MSE, "the loss of w0 is not finite")])
@pytest.mark.parametrize("eps", [None, 1e-4])
def test_a_loss_that_fails_is_one_line(model, data, loss, match, eps):
    with pytest.raises(UserError, match=match) as refused:
        devlib.measure(model, data, loss=loss, cap_draws=16, eps=eps)
    assert "\n" not in str(refused.value) and "give eps" not in str(refused.value)


def test_a_mask_that_names_nothing_and_a_batch_that_is_too_large():
    with pytest.raises(UserError, match=r"the mask names \['q'\]"):
        devlib.measure(line(), (X, Y), loss=MSE, only={"q": True}, cap_draws=16)
    with pytest.raises(UserError, match="batch_size = 600 is more than the 512 samples"):
        devlib.measure(line(), (X, Y), loss=MSE, batch_size=600, **SHORT)


def test_a_compiled_model_is_taken_as_what_it_was():
    model = line()
    found = devlib.measure(torch.compile(model), (X, Y), loss=MSE, **SHORT)
    np.testing.assert_array_equal(
        found.draws.losses, devlib.measure(model, (X, Y), loss=MSE, **SHORT).draws.losses)


@pytest.mark.parametrize("seed", range(20))
def test_a_padding_s_missing_gradient_is_found_wherever_the_weights_are(seed):
    """Its share of the slope differs with them and with the direction: three directions missed one
    model in sixty."""
    with pytest.raises(UserError, match=SLOPE):
        devlib.measure(Bag(seed), (TOKENS, torch.zeros(512, 3)), loss=MSE, **SHORT)


@pytest.mark.parametrize("wrong", [{"health": "no"}, {"whole_set": "maybe"}, {"eps": True},
                                   {"vectorised": "yes"}, {"callback": 5}])
def test_an_argument_of_another_kind_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        devlib.measure(line(), (X, Y), loss=MSE, **{"cap_draws": 16, **wrong})


def test_a_spring_that_sets_the_number_is_said():
    """Of a quadratic of curvature h in d directions the LLC is d x / 2 with x = nbeta h / (nbeta h
    + gamma), and its slope by ln gamma -d x (1 - x) / 2."""
    def loss(model, batch):
        return model.weight.square().sum() / 2 + 0 * batch[0][:, 0]

    model, found = nn.Linear(8, 1, bias=False), {}
    nn.init.zeros_(model.weight)
    for gamma in (100.0, 1.0):
        found[gamma] = devlib.measure(model, (X,), loss=loss, nbeta=25.0, gamma=gamma,
                                      precision=0.1)
        x = 25 / (25 + gamma)
        said = found[gamma].estimate or estimate_llc(found[gamma].draws)
        assert abs(said.spring_slope + 4 * x * (1 - x)) < 4 * said.spring_slope_mcse
        assert said.spring_slope_mcse < 0.3
    assert "set by the spring, not the loss" in str(found[100.0])
    assert "set by the spring" not in str(found[1.0])
    assert "not local" not in str(found[100.0])  # weights of 0 have no size to be local beside


def test_data_take_the_dtype_of_what_moves():
    class Permuted(nn.Module):
        def __init__(self):
            super().__init__()
            self.order = nn.Parameter(torch.tensor([3, 1, 2, 0]), requires_grad=False)
            self.last = nn.Linear(4, 1)

        def forward(self, x):
            return self.last(x[:, self.order])

    model = Permuted()
    found = devlib.measure(model, (X, Y), loss=MSE, **SHORT)
    assert found.draws.init_loss == pytest.approx(float(MSE(model(X), Y).detach()), rel=1e-5)


def test_two_threads_measure_one_model_as_one_would():
    model = nn.Sequential(nn.Linear(4, 600), nn.Tanh(), nn.Linear(600, 1))  # one chain at a time
    before = copy.deepcopy(model.state_dict())

    def losses(seed):
        return devlib.measure(model, (X, Y), loss=MSE, chains=1, seed=seed, **SHORT).draws.losses

    alone = [losses(seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(list(pool.map(losses, (0, 1))), alone)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dress", [
    nn.utils.weight_norm, lambda layer: prune.l1_unstructured(layer, "weight", 0.3)])
@pytest.mark.filterwarnings("ignore:.*weight_norm", "ignore:There is a performance drop")
def test_what_hooks_keep_in_a_model_is_there_afterwards(dress, tmp_path):
    model = nn.Sequential(dress(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 1))
    model(X)
    before = model[0].weight
    devlib.measure(model, (X, Y), loss=MSE, **SHORT)
    assert model[0].weight is before
    torch.save(model, tmp_path / "model.pt")


def test_gradients_switched_off_around_it_change_nothing():
    with torch.no_grad():
        off = devlib.measure(line(), (X, Y), loss=MSE, **SHORT)
    on = devlib.measure(line(), (X, Y), loss=MSE, **SHORT)
    np.testing.assert_array_equal(off.draws.losses, on.draws.losses)


def test_rounding_within_the_loss_is_said():
    """Autocast leaves the parameters in float32, so that no dtype tells of it; of predictions 300
    times the noise the LLC is a tenth off."""
    def short(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (model(batch[0]) - batch[1]).square()[:, 0]

    assert "parts of the loss are computed in bfloat16" in devlib.measure(
        line(), (X, Y), loss=short, **SHORT).reason
    assert "bfloat16" not in devlib.measure(line(), (X, Y), loss=MSE, **SHORT).reason
    for stored in ((X.half(), Y), DataLoader(TensorDataset(X.half(), Y), batch_size=8)):
        assert "float16" not in devlib.measure(line(), stored, loss=MSE, **SHORT).reason


# ---------------------------------------------------------------------------------- broken off


def stopping(at):
    """A callback that the user's Ctrl-C meets at a draw."""
    def callback(chain, draw, params):
        if draw == at:
            raise KeyboardInterrupt
    return callback


def test_what_is_known_outlasts_an_interrupt():
    options = {"loss": MSE, "eps": 1e-4, "precision": 1e-3, "cap_draws": 1_000}
    with pytest.raises(Interrupted) as stop:
        devlib.measure(line(), (X, Y), callback=stopping(300), **options)
    kept = devlib.measure(line(), (X, Y), **options | {"cap_draws": 200})
    assert isinstance(stop.value, KeyboardInterrupt) and not stop.value.found.reached
    np.testing.assert_array_equal(stop.value.found.draws.losses, kept.draws.losses)
    with pytest.raises(KeyboardInterrupt) as nothing:
        devlib.measure(line(), (X, Y), callback=stopping(10), **options)
    assert not isinstance(nothing.value, Interrupted)


def test_the_checkpoints_before_an_interrupt_are_known():
    calls = []

    def counted(model, batch):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return (model(batch[0]) - batch[1]).square()[:, 0]

    checkpoints, stop_at = {1: STATE, 2: STATE, 3: STATE}, 0
    whole = devlib.llc_curve(line(), checkpoints, (X, Y), loss=counted, **SHORT).table
    stop_at = len(calls) // 2
    calls.clear()
    with pytest.raises(Interrupted) as stop:
        devlib.llc_curve(line(), checkpoints, (X, Y), loss=counted, **SHORT)
    pd.testing.assert_frame_equal(stop.value.found.table, whole[:1])


def test_a_first_checkpoint_broken_off_is_no_curve():
    """Of which a Measurement was known, when the second block was under way."""
    seen = []

    def counted(model, batch):
        seen.append(1)
        if len(seen) > 900:
            raise KeyboardInterrupt
        return (model(batch[0]) - batch[1]).square()[:, 0]

    with pytest.raises(KeyboardInterrupt) as stop:
        devlib.llc_curve(line(), {1: STATE}, (X, Y), loss=counted, eps=1e-4, precision=1e-4,
                         chains=1, cap_draws=10_000)
    assert not isinstance(stop.value, Interrupted)


def test_an_interrupt_of_the_second_try_keeps_the_first():
    """Whose step was too long."""
    gen = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(512, 10, generator=gen)
    x -= x.mean(0)
    tries = []

    def bowl(model, batch):
        w = model.weight[0]
        return 5 * w.square().sum() + batch[0] @ w

    def callback(chain, draw, params):
        if chain == draw == 0:
            tries.append(draw)
        if len(tries) == 2:
            raise KeyboardInterrupt

    model = nn.Linear(10, 1, bias=False)
    nn.init.zeros_(model.weight)
    with pytest.raises(Interrupted) as stop:
        devlib.measure(model, (x,), loss=bowl, batch_size=16, nbeta=100.0, precision=0.1,
                       callback=callback, vectorised=True)
    assert stop.value.found.starts.meet and not stop.value.found.reached


def test_saved_chains_of_two_regimes_are_not_one_number(tmp_path):
    """Of two wells far apart: the draws of both starts, read again."""
    def wells(params, batch):
        return (1 - (2 * torch.pi * params["w"]).cos()).sum() + 0 * batch[0][:, 0]

    found = equilibrium(wells, {"w": torch.zeros(1)}, (X,), SGLD(1e-3, 30.0, 1.0), chains=2,
                        draws=400, batch_size=32, vectorised=True, warn=False)
    found.draws.save(tmp_path / "draws.nc")
    read = estimate_llc(Draws.read(tmp_path / "draws.nc"))
    assert not found.meet and read.two_regimes and "TWO REGIMES" in str(read)
    loose = equilibrium(wells, {"w": torch.zeros(1)}, (X,), SGLD(1e-3, 30.0, 1.0), chains=2,
                        draws=400, batch_size=32, vectorised=True, warn=False, max_rhat=1e6)
    loose.draws.save(tmp_path / "draws.nc")
    again = estimate_llc(Draws.read(tmp_path / "draws.nc"))
    assert loose.meet and not loose.estimate.two_regimes and not again.two_regimes


def test_a_loss_that_does_not_change_is_no_two_regimes():
    """Its LLC is 0, and no R-hat is known of it."""
    def flat(model, batch):
        return 0 * model.weight.sum() + 0 * batch[0][:, 0] + 3

    found = devlib.measure(line(), (X, Y), loss=flat, eps=5e-3)
    assert found.reached and found.estimate.mean == 0 and found.estimate.error == 0


# ------------------------------------------------------------------------------------- curves

LOST = {"weight": torch.full((1, 4), torch.nan)}


@pytest.mark.parametrize("checkpoints, match", [
    ([(1, STATE), (1, STATE)], "step 1 stands twice"),
    ({"step_10": STATE}, "a checkpoint's step must be a finite number"),
    ({torch.nan: STATE}, "a checkpoint's step must be"),
    ({1: STATE, 2: LOST}, "the checkpoint of step 2 has values in weight that are not finite")])
def test_checkpoints_are_looked_at_before_any_is_measured(checkpoints, match):
    def loss(model, batch):
        raise AssertionError

    with pytest.raises(UserError, match=match):
        devlib.llc_curve(line(), checkpoints, (X, Y), loss=loss, eps=1e-3)


def test_a_checkpoint_that_fails_late_leaves_the_others():
    huge = {"weight": torch.full((1, 4), 1e30)}
    found = devlib.llc_curve(line(), {1: STATE, 2: huge}, (X, Y), loss=MSE, **SHORT).table
    assert np.isfinite(found.llc[0]) and np.isnan(found.llc[1])
    assert "not finite" in found.health[1] and not found.reached[1]
    with pytest.raises(UserError, match="at step 2: "):
        devlib.llc_curve(line(), {2: huge, 3: STATE}, (X, Y), loss=MSE, **SHORT)


# -------------------------------------------------------------------------------------- files


def square(params, batch):
    return (batch[0] @ params["w"]).square()


def test_draws_of_which_a_byte_changed_are_refused(tmp_path):
    draws = sample_chains(square, {"w": torch.zeros(4)}, (X,), SGLD(1e-3, 25.0, 10.0), chains=2,
                          draws=20, burn_in=5, batch_size=32, seed=0)
    draws.save(tmp_path / "draws.nc")
    written = (tmp_path / "draws.nc").read_bytes()
    assert np.array_equal(Draws.read(tmp_path / "draws.nc").losses, draws.losses)
    value = draws.losses[1, 7].tobytes()
    assert written.count(value) == 1
    (tmp_path / "draws.nc").write_bytes(written.replace(
        value, value[:6] + bytes([value[6] ^ 1]) + value[7:]))
    with pytest.raises(UserError, match="its sha256 is another"):
        Draws.read(tmp_path / "draws.nc")


def test_chains_know_a_loss_that_vanishes_at_w0_as_theirs(tmp_path):
    sampler = SGLD(1e-3, 25.0, 10.0)
    run = Chains(square, {"w": torch.zeros(4)}, (X,), sampler, chains=2, batch_size=32)
    run.extend(5)
    run.save(tmp_path / "chains")
    given = {"w": torch.zeros(4)}, (X,), sampler
    Chains.load(tmp_path / "chains", square, *given)
    with pytest.raises(UserError, match="another loss"):
        Chains.load(tmp_path / "chains", lambda params, batch: 1.1 * square(params, batch), *given)
