"""What is measured on every regression checkpoint besides its LLC: loss, predictions, norm."""

import torch
from torch.func import functional_call

from devlib.devices import move, of
from devlib.presets import RegressionSettings
from devlib.tasks import fixed_set, squared_errors

CHUNK = 512  # contexts at a time: activations then stay in the processor's cache


def predict(model, params, xs, ys):
    """The model's predictions at these parameters, (B, K), float64."""
    with torch.no_grad():
        return torch.cat([functional_call(model, params, chunk) for chunk in
                          zip(xs.split(CHUNK), ys.split(CHUNK), strict=True)]).double()


def evaluate(model, params, settings: RegressionSettings, seed) -> dict:
    """Test loss with its standard error, loss and mean-square prediction at each position k, and
    the norm of all weights (Fig. 1b, Fig. 5a, B.3). Units: squared target units."""
    xs, ys = move(fixed_set(seed, "test", settings.evaluation.samples, settings.task),
                   of(params))
    predictions = predict(model, params, xs, ys)
    errors = squared_errors(predictions, ys.double())
    context_loss = errors.mean(1)
    square = predictions.square().mean(1)
    row = {"loss": context_loss.mean(), "loss_se": context_loss.std() / len(xs)**0.5,
           "msp": square.mean(), "msp_se": square.std() / len(xs)**0.5,
           "weight_norm": sum(p.double().square().sum() for p in params.values()).sqrt()}
    row |= {f"loss_{k}": value for k, value in enumerate(errors.mean(0), 1)}
    row |= {f"msp_{k}": value for k, value in enumerate(predictions.square().mean(0), 1)}
    return {name: float(value) for name, value in row.items()}
