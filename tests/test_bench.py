"""The benches' own arithmetic, without measuring anything for long."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from plain_twin import PlainTransformer
from torch.func import functional_call, grad_and_value
from torch.utils.flop_counter import FlopCounterMode

from companion import results
from companion.corpus.toy import toy_corpus
from companion.packed import pack
from companion.pages import costs
from companion.places import project_root
from devlib.errors import UserError
from devlib.regression.model import RegressionTransformer
from devlib.regression.task import fixed_set
from devlib.sampling import SGLD
from devlib.sampling.draws import Draws
from devlib.settings import RegressionModel, RegressionTask
from tests.bench import (
    __main__ as command,
)
from tests.bench import (
    bench_agreement,
    bench_converged,
    bench_memory,
    bench_pilots,
    bench_precision,
    bench_scaling,
    bench_sgld,
    bench_training,
    measure,
    peer,
)

TASK = RegressionTask()


@pytest.mark.parametrize("model", [
    RegressionModel(),
    RegressionModel(layers=3, heads=2, embed_dim=8, mlp_dim=24)])
def test_multiplications_are_those_that_torch_counts(model):
    module = RegressionTransformer(model, TASK)
    params = {name: p.detach() for name, p in module.named_parameters()}
    batch = fixed_set(0, "bench", 8, TASK)

    def loss(params):
        return (functional_call(module, params, batch) - batch[1]).square().mean()

    with FlopCounterMode(display=False) as forward:
        loss(params)
    with FlopCounterMode(display=False) as step:
        grad_and_value(loss)(params)
    assert forward.get_total_flops() == 2 * 8 * bench_scaling.multiplications(model, TASK)
    assert step.get_total_flops() == 2 * 8 * bench_scaling.step_multiplications(model, TASK)


def test_exponent_of_a_power_and_its_error():
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    exact = bench_scaling.exponent(sizes, 3 * sizes**1.5)
    assert exact == pytest.approx({"slope": 1.5, "error": 0.0}, abs=1e-12)
    gen = np.random.default_rng(0)
    slopes = [bench_scaling.exponent(sizes, sizes * np.exp(0.1 * gen.standard_normal(5)))
              for _ in range(400)]
    spread = np.std([fit["slope"] for fit in slopes])
    mean_square = np.mean([fit["error"]**2 for fit in slopes])
    assert mean_square**0.5 == pytest.approx(spread, rel=0.15)


def test_operators_of_an_update_are_counted_by_kind():
    class Two:
        a = torch.ones(8, 8)

        def update(self):
            return (self.a @ self.a) @ self.a + 1

    found = bench_training.by_operator(Two(), updates=5)
    assert found["matrix products"]["calls"] == 2 and found["fused kernels"]["calls"] == 0
    assert found[bench_training.OTHER]["calls"] >= 1
    assert sum(kind["share"] for kind in found.values()) == pytest.approx(1)


def test_the_exact_llc_is_the_truth_table_s():
    assert bench_agreement.exact(bench_agreement.H, bench_agreement.SAMPLER) == pytest.approx(
        1.579, abs=5e-4)


def test_turns_rotate_and_the_first_round_does_not_count():
    order, numbers = [], iter(range(100))

    def one(name):
        def run():
            order.append(name)
            return next(numbers)
        return run

    taken = measure.in_turns({"a": one("a"), "b": one("b")}, 2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [3, 4], "b": [2, 5]}
    assert measure.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": 3}


def test_a_report_is_written_with_what_made_it(tmp_path):
    measure.Report("x", ("devlib.llc:estimate_llc",), tmp_path).store(
        {"value": 1 / 3, "list": (1, 2.5)}, devinterp="1.3.2")
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["value"] == 0.333333 and report["list"] == [1, 2.5]
    assert report["made with"]["devinterp"] == "1.3.2"
    assert report["threads"] == torch.get_num_threads() == 1
    assert {"commit", "torch", "processor"} <= report["made with"].keys()
    assert report["load average"].keys() == {"before", "after"}


@pytest.mark.parametrize("name", sorted(
    {*command.NAMES} & {path.stem for path in measure.DATA.glob("*.json")}))
def test_stored_figures_are_of_today_s_code(name):
    assert command.stale(name) is None


def test_other_code_is_told_until_measured_anew_or_found_unchanged(tmp_path):
    record = tmp_path / "benches.json"
    record.write_text(json.dumps({"agreement": "0" * 16, "work": "1" * 16}))
    assert "`python -m tests.bench agreement` measures anew" in command.stale("agreement", record)
    measure.put_on_record("agreement", command.code("agreement"), record)
    assert command.stale("agreement", record) is None
    assert json.loads(record.read_text())["work"] == "1" * 16


def test_the_repository_s_checkpoints_are_measured_unless_others_are_named(tmp_path):
    store = bench_precision.runs()
    assert store.directory == results.committed_checkpoints("published", 1).directory
    assert len(bench_precision.chosen(store.steps)) == 3
    named = pack(store, store.steps[:2], tmp_path / "two.safetensors")
    assert bench_precision.runs(named).steps == store.steps[:2]


def test_checkpoints_are_the_nearest_to_those_wanted():
    assert bench_precision.chosen([0, 984, 4_232, 40_292, 181_818]) == [4_232, 40_292, 181_818]
    assert bench_precision.chosen([0, 984, 2_490, 4_232, 6_299]) == [984, 4_232, 6_299]


def test_errors_of_independent_draws_agree():
    """Both errors of an estimate, on draws without correlation: sd / sqrt(all of them)."""
    noise = np.random.default_rng(0).standard_normal((16, 400))
    draws = Draws(1 + noise, np.ones_like(noise), 1.0, SGLD(1e-4, 2.0, 1.0), 0, 8, 0)
    facts = bench_precision.facts(draws)
    expected = 2 / noise.size**0.5
    assert facts["mcse"] == pytest.approx(expected, rel=0.1)
    assert facts["between chains"] == pytest.approx(expected, rel=0.6)
    error = bench_precision.paper_error(draws)
    assert error["by effective draws"] == pytest.approx(2 / 40_000**0.5, rel=0.1)
    assert error["by chains"] == pytest.approx(facts["between chains"] * (16 / 10)**0.5)


def test_the_plain_model_s_loss_is_the_mean_squared_error():
    settings = bench_sgld.SETTINGS
    model = PlainTransformer(settings.model, settings.task)
    batch = fixed_set(0, "bench", 4, settings.task)
    params = {name: p.detach() for name, p in model.named_parameters()}
    expected = torch.nn.functional.mse_loss(model(*batch), batch[1])
    torch.testing.assert_close(bench_sgld.plain_loss()(params, batch).mean(), expected.detach())


def test_unknown_benches_are_named(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["sgld", "typo"])
    assert stop.value.code == 2
    assert "no bench typo; there are" in capsys.readouterr().err


@pytest.mark.parametrize("name, wanted, shared", [
    ("devinterp", "devinterp==1.3.2", ("torch", "numpy", "safetensors")),
    ("canonical", "canonical-interp==0.2.7", ("torch", "numpy", "safetensors")),
    ("curvlinops", "curvlinops-for-pytorch==3.0.1", ("torch", "numpy", "scipy", "safetensors")),
    ("transformerlens", "transformer-lens==2.18.0", ("torch", "safetensors"))])
def test_a_peer_s_environment_is_pinned_torch_first_and_fits_this_one(name, wanted, shared):
    text = peer.requirements(name).read_text()
    lines = [line for line in text.splitlines() if line[0] != "#"]
    assert all("==" in line for line in lines)
    assert lines[0].startswith("torch==") and wanted in lines
    own = (project_root() / "requirements.txt").read_text().splitlines()
    for name in shared:  # else the comparison is of versions
        pins = {line for line in own + lines if line.startswith(f"{name}==")}
        assert len(pins) == 1


def test_commands_go_to_the_other_process_and_answers_come_back(tmp_path, monkeypatch):
    (tmp_path / "devinterp_side.py").write_text(
        "import json, sys\nfor line in sys.stdin:\n    print(line.strip(), flush=True)\n")
    monkeypatch.setattr(peer, "HERE", tmp_path)
    monkeypatch.setattr(peer, "environment", lambda name: sys.executable)
    with peer.Peer() as other:
        assert other("steps", draws=3) == {"command": "steps", "draws": 3}
        other.process.terminate()
        other.process.wait()
        with pytest.raises(UserError, match="devinterp's process ended during 'steps'"):
            other("steps")


def test_pilots_look_as_they_go(tmp_path, monkeypatch):
    committed = pd.read_csv(bench_pilots.DATA / "pilots.csv")
    assert set(committed.pilot) == set(bench_pilots.PILOTS)
    monkeypatch.setattr(bench_pilots, "PILOTS",
                        {"tiny": (16, 2, 8, 40, 32, 4, 1e-2, 5, 0.02)})
    monkeypatch.setattr(bench_pilots, "TOKENS", 320)
    monkeypatch.setattr(bench_pilots, "load_corpus",
                        lambda kind, vocabulary: toy_corpus(vocabulary, 60, 20))
    bench_pilots.main(tmp_path)
    table = pd.read_csv(tmp_path / "pilots.csv")
    assert list(table.columns) == list(committed.columns)
    assert table.step.iloc[0] == 0 and table.step.is_monotonic_increasing
    assert table.loss.iloc[-1] < table.loss.iloc[0]


def test_memory_of_a_process_is_its_own():
    """More than torch alone takes, and no share of this process."""
    found = bench_memory.measure("smoke", "regression training")
    assert 100 < found < 2000  # MB


# ------------------------------------------------------------------------- at equilibrium


def test_contexts_are_counted():
    """Four chains of 100 draws on batches of 32; with companions six and one; and the paper's ten
    of 5,000, or as many after rest as it keeps after burn-in, with the pass over its set."""
    assert bench_converged.contexts(100) == 4 * 100 * 32
    assert bench_converged.contexts(100, companions=True) == 7 * 100 * 32
    assert bench_converged.paper_contexts(0) == 10 * 5_000 * 1024 + 2**20 / 3
    assert bench_converged.paper_contexts(4_000) == 10 * 8_000 * 1024 + 2**20 / 3


def test_a_table_of_what_converged():
    row = {"step": 3, "from w0": {"llc": 1.0}, "from prior": {"llc": 3.0},
           "both": {"llc": 2.0, "mcse": 0.1}, "step bias": 0.2, "draws": 100, "warmed up": "no",
           "precise": True, "agree": False, "contexts": 2000.0, "times less": 50.0}
    table = costs.converged({"checkpoints": [row, row | {"step": 1, "agree": True}]})
    assert table.step.tolist() == [1, 3] and table.converged.tolist() == ["yes", "no"]
    assert table.contexts.tolist() == [2, 2]
