"""Checkpoints packed in one file: the same tensors, and nothing believed that was changed."""

import pytest
import torch

from companion.curve import rows
from companion.packed import Packed, open_run, pack
from devlib.checkpoints import CheckpointStore
from devlib.errors import CheckpointError

STEPS = (0, 3, 10, 200)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "run").mkdir()
    made = CheckpointStore(tmp_path / "run", {"kind": "case"})
    for step in STEPS:
        made.save(step, {"b": torch.full((3,), float(step)), "a": torch.randn(
            2, 2, generator=torch.Generator().manual_seed(step))}, train_loss=step / 2)
    return made


@pytest.fixture
def path(store, tmp_path):
    return pack(store, [200, 0, 10], tmp_path / "data" / "case.safetensors")


def test_what_comes_out_is_what_went_in(store, path):
    packed = Packed(path)
    assert packed.steps == [0, 10, 200]
    for step in packed.steps:
        found, expected = packed.load(step), store.load(step)
        assert list(found) == list(expected) == ["a", "b"]
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert packed.manifest["settings"] == {"kind": "case"}
    assert packed.manifest["checkpoints"]["10"]["train_loss"] == 5
    assert packed.manifest["hash"] == store.manifest["hash"]


class Total:
    def __call__(self, params):
        return {"total": float(sum(p.sum() for p in params.values()))}


def test_a_curve_over_either_is_the_same(store, path, tmp_path):
    packed = open_run(path)
    assert isinstance(open_run(store.directory), CheckpointStore)
    of_run = rows(Total(), store, packed.steps, tmp_path / "one", {}, "", jobs=1)
    of_file = rows(Total(), packed, packed.steps, tmp_path / "two", {}, "", jobs=1)
    assert of_run.equals(of_file) and len(of_run) == 3


def test_a_step_that_is_not_there(path):
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3; it has 0, 10, 200"):
        Packed(path).load(3)


def test_every_kind_of_damage_is_named(path):
    data = path.read_bytes()
    for position in (0, 8, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1:])
        with pytest.raises(CheckpointError, match=f"{path} is damaged: its sha256.*; restore it"):
            Packed(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path} cannot be read"):
        Packed(path)
    path.write_bytes(data)
    Packed(path)
    sidecar = path.with_suffix(".json")
    text = sidecar.read_text()
    for changed in ("{", text.replace("case", "cage"), text.replace('"sha256"', '"sha255"')):
        sidecar.write_text(changed)
        with pytest.raises(CheckpointError, match=f"{sidecar} is damaged .*; restore it"):
            Packed(path)
    sidecar.unlink()
    with pytest.raises(CheckpointError, match=f"{sidecar} is damaged"):
        Packed(path)
