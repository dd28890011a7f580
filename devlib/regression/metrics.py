"""The metrics of Appendix D: what a regression transformer does, and what it is made of; and what
is measured on every checkpoint besides its LLC: loss, predictions, norm."""

import torch
from torch.func import functional_call

from devlib.devices import move, of
from devlib.means import mean_and_se, with_se
from devlib.regression.task import fixed_set, sample_contexts, squared_errors
from devlib.rng import generator
from devlib.settings import RegressionMetrics, RegressionSettings

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
    row = with_se("loss", mean_and_se(errors.mean(1)))
    row |= with_se("msp", mean_and_se(predictions.square().mean(1)))
    row["weight_norm"] = sum(p.double().square().sum() for p in params.values()).sqrt()
    row |= {f"loss_{k}": value for k, value in enumerate(errors.mean(0), 1)}
    row |= {f"msp_{k}": value for k, value in enumerate(predictions.square().mean(0), 1)}
    return {name: float(value) for name, value in row.items()}


PARTS = {"x": slice(2, None, 2), "y": slice(1, None, 2)}  # queries; the first sees only itself


# ------------------------------------------------------------------------------------- behaviour


def icl_scores(errors):
    """ICL_{1:h} = loss_h - loss_1 and ICL_{h:K} = loss_K - loss_h with h = K / 2 (D.1.2; h = 4 in
    the paper), of squared errors (B, K): ((early, se), (late, se)). Below zero: later examples
    help."""
    half = errors.shape[1] // 2
    return (mean_and_se(errors[:, half - 1] - errors[:, 0]),
            mean_and_se(errors[:, -1] - errors[:, half - 1]))


def out_of_distribution(model, params, settings: RegressionSettings, seed, samples, *,
                        input_gain=1.0, task_gain=1.0, noise_variance=None):
    """(MSE / g^2, se) and (mean-square prediction / g^2, se) on contexts whose inputs or tasks
    are scaled by a gain g (D.1.3, eqs. 18, 19). Gains share their contexts, up to the scale."""
    square = (input_gain * task_gain) ** 2
    xs, ys = move(sample_contexts(
        generator(seed, "out of distribution"), samples, settings.task, input_gain=input_gain,
        task_gain=task_gain, noise_variance=noise_variance), of(params))
    predictions = predict(model, params, xs, ys)
    errors = squared_errors(predictions, ys.double()).mean(1)
    return mean_and_se(errors / square), mean_and_se(predictions.square().mean(1) / square)


def prior_distances(model, params, xs, ys, tasks):
    """Mean-square distance of the predictions to zero and to the task prior x . mean(w) over the
    finite set `tasks` (M, D) (D.1.1): ((to zero, se), (to the prior, se))."""
    predictions = predict(model, params, xs, ys)
    prior = xs.double() @ move(tasks, xs.device).double().mean(0)
    return (mean_and_se(predictions.square().mean(1)),
            mean_and_se((predictions - prior).square().mean(1)))


def behaviour(model, params, settings: RegressionSettings, metrics: RegressionMetrics, seed):
    """One row of the behaviour table: ICL scores and, for each gain, normalised MSE and output
    scale of OOD inputs and tasks, all with standard errors.

    `icl_early_slip` and `icl_late_slip` repeat the ICL scores with the noise of the released
    evaluation, whose standard deviation was sigma^2 where sigma was meant.
    """
    row = {}
    for suffix, variance in (("", None), ("_slip", settings.task.noise_variance**2)):
        xs, ys = move(sample_contexts(generator(seed, "behaviour"), metrics.samples,
                                       settings.task, noise_variance=variance), of(params))
        errors = squared_errors(predict(model, params, xs, ys), ys.double())
        for name, score in zip(("icl_early", "icl_late"), icl_scores(errors), strict=True):
            row |= with_se(name + suffix, score)
    for family in ("input", "task"):
        for gain in metrics.gains:
            mse, scale = out_of_distribution(model, params, settings, seed, metrics.ood_samples,
                                             **{f"{family}_gain": gain})
            row |= with_se(f"ood_{family}_{gain:g}", mse)
            row |= with_se(f"scale_{family}_{gain:g}", scale)
    return row


# ------------------------------------------------------------------------------------- structure


def explained(weight):
    """sigma_i^2 / sum sigma^2 of a matrix, largest first (D.2.1): the share of the variance that
    each component explains."""
    squares = torch.linalg.svdvals(weight.double()).square()
    return squares / squares.sum()


def alignment(a, b):
    """Cosines of the principal angles between the column spaces of a (E, m) and b (E, n), largest
    first (D.2.2): (min(m, n),)."""
    bases = [torch.linalg.qr(matrix.double()).Q for matrix in (a, b)]
    return torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(max=1)


def effective_unembedding(params):
    """Weights (E,) and bias of the read-out y_hat = w_eff . normalised + b_eff (D.2.4):
    w_eff = W_U[0] gamma, b_eff = W_U[0] . beta + b_U[0]."""
    read = params["unembed.weight"][0].double()
    gain, shift = (params[f"unembed_ln.{name}"].double() for name in ("weight", "bias"))
    return read * gain, read @ shift + params["unembed.bias"][0].double()


def layer_norms(params):
    """Names of the LayerNorms, in the order of the forward pass."""
    blocks = sorted(name.removesuffix(".weight") for name in params
                    if name.startswith("blocks.") and name.split(".")[2].startswith("ln")
                    and name.endswith(".weight"))
    return [*blocks, "unembed_ln"]


def collapsed(weights, threshold):
    """Fraction of the weights with |w| < threshold (D.2.4, D.2.5)."""
    return (weights.abs() < threshold).double().mean()


def structure(params, metrics: RegressionMetrics):
    """One row of the structure table: shares of W_E and W_pos explained by each component, cosines
    between their column spaces, and for every LayerNorm and the effective read-out the fraction of
    collapsed weights with the mean and spread of weights and biases."""
    row = {}
    for name, weight in (("embed", "embed.weight"), ("position", "position.weight")):
        row |= _numbered(name, explained(params[weight]))
    row |= _numbered("cosine", alignment(params["embed.weight"], params["position.weight"]))
    for name in layer_norms(params):
        for kind in ("weight", "bias"):
            values = params[f"{name}.{kind}"].double()
            row |= {f"{name}_{kind}_mean": values.mean(), f"{name}_{kind}_sd": values.std()}
        row[f"{name}_collapsed"] = collapsed(params[f"{name}.weight"], metrics.collapse)
    weights, bias = effective_unembedding(params)
    row |= {"effective_collapsed": collapsed(weights, metrics.collapse),
            "effective_mean": weights.mean(), "effective_sd": weights.std(),
            "effective_bias": bias}
    return {name: float(value) for name, value in row.items()}


def _numbered(name, values):
    return {f"{name}_{i}": value for i, value in enumerate(values, 1)}


# ------------------------------------------------------------------------------------- attention


def attention_entropy(attention):
    """Normalised entropy of each query's attention, in [0, 1] (D.2.3, eqs. 20, 21):
    -sum_{j <= k} a_kj log2 a_kj / log2 k. attention (..., T, T) -> (..., T - 1), k from 2, as the
    first token has no choice."""
    tokens = attention.shape[-1]
    bits = torch.special.entr(attention).sum(-1) / torch.log(torch.tensor(2.0))
    return bits[..., 1:] / torch.arange(2, tokens + 1, device=bits.device).log2()


def attention_variability(attention):
    """How far each query's attention strays from its mean over contexts, in [0, 1] (D.2.3,
    eq. 22): E sum_j |a_kj - mean a_kj| / (2 sum_j mean a_kj). attention (B, ..., T, T) ->
    (..., T)."""
    mean = attention.mean(0)
    return (attention - mean).abs().sum(-1).mean(0) / (2 * mean.sum(-1))


def heads(model, params, settings: RegressionSettings, metrics: RegressionMetrics, seed):
    """The rows of one checkpoint in the table of heads: for each block, head and part (queries at
    x-tokens, queries at y-tokens; D.2.3) normalised entropy, variability, and the attention to
    itself, to the previous token, to all x- and to all y-tokens. The first token, which can only
    attend to itself, is left out."""
    xs, ys = move(sample_contexts(generator(seed, "attention"), metrics.attention_samples,
                                   settings.task), of(params))
    with torch.no_grad():
        patterns = functional_call(_Attention(model), {f"model.{name}": value for name, value
                                                       in params.items()}, (xs, ys))
    return [row for block, attention in enumerate(patterns.double(), 1)  # (B, H, T, T)
            for row in _heads_of_block(block, attention)]


def _heads_of_block(block, attention):
    columns = torch.arange(attention.shape[-1], device=attention.device)
    per_query = {  # (H, T)
        "entropy": torch.nn.functional.pad(attention_entropy(attention).mean(0), (1, 0)),
        "variability": attention_variability(attention),
        "self": attention.diagonal(dim1=-2, dim2=-1).mean(0),
        "previous": torch.nn.functional.pad(
            attention.diagonal(-1, dim1=-2, dim2=-1).mean(0), (1, 0)),
        "x": attention[..., columns % 2 == 0].sum(-1).mean(0),
        "y": attention[..., columns % 2 == 1].sum(-1).mean(0)}
    return [{"block": block, "head": head + 1, "part": part,
             **{name: float(values[head, queries].mean()) for name, values in per_query.items()}}
            for head in range(attention.shape[1]) for part, queries in PARTS.items()]


class _Attention(torch.nn.Module):
    """The model's attention as a forward pass, which is what functional_call calls."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, xs, ys):
        return self.model.attention(xs, ys)
