"""On a real GPU, where there is one: what test_devices shows on a stand-in, and what a stand-in
does not have: kernels of its own, recorded and replayed (devlib.fast)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from companion import regression
from companion.presets import SMOKE
from devlib.devices import move
from devlib.fast import compiled
from devlib.language.model import per_sample_loss
from devlib.regression.task import training_batch
from devlib.regression.train import Trainer
from devlib.sampling import SGLD, Chains
from devlib.sampling.sgld import RMSpropSGLD
from tests.test_devices import LM_PARAMS, LR, LR_PARAMS, MEASURES, flat, forget, numbers  # noqa: F401

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(),
                                reason="no GPU that torch finds: a machine with one")
GPU = torch.device("cuda")


@pytest.mark.parametrize("name", MEASURES)
def test_a_measurement_is_the_same_on_a_gpu(name, forget, monkeypatch):  # noqa: F811
    measure, params = MEASURES[name]
    monkeypatch.setenv("DEVLIB_DEVICE", "cpu")
    here = numbers(measure(params))
    forget()
    monkeypatch.setenv("DEVLIB_DEVICE", "cuda")
    there = numbers(measure(move(params)))
    pd.testing.assert_frame_equal(there, here, rtol=5e-3, atol=5e-4)


def test_a_recorded_step_trains_as_the_cpu_does(monkeypatch):
    found = {}
    for name, where, compile in (("cpu", "cpu", False), ("plain", GPU, False),
                                 ("recorded", GPU, True)):
        settings = replace(LR, training=replace(LR.training, stop=40))
        trainer = Trainer(settings, 0, compile=compile, where=str(where))
        first = trainer.w.clone()
        losses = [float(trainer.update()) for _ in range(40)]
        found[name] = trainer.w.cpu(), (trainer.w - first).norm().cpu(), losses
    for name in ("plain", "recorded"):
        # Adam makes much of gradients that are zero but for rounding: the whole way, then
        assert (found[name][0] - found["cpu"][0]).norm() < 5e-3 * found["cpu"][1]
        np.testing.assert_allclose(found[name][2], found["cpu"][2], rtol=1e-3)


@pytest.mark.parametrize("sampler", [SGLD(1e-4, 10.0, 1.0),
                                     RMSpropSGLD(1e-5, 10.0, 1.0, decay=0.9)],
                         ids=["plain", "rmsprop"])
@pytest.mark.parametrize("batch_size", [None, 16], ids=["whole set", "batches"])
def test_recorded_chains_are_the_cpus(sampler, batch_size):
    """All chains at once, one after another, recorded or not, gone on with: the same draws."""
    loss = regression.model_loss(LR)
    data = training_batch(0, 0, 64, LR.task)

    def chains(where, **options):
        run = Chains(loss, move(LR_PARAMS, where), move(data, where), sampler, chains=3, seed=1,
                     batch_size=batch_size, **options)
        for draws in (7, 5):
            run.extend(draws)
        return run.draws(0).losses, run.w.cpu()

    losses, w = chains(torch.device("cpu"), vectorised=False, compile=False)
    for options in ({}, {"compile": False}, {"vectorised": False},
                    {"vectorised": False, "compile": False}):
        other, end = chains(GPU, **options)
        np.testing.assert_allclose(other, losses, rtol=1e-4)
        assert (end - w).abs().max() < 1e-4


def test_what_a_recorded_function_gave_stays():
    double = compiled(lambda x: (2 * x, x.sum()))
    results = [double(torch.full((5,), float(i), device=GPU)) for i in range(4)]
    assert [float(sum_) for _, sum_ in results] == [0.0, 5.0, 10.0, 15.0]
    assert [float(twice[0]) for twice, _ in results] == [0.0, 2.0, 4.0, 6.0]


def test_bfloat16_on_a_gpu_is_near_float32():
    model = SMOKE.language.model
    gen = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocabulary, (8, model.context), generator=gen)
    here = per_sample_loss(model)(LM_PARAMS, (tokens,))
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 1e-2)):
        there = per_sample_loss(model, precision)(move(LM_PARAMS, GPU), (move(tokens, GPU),))
        np.testing.assert_allclose(there.cpu(), here, rtol=tolerance)
    assert flat(move(LM_PARAMS, GPU)).device.type == "cuda"
