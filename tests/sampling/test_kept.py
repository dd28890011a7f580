"""Chains in a file go on bit by bit, in another process too; those of another problem are refused.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from devlib.errors import StorageError, UserError
from devlib.sampling import SGLD, Chains, RMSpropSGLD

GEN = torch.Generator().manual_seed(0)
DATA = tuple(torch.randn(30, k, generator=GEN, dtype=torch.float64) for k in (3, 1))
PARAMS = {"w": torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64),
          "b": torch.zeros(1, dtype=torch.float64)}
PLAIN = SGLD(1e-2, 10.0, 1.0)
OPTIONS = {"chains": 3, "seed": 5, "batch_size": 4, "compile": False}


def loss(params, batch):
    return (batch[0] @ params["w"].T + params["b"] - batch[1]).square().sum(-1)


def chains(sampler=PLAIN, **options):
    return Chains(loss, PARAMS, DATA, sampler, **OPTIONS | options)


CASES = [{}, {"vectorised": False}, {"start": "prior"}, {"init_losses": "drawn"},
         {"batch_size": None}, {"sampler": RMSpropSGLD(1e-2, 10.0, 1.0)},
         {"mask": {"w": torch.tensor([[True, False, True]])}}]


@pytest.mark.parametrize("case", CASES)
def test_loaded_chains_equal_those_that_were_never_stopped(case, tmp_path):
    whole, first = chains(**case), chains(**case)
    whole.extend(25)
    first.extend(9)
    first.save(tmp_path / "chains")
    again = Chains.load(tmp_path / "chains", loss, PARAMS, DATA, first.sampler,
                        mask=case.get("mask"))
    again.extend(16)
    assert again.taken == 25
    for name in ("losses", "baseline", "distances", "init_loss"):
        assert np.array_equal(getattr(again.draws(0), name), getattr(whole.draws(0), name))
    assert torch.equal(again.w, whole.w)


def test_another_process_goes_on_with_the_same_bits(tmp_path):
    whole, first = chains(), chains()
    whole.extend(25)
    first.extend(9)
    first.save(tmp_path / "chains")
    code = (f"import sys; sys.path.insert(0, {str(tmp_path.parent)!r}); "
            "import test_kept as t; from devlib.sampling import Chains\n"
            f"run = Chains.load({str(tmp_path / 'chains')!r}, t.loss, t.PARAMS, t.DATA, t.PLAIN)\n"
            f"run.extend(16); run.save({str(tmp_path / 'more')!r})")
    paths = [*sys.path, str(__file__).rpartition("/")[0]]
    done = subprocess.run([sys.executable, "-c", f"import sys, torch; sys.path[:] = {paths!r}; "
                           "torch.set_num_threads(1)\n" + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = Chains.load(tmp_path / "more", loss, PARAMS, DATA, PLAIN)
    assert again.taken == 25 and torch.equal(again.w, whole.w)
    assert np.array_equal(again.draws(0).losses, whole.draws(0).losses)


def test_the_same_chains_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        run = chains()
        run.extend(5)
        run.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_diverged_chains_are_kept_as_they_are(tmp_path):
    run = chains(SGLD(10.0, 10.0, 1.0))
    run.extend(400)
    assert run.draws(0).diverged
    run.save(tmp_path / "chains")
    again = Chains.load(tmp_path / "chains", loss, PARAMS, DATA, run.sampler)
    assert again.draws(0).diverged == run.draws(0).diverged


def nearly(params, batch):
    return 1.01 * loss(params, batch)


MOVED = {name: p + 1e-9 for name, p in PARAMS.items()}
OTHER = (DATA[0], DATA[1].flip(0))
MASK = {"b": True}


@pytest.mark.parametrize("given, match", [
    ({"loss": nearly}, "another loss"), ({"params": MOVED}, "another model"),
    ({"params": {"w": PARAMS["w"]}, "loss": lambda p, b: loss({**PARAMS, **p}, b)},
     "another model"),
    ({"data": OTHER}, "another data"),
    ({"data": tuple(part[:-1] for part in DATA)}, "another data: of 30 samples"),
    ({"sampler": SGLD(2e-2, 10.0, 1.0)}, "another sampler than SGLD.eps=0.02"),
    ({"mask": MASK}, "another mask")])
def test_another_problem_is_refused(given, match, tmp_path):
    run = chains()
    run.extend(3)
    run.save(tmp_path / "chains")
    problem = {"loss": loss, "params": PARAMS, "data": DATA, "sampler": PLAIN} | given
    with pytest.raises(UserError, match=match) as refused:
        Chains.load(tmp_path / "chains", **problem)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: (
    data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]), lambda data: None])
def test_a_file_that_is_not_whole_is_refused(damage, tmp_path):
    path = tmp_path / "chains"
    run = chains()
    run.save(path)
    data = damage(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(UserError, match="holds no whole chains"):
        Chains.load(path, loss, PARAMS, DATA, PLAIN)


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    run = chains()
    run.save(tmp_path / "chains")
    before = (tmp_path / "chains").read_bytes()
    run.extend(3)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError):
        run.save(tmp_path / "chains")
    assert (tmp_path / "chains").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["chains"]
