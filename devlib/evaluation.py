"""What is measured on every regression checkpoint besides its LLC: loss, predictions, norm."""

import torch
from torch.func import functional_call

from devlib.presets import RegressionSettings
from devlib.tasks import fixed_set, squared_errors

CHUNK = 512  # contexts at a time: activations then stay in the processor's cache


def evaluate(model, params, settings: RegressionSettings, seed) -> dict:
    """Test loss with its standard error, loss and mean-square prediction at each position k, and
    the norm of all weights (Fig. 1b, Fig. 5a, B.3). Units: squared target units."""
    xs, ys = fixed_set(seed, "test", settings.evaluation.samples, settings.task)
    with torch.no_grad():
        predictions = torch.cat([
            functional_call(model, params, (xs[i:i + CHUNK], ys[i:i + CHUNK]))
            for i in range(0, len(xs), CHUNK)]).double()
    errors = squared_errors(predictions, ys.double())
    context_loss = errors.mean(1)
    square = predictions.square().mean(1)
    row = {"loss": context_loss.mean(), "loss_se": context_loss.std() / len(xs)**0.5,
           "msp": square.mean(), "msp_se": square.std() / len(xs)**0.5,
           "weight_norm": sum(p.double().square().sum() for p in params.values()).sqrt()}
    row |= {f"loss_{k}": value for k, value in enumerate(errors.mean(0), 1)}
    row |= {f"msp_{k}": value for k, value in enumerate(predictions.square().mean(0), 1)}
    return {name: float(value) for name, value in row.items()}
