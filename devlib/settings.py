"""Every number of the paper, once.

A field's metadata holds its symbol in the paper, its unit and the section it comes from;
`describe(settings)` lists them. Values follow the paper and, where the paper is silent, the
authors' public code (github.com/timaeus-research/icl).
"""

import dataclasses
import math
from dataclasses import dataclass, field, fields, replace

from devlib.checks import as_number, check_number


def number(default, symbol, unit, section):
    """A dataclass field that knows its symbol, its unit and its place in the paper."""
    return field(default=default, metadata={"symbol": symbol, "unit": unit, "section": section})


# ---------------------------------------------------------------- in-context linear regression


@dataclass(frozen=True)
class RegressionTask:
    """The distribution of contexts (Section 3, F.2.2)."""

    task_dim: int = number(4, "D", "components", "3, F.2")
    examples: int = number(8, "K", "pairs in a context", "3, F.2")
    noise_variance: float = number(0.125, "sigma^2", "squared target units", "3")


@dataclass(frozen=True)
class RegressionModel:
    """The regression transformer (F.2.1)."""

    layers: int = number(2, "L", "blocks", "F.2.1")
    heads: int = number(4, "H", "heads a block", "F.2.1")
    embed_dim: int = number(64, "d_embed", "components", "F.2")
    mlp_dim: int = number(64, "d_mlp", "components", "F.2")
    residual: str = number(
        "doubled", "-", "'doubled': x' = 2x + attn + mlp, the authors' released code; "
        "'standard': x' = x + attn + mlp, the paper's text", "F.2.1")


@dataclass(frozen=True)
class RegressionTraining:
    """Adam under OneCycleLR (F.2). `stop` below `steps` takes the first part of the same run."""

    steps: int = number(500_000, "T", "updates the schedule is made for", "F.2")
    stop: int = number(500_000, "-", "updates taken", "F.2")
    batch: int = number(256, "m", "contexts", "F.2")
    max_lr: float = number(0.003, "eta", "-", "F.2")
    beta1: float = number(0.9, "beta_1", "-", "F.2")
    beta2: float = number(0.999, "beta_2", "-", "F.2")
    pct_start: float = number(0.5, "-", "share of the steps before the peak", "F.2, code")
    div_factor: float = number(249_999.0, "-", "peak over first learning rate", "code")
    log_checkpoints: int = number(100, "-", "steps spaced evenly in log t", "F.2, code")
    linear_checkpoints: int = number(100, "-", "steps spaced evenly in t", "F.2, code")


@dataclass(frozen=True)
class LLCSettings:
    """SGLD and the estimator (A.3, A.4), for the update
    w <- w - (eps/2)(nbeta grad L + gamma (w - w0)) + sqrt(eps) xi."""

    eps: float = number(3e-4, "epsilon", "step size", "A.4.2")
    nbeta: float = number(200 / 3, "n beta", "inverse temperature times samples", "A.4.2, code")
    gamma: float = number(20 / 3, "gamma", "localisation strength", "A.4.2, code")
    batch: int = number(1024, "m", "samples", "A.4.2")
    samples: int = number(2**20, "n", "samples in the fixed set", "A.4.2")
    chains: int = number(10, "C", "chains", "A.4.2")
    draws: int = number(5000, "T", "SGLD steps a chain, burn-in included", "A.4.2")
    burn_in: int | None = number(1000, "-", "first draws left out of the average; None: found "
                                 "from the trace", "A.4.2")
    precision: float | None = number(None, "-", "standard error to stop at, as a share of the "
                                     "estimate, with `draws` as the cap; None: all draws", "-")


# Ours, of what an estimate's error rests on:
MIN_ESS = 200  # below it the MCSE is itself a guess
RELAXATIONS = 5  # of the spring; after so many, what is left of the start is below one percent
TEST_RHAT = 1.05  # above it chains, or their halves, are not averaged


@dataclass(frozen=True)
class StageSettings:
    """Plateaus of the smoothed LLC curve (B.1); the kernel is the authors' choice in code."""

    tolerance: float = number(8.0, "-", "LLC per unit of log(step + 1)", "B.1, code")
    amplitude_low: float = number(1e-3, "-", "least kernel constant", "code")
    amplitude_high: float = number(1e3, "-", "greatest kernel constant", "code")
    length: float = number(3.0, "-", "first length scale, log(step + 1)", "code")
    length_low: float = number(0.5, "-", "least length scale, log(step + 1)", "code")
    length_high: float = number(1e3, "-", "greatest length scale, log(step + 1)", "code")
    restarts: int = number(10, "-", "restarts of the kernel's optimiser", "code")

    def __post_init__(self):
        """Takes a number that comes as its text, as plain papermill hands a page YAML's 4e0.
        Raises UserError for what is no number, and for a tolerance that is not above 0."""
        for name in (f.name for f in fields(self) if f.type is float):
            found = as_number(name, value := getattr(self, name))
            if isinstance(value, str):  # a whole number stays one: it enters names of results
                object.__setattr__(self, name, found)
        check_number("tolerance", self.tolerance, above=0)

    def in_unit(self, unit) -> "StageSettings":
        """The same rule for a curve in another unit: values and errors times `unit`, and so the
        tolerance, and the amplitude's bounds, which are variances, times its square. Boundaries
        are then those of the curve in the LLC's own unit."""
        check_number("unit", unit, above=0)
        return replace(self, tolerance=unit * self.tolerance,
                       amplitude_low=unit**2 * self.amplitude_low,
                       amplitude_high=unit**2 * self.amplitude_high)


@dataclass(frozen=True)
class RegressionEvaluation:
    """What is measured on a checkpoint besides its LLC."""

    samples: int = number(2**15, "-", "test contexts", "3")
    curve_checkpoints: int = number(190, "-", "checkpoints that get an LLC, at most", "A.4.2")


@dataclass(frozen=True)
class RegressionMetrics:
    """What Appendix D measures."""

    samples: int = number(2**14, "-", "contexts for the ICL scores", "D.1.2")
    gains: tuple[float, ...] = number((3.0, 5.0, 10.0, 100.0), "g", "scale of inputs or tasks",
                                      "D.1.3, code")
    ood_samples: int = number(2**13, "-", "contexts for each gain", "D.1.3")
    attention_samples: int = number(2**10, "-", "contexts for the attention scores", "D.2.3")
    head_share: float = number(0.9, "-", "attention, and constancy, that classify a head",
                               "D.2.3, ours")
    collapse: float = number(0.1, "-", "|weight| below which it counts as collapsed", "D.2.4")
    probes: int = number(2**10, "-", "contexts on which outputs are compared", "-")


@dataclass(frozen=True)
class HessianSettings:
    """Trace, largest eigenvalues and spectral density of the Hessian (B.5)."""

    samples: int = number(1024, "-", "contexts", "code")
    checkpoints: int = number(60, "-", "checkpoints that get a trace and eigenvalues, at most",
                              "-")
    eigenvalues: int = number(5, "-", "largest eigenvalues reported", "B.5")
    pairs: int = number(10, "-", "largest eigenvalues found, all taken out of the trace's error",
                        "-")
    tolerance: float = number(0.01, "-", "residual to stop at, as a share of the eigenvalue", "-")
    precision: float = number(0.02, "-", "standard error to stop at, as a share of the trace", "-")
    most_probes: int = number(400, "-", "random vectors behind a trace, at most", "-")
    density_probes: int = number(4, "-", "random vectors behind a spectral density", "-")
    density_steps: int = number(80, "-", "Lanczos steps of each", "-")


@dataclass(frozen=True)
class RegressionSettings:
    """Everything a regression page needs."""

    task: RegressionTask = RegressionTask()
    model: RegressionModel = RegressionModel()
    training: RegressionTraining = RegressionTraining()
    llc: LLCSettings = LLCSettings()
    evaluation: RegressionEvaluation = RegressionEvaluation()
    stages: StageSettings = StageSettings()


# ------------------------------------------------------------------------------ language models

LANGUAGE_NBETA = 100 / math.log(100)  # 21.7, as A.4.1 rounds it: of the paper's batch, by A.5.1


@dataclass(frozen=True)
class LanguageModel:
    """Attention-only transformer with shortformer positions (F.1.1)."""

    layers: int = number(2, "L", "blocks; 1 in Appendix E", "F.1.1")
    heads: int = number(8, "H", "heads a block", "F.1.1")
    embed_dim: int = number(256, "d_model", "components", "F.1.1")
    head_dim: int = number(32, "d_head", "components", "F.1")
    context: int = number(1024, "T", "tokens", "F.1.1")
    vocabulary: int = number(5000, "d_vocab", "tokens", "F.1.2")
    init_sd: float = number(0.05, "-", "sd of the initial weights, 0.8 / sqrt(d_model)", "code")


@dataclass(frozen=True)
class LanguageTraining:
    """AdamW at a constant rate (F.1.3). `stop` below `steps` takes the first part of the same run.
    The paper saved every 10th update and analysed every 100th; here the latter are kept."""

    corpus: str = number("hub", "-", "'hub', 'offline' or 'toy'", "F.1.2")
    steps: int = number(50_000, "-", "updates the checkpoints are spread over", "F.1.3")
    stop: int = number(50_000, "-", "updates taken", "F.1.3")
    batch: int = number(100, "m", "contexts", "F.1.3")
    lr: float = number(1e-3, "eta", "-", "F.1")
    warmup: int = number(0, "-", "updates over which the rate grows to eta", "F.1.3")
    weight_decay: float = number(0.05, "-", "-", "F.1")
    beta1: float = number(0.9, "beta_1", "-", "F.1")
    beta2: float = number(0.999, "beta_2", "-", "F.1")
    log_checkpoints: int = number(0, "-", "steps spaced evenly in log t", "F.1.3")
    linear_checkpoints: int = number(501, "-", "steps spaced evenly in t", "F.1.3")


@dataclass(frozen=True)
class LanguageMetrics:
    """What Section 6 and Appendix C measure. Where windows or sequences are longer than a model's
    context, the metrics shorten them."""

    contexts: int = number(100_000, "-", "validation contexts for the loss and the ICL score",
                           "C.1.3")
    icl_early: tuple[int, int] = number((50, 50), "-", "first and last early token, bos being "
                                        "token 1", "C.1.3")
    icl_late: tuple[int, int] = number((500, 500), "-", "first and last late token, bos being "
                                       "token 1", "C.1.3")
    ablation_contexts: int = number(100_000, "-", "validation contexts without positions",
                                    "C.2.1; number ours")
    positions: tuple[int, ...] = number(
        (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000), "-", "tokens before the one "
        "whose loss is shown", "C.2.1")
    bigram_contexts: int = number(5_000, "n", "validation contexts for the bigram score",
                                  "C.1.1, code")
    bigram_positions: int = number(1, "-", "random positions in each of them", "C.1.1")
    ngrams: tuple[int, ...] = number((2, 3, 4), "n", "tokens in a common n-gram", "6.2, C.1.2")
    ngram_count: int = number(1_000, "-", "common n-grams for each n", "C.1.2")
    ngram_contexts: int = number(100_000, "-", "validation contexts for the loss at position n",
                                 "C.1.2; number ours")
    components: int = number(4, "-", "principal components of W_pos", "C.2.1; number ours")
    previous_sequences: int = number(10_000, "-", "sequences for the previous-token score",
                                     "C.2.3")
    previous_shortest: int = number(16, "-", "tokens in the shortest of them", "C.2.3")
    previous_longest: int = number(64, "-", "tokens in the longest of them", "C.2.3")
    prefix_sequences: int = number(10_000, "-", "sequences for the prefix-matching score", "C.2.4")
    prefix_length: int = number(128, "-", "tokens in each of them", "C.2.4")


@dataclass(frozen=True)
class LanguageEvaluation:
    """Which checkpoints are measured, and what is kept of them for the pages to show."""

    curve_checkpoints: int = number(501, "-", "checkpoints that get metrics and an LLC, at most",
                                    "A.4.1")
    check_checkpoints: int = number(0, "-", "checkpoints whose LLC is estimated a second time, by "
                                    "the paper's chains and draws", "A.4.1")
    check_chains: int = number(20, "C", "chains of that estimate", "A.4.1")
    check_draws: int = number(200, "T", "draws of each, all of them averaged", "A.4.1")
    position_checkpoints: int = number(12, "-", "checkpoints whose W_pos is kept, at most", "-")
    probes: int = number(1_000, "-", "contexts with one place each, where predictions are compared",
                         "-")
    change_contexts: int = number(500, "-", "validation contexts searched for changed predictions",
                                  "C.1.4; number ours")
    changes: int = number(20, "-", "most changed tokens listed for each stage", "C.1.4")
    texts: int = number(2, "-", "contexts shown as coloured text", "C.1.4; number ours")
    text_tokens: int = number(160, "-", "tokens shown of each", "-")


@dataclass(frozen=True)
class LanguageSettings:
    """Everything a language page needs. eps and gamma differ between one and two layers (A.4.1)."""

    model: LanguageModel = LanguageModel()
    training: LanguageTraining = LanguageTraining()
    llc: LLCSettings = LLCSettings(
        eps=0.001, nbeta=LANGUAGE_NBETA, gamma=100.0, batch=100, samples=1_000_000, chains=20,
        draws=200, burn_in=0)
    metrics: LanguageMetrics = LanguageMetrics()
    evaluation: LanguageEvaluation = LanguageEvaluation()
    stages: StageSettings = StageSettings(tolerance=2.0)

    def one_layer(self, stop=None, checkpoints=None):
        """The same for the one-layer model (Appendix E), with the paper's eps and gamma for it;
        ended after `stop` updates and measured at so many `checkpoints`, if given."""
        return replace(self, model=replace(self.model, layers=1),
                       training=replace(self.training, stop=stop or self.training.stop),
                       evaluation=replace(
                           self.evaluation, check_checkpoints=0,
                           curve_checkpoints=checkpoints or self.evaluation.curve_checkpoints),
                       llc=replace(self.llc, eps=0.003, gamma=300.0))


ONE_LAYER = LanguageSettings().one_layer()


def describe(settings) -> list[dict]:
    """One row for each number of a settings dataclass: name, value, symbol, unit, section."""
    return [{"name": f.name, "value": getattr(settings, f.name), **f.metadata}
            for f in fields(settings)]


def as_dict(settings) -> dict:
    """Settings as plain nested dictionaries, for manifests and hashes."""
    return dataclasses.asdict(settings)
