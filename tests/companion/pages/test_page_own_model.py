"""The models of the page, which stand for anyone's, are measured and left as they were."""

import pytest
import torch

import devlib
from companion.pages import own_model

QUICK = {"loss": devlib.next_token, "batch_size": 8, "chains": 1, "cap_draws": 16, "eps": 1e-4,
         "vectorised": False}


def test_the_net_learns_and_its_checkpoints_are_of_the_way_there():
    net, kept = own_model.trained()
    x, y = own_model.bars()
    assert net.training and sum(p.numel() for p in net.parameters()) == 150
    assert tuple(kept) == own_model.KEPT
    assert all(torch.equal(kept[own_model.TRAINING][name], p)
               for name, p in net.named_parameters())
    with torch.no_grad():
        assert (net.eval()(x).argmax(1) == y).double().mean() > 0.9


@pytest.mark.parametrize("make", [own_model.hugging_face, own_model.transformer_lens])
def test_models_of_other_libraries_are_left_as_they_were(make):
    """Every name of every parameter, with its tensor and its value, and every module's mode."""
    model = make()
    if model is None:
        pytest.skip("its library is not installed")
    held = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    values = {name: p.detach().clone() for name, p in held.items()}
    modes = [module.training for module in model.modules()]
    found = devlib.measure(model, own_model.texts(16), **QUICK)
    again = devlib.measure(model, {"input_ids": own_model.texts(16)}, **QUICK)
    assert (found.draws.losses == again.draws.losses).all()
    after = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    assert held.keys() == after.keys() and all(held[name] is after[name] for name in held)
    assert all(torch.equal(values[name], p) for name, p in after.items())
    assert modes == [module.training for module in model.modules()]


def test_each_library_has_an_answer_in_each_row():
    table = own_model.comparison()
    assert table.shape == (len(own_model.FEATURES), 4)
    assert table.map(bool).to_numpy().all() and table.index.is_unique
    assert own_model.NF not in set(table["devlib"])
