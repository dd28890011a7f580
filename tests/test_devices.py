"""One place names a device; everything that computes runs on it throughout, and finds the same.

No GPU is at hand in these tests: `stand_in.gpu` is a device that refuses what a GPU refuses. What
they do not see is a GPU's own kernels and its speed.
"""

import re
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from stand_in import DEVICE, gpu

from companion import language, presets, regression
from companion.checkpoint_rows import density_rows, hessian_row
from companion.compute.gpus import gpus
from companion.pages import task_sets
from companion.pages.calibration import Job, _data, _sample, top_curvature
from companion.pages.calibration import _loss as calibration_loss
from companion.places import project_root
from devlib import devices, training
from devlib.checkpoints import CheckpointStore
from devlib.devices import device, move
from devlib.errors import UserError
from devlib.fast import cache_slice
from devlib.language import train as training_language
from devlib.language.model import fast_precision, microbatch
from devlib.language.parameters import initial_parameters
from devlib.regression.model import build_model
from devlib.regression.train import train

SMOKE = presets.SMOKE
LR = replace(SMOKE.regression, llc=replace(SMOKE.regression.llc, draws=25, burn_in=5, chains=2),
             training=replace(SMOKE.regression.training, stop=12, log_checkpoints=3,
                              linear_checkpoints=2))
LM = replace(SMOKE.language, llc=replace(SMOKE.language.llc, draws=6, burn_in=2, chains=2),
             training=replace(SMOKE.language.training, stop=4, log_checkpoints=2,
                              linear_checkpoints=2))
HESSIAN = replace(SMOKE.hessian, most_probes=3, pairs=3, density_steps=4)


@pytest.fixture(autouse=True)
def forget():
    """Data are made once a process, on its device; here a process has two."""
    def forget():
        for kept in (regression._llc_data, language.llc_data, language.probes, _data):
            kept.cache_clear()

    yield forget
    forget()


def test_nothing_else_names_a_device():
    """Nor in comments, which would be read as code one day; "GPU" may be said."""
    named = re.compile(r"cuda|\bmps\b|\.cpu\(|\.to\([\"']|device\s*=\s*[\"'](?!auto)", re.I)
    root = project_root()
    sources = [path for place in ("devlib/**", "book/companion/**", "notebooks")
               for path in root.glob(f"{place}/*.py")]
    assert len(sources) > 60
    found = {path.name for path in sources if named.search(path.read_text())}
    # the second shows each process one of several GPUs, and computes nothing
    assert found == {"devices.py", "gpus.py"}


def test_names_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == device("cpu") == torch.device("cpu")
    monkeypatch.setenv("DEVLIB_DEVICE", "meta")
    assert device() == torch.device("meta") and gpus() == []
    monkeypatch.setenv("DEVLIB_DEVICE", "toaster")
    with pytest.raises(UserError, match="no device 'toaster'; set DEVLIB_DEVICE to auto, cpu or"):
        device()
    with pytest.raises(UserError, match="torch finds no GPU here; set DEVLIB_DEVICE to auto"):
        device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("DEVLIB_DEVICE", "auto")
    assert device().type == "cuda"


def test_precision_and_slices_follow_the_device(monkeypatch):
    for capability, expected in (((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert fast_precision(torch.device("cuda", 0)) == expected
    here = torch.device("cpu")
    assert cache_slice(128, here) == 128 and cache_slice(128, DEVICE) is None
    assert microbatch(1024, here) == 8 and microbatch(1024, DEVICE) == 32


def test_what_is_there_already_is_not_copied():
    w, xs, ys = torch.ones(3, 2)
    assert move({"w": w}, w.device)["w"] is w and move((xs, ys))[1] is ys
    assert devices.to_numpy(w).ctypes.data == w.data_ptr()


def test_the_stand_in_refuses_what_a_gpu_refuses(monkeypatch):
    with gpu(monkeypatch):
        there = move(torch.ones(3))
        assert there.device == DEVICE == (2 * there).device
        assert devices.to_numpy(there + there).tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="on the CPU and on the stand-in"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()


LR_PARAMS = dict(build_model(LR, 0).state_dict())
LM_PARAMS = initial_parameters(LM.model, 0)
JOB = Job("seeded", 0, 3e-4, 66.7, 6.67, 16, 2, 10, 2, seed=0, looks=3)


def calibrated(params):
    """A job of the calibration page, and its curvature."""
    data = _data(LR, 64, 0, True)
    found = _sample(JOB, calibration_loss(LR), params, data, None)
    return found["row"] | {"top": top_curvature(calibration_loss(LR), params, data, 0)}


MEASURES = {
    "evaluation": (partial(regression.measure_evaluation, LR, 0), LR_PARAMS),
    "llc": (partial(regression.measure_llc, LR, 0, False), LR_PARAMS),
    "behaviour": (partial(regression.measure_behaviour, LR, SMOKE.metrics, 0), LR_PARAMS),
    "blocks": (partial(regression.measure_blocks, LR, SMOKE.metrics, 0), LR_PARAMS),
    "structure": (partial(regression.measure_structure, LR, SMOKE.metrics, 0), LR_PARAMS),
    "heads": (partial(regression.measure_heads, LR, SMOKE.metrics, 0), LR_PARAMS),
    "hessian": (partial(regression.measure_hessian, hessian_row, LR, HESSIAN, 0), LR_PARAMS),
    "density": (partial(regression.measure_hessian, density_rows, LR, HESSIAN, 0), LR_PARAMS),
    "calibration": (calibrated, LR_PARAMS),
    "language llc": (partial(language.measure_llc, LM, 0), LM_PARAMS),
    "language metrics": (partial(language.measure_metrics, LM, 0), LM_PARAMS),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measurement_is_the_same_on_another_device(name, forget, monkeypatch):
    """Chains too: their batches and noise are the CPU's."""
    measure, params = MEASURES[name]
    here = numbers(measure(params))
    forget()
    with gpu(monkeypatch) as seen:
        there = numbers(measure(move(params)))
    assert seen.operations > 20
    pd.testing.assert_frame_equal(there, here, rtol=2e-3, atol=2e-4)


def numbers(found) -> pd.DataFrame:
    """All tables of a measurement in one, plain numbers only."""
    parts = found if isinstance(found, dict) and all(
        isinstance(part, dict | list) for part in found.values()) else {"": found}
    table = pd.concat([pd.DataFrame(part if isinstance(part, list) else [part])
                       for part in parts.values()])
    return table.select_dtypes("number").astype(float).reset_index(drop=True)


def trained(kind, directory, **options):
    if kind == "regression":
        return train(LR, 0, directory, **options)
    tokens = torch.randint(LM.model.vocabulary, (4, LM.training.batch, LM.model.context),
                           generator=torch.Generator().manual_seed(0))
    return training_language.train(LM, 0, tokens.__getitem__, "tokens", directory,
                                   precision="float32", **options)


@pytest.mark.parametrize("kind", ["regression", "language"])
def test_training_is_the_same_on_another_device_and_after_a_break(kind, tmp_path, monkeypatch):
    """A run begun on the CPU goes on, from its saved state, on the other device."""
    whole = trained(kind, tmp_path / "here")
    last = whole.steps[-1]
    settings, module = (LR, "LR") if kind == "regression" else (LM, "LM")
    short = replace(settings, training=replace(settings.training, stop=last // 2))
    monkeypatch.setitem(globals(), module, short)
    trained(kind, tmp_path / "there", save_every=0)
    monkeypatch.setitem(globals(), module, settings)
    identity = whole.manifest["hash"]
    state = tmp_path / "there" / training.RESUME
    rename(state, identity, tmp_path / "other" / training.RESUME)
    with gpu(monkeypatch) as seen:
        other = trained(kind, tmp_path / "other", save_every=0)
    assert seen.operations > 100
    found, wanted, first = (flat(store.load(step)) for store, step in
                            ((other, last), (whole, last), (whole, 0)))
    # Adam makes as much of a gradient that is zero but for rounding, such as that of the keys'
    # biases: so the whole vector, beside the way it has gone
    assert (found - wanted).norm() < 1e-3 * (wanted - first).norm()


def flat(params):
    return torch.cat([p.flatten() for p in params.values()])


def rename(state, identity, path):
    """The same state as another run's, whose beginning it shares."""
    from devlib.resume import load_state, save_state

    own = CheckpointStore(state.parent).manifest["hash"]
    tensors, facts = load_state(state, own)
    path.parent.mkdir()
    save_state(path, tensors, facts | {"run": identity})


def test_task_sets_are_the_same_on_another_device(tmp_path, monkeypatch):
    here = task_sets.train_and_measure(LR, 64, 0, tmp_path / "here", 4)
    with gpu(monkeypatch):
        there = task_sets.train_and_measure(LR, 64, 0, tmp_path / "there", 4)
    pd.testing.assert_frame_equal(there, here, rtol=2e-3, atol=2e-4)
