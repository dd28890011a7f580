"""One call: the exact answer where there is one, an honest line where there is none, and the model
as it was."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from llc_gates import assert_within
from torch import nn

import devlib
from companion.known.answers import quadratic_chain_mean
from devlib.errors import UserError
from devlib.llc import default_nbeta, estimate_llc
from devlib.own import settings
from devlib.own.measure import GAMMA
from devlib.sampling import SGLD, ChainDiverged, sample_chains

H = (200.0, 100.0, 50.0)
QUICK = {"chains": 2, "cap_draws": 40, "eps": 1e-3}


class Bowl(nn.Module):
    """1/2 sum_i h_i (w_i - 1)^2 at its minimum, the same for each sample."""

    def __init__(self, h=H):
        super().__init__()
        self.w = nn.Parameter(torch.ones(len(h), dtype=torch.float64))
        self.h = h

    def forward(self, x):
        return (0.5 * torch.tensor(self.h) * (self.w - 1).square()).sum().expand(len(x))


def value(model, batch):
    return model(batch)


DATA = torch.zeros(64, 1, dtype=torch.float64)


def bowl(**options):
    return devlib.measure(Bowl(), DATA, **{"loss": value, "vectorised": True} | options)


def state(model):
    held = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    return ({name: (id(p), p.requires_grad) for name, p in held.items()},
            {name: p.detach().clone() for name, p in held.items()},
            [module.training for module in model.modules()])


def assert_untouched(model, before):
    now = state(model)
    assert now[0] == before[0] and now[2] == before[2]
    assert all(torch.equal(now[1][name], p) for name, p in before[1].items())


# ------------------------------------------------------------------------------- what is found


def test_a_quadratic_is_exact_and_reached():
    found = bowl(eps=4e-4, precision=0.08, health=False)
    sampler = SGLD(4e-4, default_nbeta(64), GAMMA)
    assert found.draws.sampler == sampler and found.reached
    assert_within(found.estimate, quadratic_chain_mean(H, sampler))
    assert found.estimate.mcse <= 0.08 * found.estimate.mean
    assert str(found).startswith(str(found.estimate)) and "\n" not in str(found)
    assert "both starts meet" in str(found) and "precision 8% reached in" in str(found)


def bias_of(sampler):
    """Of a quadratic, twice the step against it."""
    return (quadratic_chain_mean(H, replace(sampler, eps=2 * sampler.eps))
            - quadratic_chain_mean(H, sampler))


def test_the_bias_of_the_step_is_known_and_counts():
    found = bowl(precision=0.1, chains=8)
    sampler = found.draws.sampler
    assert found.reached and found.estimate.error <= 0.1 * found.estimate.mean
    assert_within(found.estimate, quadratic_chain_mean(H, sampler))
    assert abs(found.estimate.step_bias - bias_of(sampler)) < 4 * found.estimate.step_bias_mcse
    assert found.estimate.slope_share == 0
    given = bowl(precision=0.1, chains=8, eps=10 * sampler.eps)
    assert not given.reached and "draws do not mend a bias; take eps =" in given.reason


def test_a_step_of_our_own_whose_bias_is_too_large_is_made_smaller(monkeypatch):
    monkeypatch.setattr(settings, "STEP", 1.0)  # a third off in the steepest direction
    found = bowl(precision=0.1, chains=8)
    first = float(f"{1 / (default_nbeta(64) * max(H) + GAMMA):.1e}")
    assert first / 4**3 <= found.draws.sampler.eps < first
    assert found.reached and bias_of(found.draws.sampler) < 0.1 * found.estimate.mean


def test_the_step_of_a_quadratic_is_that_of_its_curvature():
    """STEP / k in two digits; the bias in the steepest direction is 1 / (1 - STEP / 4)."""
    found = bowl(chains=1, cap_draws=16)
    k = default_nbeta(64) * max(H) + GAMMA
    assert found.draws.sampler.eps == float(f"{settings.STEP / k:.1e}")
    only_last = {"w": torch.tensor([False, False, True])}
    assert bowl(chains=1, cap_draws=16, only=only_last).draws.sampler == found.draws.sampler


def test_a_start_that_diverges_gets_a_smaller_step():
    """Of w^4 the prior's start is far steeper than w0, and a step of our own is divided; one that
    was given is the user's."""
    class Quartic(Bowl):
        def forward(self, x):
            return 1e3 * (self.w - 1).pow(4).sum().expand(len(x))

    options = {"loss": value, "gamma": 1.0, "cap_draws": 40, "vectorised": True}
    found = devlib.measure(Quartic(), DATA, **options)
    assert np.isfinite(found.draws.losses).all()
    with pytest.raises(ChainDiverged, match="Take a smaller eps"):
        devlib.measure(Quartic(), DATA, eps=0.1, **options)


def test_two_wells_are_two_regimes():
    class Wells(Bowl):
        def forward(self, x):
            return (1 - (2 * np.pi * self.w).cos()).sum().expand(len(x))

    found = devlib.measure(Wells((1.0,)), DATA, loss=value, gamma=1.0, nbeta=30.0, eps=1e-3,
                           cap_draws=800, vectorised=True)
    assert found.estimate is None and not found.reached
    assert str(found).startswith("two regimes: from w0 LLC")
    assert "not reached (the starts do not meet" in found.reason


def test_what_is_missing_is_said():
    found = bowl(eps=1e-3, cap_draws=20, precision=1e-3)
    assert not found.reached
    assert "precision 0.1% not reached" in found.reason and "of the mean" in found.reason
    assert "in 20 draws of 8 chains" in found.reason


def test_no_minimum_and_no_place_are_said():
    class Slope(Bowl):
        def forward(self, x):
            return (5 * self.w).sum().expand(len(x)) + 20

    found = devlib.measure(Slope(), DATA, loss=value, gamma=0.5, eps=0.2, cap_draws=400,
                           vectorised=True)
    assert "negative: these weights are at no minimum of this loss" in found.reason
    assert "not local: the spring's sd is 1.4 times the weights' rms" in found.reason


def test_the_same_call_gives_the_same_bytes():
    one, other, third = (bowl(eps=1e-3, cap_draws=40, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.draws.losses, other.draws.losses) and str(one) == str(other)
    assert not np.array_equal(one.draws.losses, third.draws.losses)


def test_chains_from_w0_are_those_of_sample_chains():
    model = Bowl()
    found = devlib.measure(model, DATA, loss=value, **QUICK)
    plain = sample_chains(lambda p, b: torch.func.functional_call(model, p, b), model, (DATA,),
                          found.draws.sampler, chains=2, draws=40, batch_size=64, burn_in=0)
    np.testing.assert_allclose(found.draws.losses[:2], plain.losses, rtol=1e-12)


# --------------------------------------------------------------------- the model is left alone


def layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    model[1].running_mean.normal_()
    return model.double()


PAIRS = (torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
         torch.arange(40) % 3)


def test_eval_meanwhile_and_the_modes_that_were_there_afterwards():
    model = layers()
    model[2].eval()  # a mode of its own
    before, modes = state(model), []

    def loss(model, batch):
        modes.append([module.training for module in model.modules()])
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    devlib.measure(model, PAIRS, loss=loss, **QUICK)
    assert not np.any(modes)
    assert_untouched(model, before)

    def failing(model, batch):
        raise RuntimeError("mine")

    with pytest.raises(UserError, match="mine"):
        devlib.measure(model, PAIRS, loss=failing, **QUICK)
    assert_untouched(model, before)


def test_torchs_losses_are_taken_without_their_reduction():
    model = layers()
    one, other = (devlib.measure(model, PAIRS, loss=loss, **QUICK).draws.losses for loss in (
        nn.CrossEntropyLoss(),
        lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")))
    assert np.array_equal(one, other)
    loss = nn.MSELoss()
    wide = devlib.measure(model, (PAIRS[0], PAIRS[0][:, :3]), loss=loss, **QUICK)
    assert loss.reduction == "mean"
    expected = (model.eval()(PAIRS[0]) - PAIRS[0][:, :3]).square().mean(1).mean()
    assert wide.draws.init_loss == pytest.approx(expected.item())


def test_held_parameters_stay():
    model = layers()
    model[0].requires_grad_(False)
    before, seen = state(model), []
    devlib.measure(model, PAIRS, loss=nn.CrossEntropyLoss(), **QUICK, every=1,
                   callback=lambda chain, draw, params: seen.append({*params}))
    assert seen[0] == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert_untouched(model, before)


def test_tied_parameters_move_as_one_and_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    model, tokens = Tied(), torch.arange(60).reshape(20, 3) % 5
    before = state(model)
    found = devlib.measure(model, tokens, loss=devlib.next_token, **QUICK)
    again = devlib.measure(model, tokens, loss=devlib.next_token, only="head.weight", **QUICK)
    assert_untouched(model, before)
    assert model.head.weight is model.embed.weight
    np.testing.assert_allclose(found.draws.losses, again.draws.losses, rtol=1e-5)


def test_a_loss_may_use_all_of_the_model():
    """Its parts and methods have the chain's weights too."""
    model = layers()

    def parts(model, batch):
        hidden = model[2](model[1](model[0](batch[0])))
        return nn.functional.cross_entropy(model[3](hidden), batch[1], reduction="none")

    np.testing.assert_allclose(devlib.measure(model, PAIRS, loss=parts, **QUICK).draws.losses,
                               devlib.measure(model, PAIRS, loss=nn.CrossEntropyLoss(),
                                              **QUICK).draws.losses, rtol=1e-12)


# ------------------------------------------------------------------------------ what is refused


def of_output(function):
    return lambda model, batch: function(model(batch[0]), batch[1])


cross_entropy = nn.functional.cross_entropy
REFUSED = {
    "no module": ({"model": 3}, "model must be an nn.Module, not int"),
    "no parameters": ({"model": nn.ReLU()}, "the model ReLU has no parameters"),
    "a model as loss": ({"loss": nn.Linear(2, 2)}, "not the module Linear"),
    "a word as loss": ({"loss": "mse"}, "loss must be a function, loss.model, batch."),
    "a mean": ({"loss": of_output(cross_entropy)}, "must give one value a sample"),
    "random": ({"loss": of_output(lambda out, y: cross_entropy(
        nn.functional.dropout(out), y, reduction="none"))}, "the loss is random"),
    "neighbours": ({"loss": of_output(lambda out, y: cross_entropy(
        out - out.mean(0), y, reduction="none"))}, "depends on its neighbours"),
    "not reached": ({"loss": lambda model, batch: model[3].bias.sum().expand(len(batch[0]))},
                    "0.bias, 0.weight, 1.bias, 1.weight, 3.weight do not reach the loss|"
                    "0.weight, 0.bias, .* do not reach the loss"),
    "three parts": ({"data": (*PAIRS, PAIRS[1]), "loss": nn.CrossEntropyLoss()}, "needs batches"),
    "gamma": ({"gamma": 0}, "gamma must be a finite number, above 0"),
    "precision": ({"precision": 0}, "precision must"), "cap": ({"cap_draws": 3}, "cap_draws must"),
    "batch": ({"batch_size": 1}, "batch_size must"), "eps": ({"eps": -1}, "eps must"),
    "observables": ({"observables": [PAIRS]}, "observables must be data by name"),
    "only": ({"only": "layer9*"}, "no parameter that may move")}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(case):
    change, match = REFUSED[case]
    settings = {"model": layers(), "data": PAIRS, "loss": nn.CrossEntropyLoss()} | QUICK | change
    with pytest.raises(UserError, match=match) as refused:
        devlib.measure(settings.pop("model"), settings.pop("data"), **settings)
    assert "\n" not in str(refused.value)


def test_importing_devlib_loads_no_torch():
    code = "import sys, devlib; print('torch' in sys.modules, 'measure' in devlib.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'measures'"):
        _ = devlib.measures


# ----------------------------------------------------------------- large sets, and observables


def test_a_set_too_large_to_pass_over_is_not():
    """The loss of w0 comes from the drawn batches, with its error."""
    data = torch.linspace(0, 1, 5000, dtype=torch.float64)[:, None]
    calls = []

    def loss(model, batch):
        calls.append(len(batch))
        return model(batch) + batch[:, 0]

    found = devlib.measure(Bowl(), data, loss=loss, batch_size=8, whole_set=False, **QUICK)
    assert max(calls) <= 16  # of both chains at once
    assert 0 < found.draws.init_loss_se < 0.1
    assert abs(found.draws.init_loss - 0.5) < 4 * found.draws.init_loss_se
    assert "of the drawn batches" in found.reason
    whole = devlib.measure(Bowl(), data, loss=loss, batch_size=8, whole_set=True, **QUICK)
    np.testing.assert_allclose(found.draws.baseline, whole.draws.baseline, rtol=1e-12)
    assert estimate_llc(found.draws).mean == pytest.approx(estimate_llc(whole.draws).mean)
    calls.clear()
    devlib.measure(Bowl(), data, loss=loss, batch_size=8, **QUICK)  # 5,000 are more than 1,280
    assert max(calls) <= 16


def test_a_dataset_read_by_index_gives_the_same_numbers(monkeypatch):
    model, data = layers(), torch.utils.data.TensorDataset(*PAIRS)
    stacked = devlib.measure(model, PAIRS, loss=nn.CrossEntropyLoss(), **QUICK)
    monkeypatch.setattr("devlib.own.data.STACK_BELOW", 10)
    read = devlib.measure(model, data, loss=nn.CrossEntropyLoss(), **QUICK)
    np.testing.assert_allclose(read.draws.losses, stacked.draws.losses, rtol=1e-12)


def test_observables_are_the_losses_of_other_data_at_the_draws():
    places, seen = torch.tensor([3, 1, 4]), {}
    other = tuple(part[places] for part in PAIRS)
    model = layers()

    def keep(chain, draw, params):
        with torch.no_grad():
            out = torch.func.functional_call(model, params, (other[0],))
        seen[chain, draw] = nn.functional.cross_entropy(out, other[1], reduction="none").numpy()

    found = devlib.measure(model, PAIRS, loss=nn.CrossEntropyLoss(), observables={"three": other},
                           callback=keep, every=3, **QUICK)
    observed = found.observed["three"]
    draws = [draw for draw in range(0, 40, 3) if draw >= found.draws.burn_in]
    assert observed.shape == (4, len(draws), 3)
    assert {chain for chain, _ in seen} == {0, 1, 2, 3}
    np.testing.assert_allclose(observed, [[seen[chain, draw] for draw in draws]
                                          for chain in range(4)], rtol=1e-12)
