"""The scales of the whole book: the paper's settings (devlib.settings), and smaller ones."""

from dataclasses import dataclass

from devlib.errors import UserError
from devlib.settings import (
    LANGUAGE_NBETA,
    ONE_LAYER,
    HessianSettings,
    LanguageEvaluation,
    LanguageMetrics,
    LanguageModel,
    LanguageSettings,
    LanguageTraining,
    LLCSettings,
    RegressionEvaluation,
    RegressionMetrics,
    RegressionModel,
    RegressionSettings,
    RegressionTask,
    RegressionTraining,
    StageSettings,
    number,
)

CORPORA = ("offline", "toy", "hub")  # what a language model can be trained on


@dataclass(frozen=True)
class CalibrationSettings:
    """What the calibration page tries on the regression run (A.5 to A.7). Step size, nbeta and
    gamma where nothing else is said are those of LLCSettings. The paper's sweep gives the ends of
    its three grids; the spacing between them is ours."""

    eps: tuple[float, ...] = number((1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "epsilon",
                                    "step sizes of the sweep", "A.5.3, code")
    drifts: tuple[float, ...] = number((1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "eps n beta / 2",
                                       "weights of the gradient in the sweep", "A.5.3, code")
    pulls: tuple[float, ...] = number((1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), "eps gamma / 2",
                                      "shares of the way back to w0 in the sweep", "A.5.3, code")
    sweep_draws: int = number(200, "T", "SGLD steps a chain in the sweep", "-")
    early: int = number(9_375, "t", "step of the earlier checkpoint, or nearest", "A.5.3, code")
    checkpoints: int = number(12, "-", "checkpoints of the curves", "-")
    batch: int = number(128, "m", "samples", "-")
    batches: tuple[int, ...] = number((32, 128, 512, 1024), "m", "samples, compared", "-")
    samples: int = number(2**16, "n", "samples in the fixed set", "-")
    chains: int = number(4, "C", "chains", "-")
    draws: int = number(2_000, "T", "SGLD steps a chain, burn-in included", "-")
    burn_in: int = number(500, "-", "first draws left out of the average", "-")
    looks: int = number(100, "-", "steps a chain whose acceptance is computed", "-")


@dataclass(frozen=True)
class TaskSetSettings:
    """Training on finite sets of tasks (D.1.1)."""

    counts: tuple[int, ...] = number((1, 4, 16, 64, 256, 1024), "M", "tasks trained on, 2^k",
                                     "D.1.1; k ours")
    stop: int = number(3_000, "-", "updates of each run", "ours")
    samples: int = number(2**14, "-", "test contexts", "ours")


@dataclass(frozen=True)
class CheckSettings:
    """Where the regression model's LLC is estimated a second time, by the paper's sampler: its
    batch, step size and temperature, but fewer chains and draws, as its standard error says."""

    steps: tuple[int, ...] = number(
        (984, 10_101, 40_292, 126_262, 318_181, 499_999), "t", "checkpoints; none: no check",
        "ours")
    chains: int = number(4, "C", "chains; the paper takes 10", "A.4.2")
    draws: int = number(2000, "T", "SGLD steps a chain, of which the paper leaves out 1,000; it "
                        "takes 5,000", "A.4.2")


@dataclass(frozen=True)
class ProtocolSettings:
    """The LLC by three protocols (ours; companion.protocols). Step size, nbeta and gamma where
    nothing else is said are those of LLCSettings."""

    steps: tuple[int, ...] = number(
        (0, 134, 661, 984, 2_181, 5_050, 8_211, 12_221, 18_190, 27_072, 40_404, 60_606, 95_959,
         146_464, 217_171, 328_282, 499_999), "t", "checkpoints that get both starts", "ours")
    batch: int = number(128, "m", "samples", "ours; the paper takes 1,024")
    samples: int = number(2**16, "n", "samples in the fixed set", "ours; the paper takes 2^20")
    chains: int = number(3, "C", "chains from each start", "ours")
    draws: int = number(500, "T", "SGLD steps of each", "ours")
    burn_in: int = number(250, "-", "first draws left out of the average", "ours")
    position_samples: int = number(2**12, "-", "test contexts for the loss at each position",
                                   "ours")
    long_steps: tuple[int, ...] = number((217_171, 499_999), "t", "checkpoints that get chains as "
                                         "long as the paper's", "ours")
    long_chains: int = number(3, "C", "chains; the paper takes 10", "A.4.2")
    long_draws: int = number(5_000, "T", "SGLD steps a chain, all of them averaged", "A.4.2, code")
    prior_steps: tuple[int, ...] = number((), "t", "checkpoints that get longer chains from the "
                                          "prior", "ours")
    prior_chains: int = number(3, "C", "chains", "ours")
    prior_draws: int = number(2_000, "T", "SGLD steps of each, half of them burn-in", "ours")
    block: int = number(100, "-", "draws in a mean of the climb", "ours")
    small_steps: tuple[int, ...] = number((12_221,), "t", "checkpoints where the paper's "
                                          "target is sampled by a smaller step", "ours")
    small_factor: float = number(10.0, "-", "of the paper's step over it", "ours")
    small_chains: int = number(2, "C", "chains from each start", "ours")
    small_draws: int = number(4_000, "T", "SGLD steps of each, half of them burn-in", "ours")
    local_ratio: float = number(0.1, "-", "the spring's sd over the weights' root mean square",
                                "ours")
    curvature_samples: int = number(1024, "-", "contexts behind the largest curvature", "ours")
    profile_steps: tuple[int, ...] = number((12_221, 40_404, 499_999), "t",
                                            "checkpoints of the profile", "ours")
    profile_nbetas: tuple[float, ...] = number((200 / 3, 2_000 / 3, 20_000 / 3), "n beta",
                                               "of the profile", "ours")
    profile_ratios: tuple[float, ...] = number((0.1, 0.3, 1.0), "-", "the spring's sd over the "
                                               "weights' root mean square", "ours")
    profile_chains: int = number(2, "C", "chains from each start", "ours")
    profile_draws: int = number(300, "T", "SGLD steps of each, half of them burn-in", "ours")
    compile: bool = number(True, "-", "whether a chain's step is compiled", "ours")


@dataclass(frozen=True)
class LanguageProtocolSettings:
    """The LLC of a few checkpoints of the two-layer language model by other batches, starts and
    springs (ours; companion.protocols_language)."""

    steps: tuple[int, ...] = number((100, 1_028, 4_000, 17_000), "t", "checkpoints, or nearest",
                                    "ours")
    target_batches: tuple[int, ...] = number((2, 16, 100), "m", "contexts a draw; the paper takes "
                                             "100, of four times the tokens", "A.4.1")
    target_chains: int = number(2, "C", "chains", "ours; the paper takes 20")
    target_draws: int = number(80, "T", "SGLD steps a chain, half of them burn-in; where "
                               "batches are compared, half as many", "ours; the paper takes 200")
    long_steps: tuple[int, ...] = number((17_000,), "t", "checkpoints that get long chains", "ours")
    long_chains: int = number(4, "C", "chains from each start", "ours")
    long_draws: int = number(600, "T", "SGLD steps of each, half of them burn-in", "ours")
    profile_nbetas: tuple[float, ...] = number(
        (LANGUAGE_NBETA / 10, LANGUAGE_NBETA, 10 * LANGUAGE_NBETA), "n beta", "of the profile",
        "ours")
    profile_ratios: tuple[float, ...] = number((0.1, 1.0), "-", "the spring's sd over the "
                                               "weights' root mean square", "ours")
    profile_chains: int = number(2, "C", "chains from each start", "ours")
    profile_draws: int = number(80, "T", "SGLD steps of each, half of them burn-in", "ours")
    profile_curvature_samples: int = number(8, "-", "contexts behind the largest curvature", "ours")
    reading_steps: tuple[int, ...] = number(
        (256, 500, 779, 1_028, 2_000, 4_000, 6_500, 9_000, 17_000), "t", "checkpoints whose "
        "prefix matching and bigram score are read another way", "ours")
    reading_source_contexts: int = number(80, "-", "validation contexts of each source", "ours")


# -------------------------------------------------------------------------------------- presets


@dataclass(frozen=True)
class Preset:
    """One scale of the whole book. `description` is what a figure of the regression model says of
    it, `language_description` what one of a language model says."""

    name: str
    description: str
    regression: RegressionSettings = RegressionSettings()
    language: LanguageSettings = LanguageSettings()
    one_layer: LanguageSettings = ONE_LAYER
    calibration: CalibrationSettings = CalibrationSettings()
    metrics: RegressionMetrics = RegressionMetrics()
    task_sets: TaskSetSettings = TaskSetSettings()
    hessian: HessianSettings = HessianSettings()
    check: CheckSettings = CheckSettings()
    protocols: ProtocolSettings = ProtocolSettings()
    language_protocols: LanguageProtocolSettings = LanguageProtocolSettings()
    kept: int = 30  # checkpoints of a run that the repository holds for readers
    language_description: str = "the paper's settings throughout"


# Checkpoints that get both starts and chains of the paper's length: over the whole run, the ends of
# the paper's stages among them.
PROTOCOL_STEPS = (0, 134, 661, 984, 2_181, 5_050, 8_211, 10_101, 12_221, 18_190, 27_072, 40_404,
                  60_606, 95_959, 126_262, 146_464, 217_171, 318_181, 328_282, 499_999)

PAPER = Preset(
    "paper", "the paper's settings throughout",
    protocols=ProtocolSettings(steps=PROTOCOL_STEPS, long_steps=PROTOCOL_STEPS, long_chains=10,
                               prior_steps=PROTOCOL_STEPS))

LAPTOP_LANGUAGE = LanguageSettings(
    model=LanguageModel(heads=4, embed_dim=64, head_dim=16, context=128, vocabulary=1024,
                        init_sd=0.1),
    training=LanguageTraining(corpus="offline", steps=2_000, stop=2_000, batch=32, lr=4e-3,
                              warmup=100, log_checkpoints=14, linear_checkpoints=21),
    llc=LLCSettings(eps=1e-3, nbeta=LANGUAGE_NBETA, gamma=100.0, batch=4, samples=512, chains=4,
                    draws=60, burn_in=25),
    metrics=LanguageMetrics(
        contexts=800, icl_early=(30, 50), icl_late=(100, 128), ablation_contexts=400,
        bigram_contexts=500, bigram_positions=8, ngram_count=500, ngram_contexts=800,
        previous_sequences=500, prefix_sequences=500),
    evaluation=LanguageEvaluation(curve_checkpoints=32, check_checkpoints=1,
                                  position_checkpoints=8, probes=500,
                                  change_contexts=200, text_tokens=120))

# The paper's own run, cut off: the schedule is still made for 500,000 steps, so the checkpoints
# up to `stop` are those of a full run.
LAPTOP = Preset(
    "laptop",
    "the first 6,300 of the paper's 500,000 steps; LLC from smaller batches and fewer draws",
    RegressionSettings(
        training=RegressionTraining(stop=6_300),
        llc=LLCSettings(batch=64, samples=2**14, chains=4, draws=350, burn_in=150),
        evaluation=RegressionEvaluation(samples=2**13, curve_checkpoints=30)),
    calibration=CalibrationSettings(
        eps=(1e-4, 3e-4, 1e-3), drifts=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        pulls=(1e-3, 1e-2, 1e-1, 1.0), sweep_draws=40, early=2_490, checkpoints=8,
        batch=64, batches=(16, 64, 128), samples=2**12, chains=3, draws=200, burn_in=100,
        looks=25),
    metrics=RegressionMetrics(samples=2**12, ood_samples=2**11, attention_samples=2**9),
    task_sets=TaskSetSettings(counts=(1, 16, 256), stop=2_000, samples=2**12),
    hessian=HessianSettings(samples=128, checkpoints=10, precision=0.1, density_probes=1,
                            density_steps=30),
    check=CheckSettings(steps=()),
    protocols=ProtocolSettings(
        batch=64, samples=2**14, chains=2, draws=240, burn_in=120, long_steps=(), small_steps=(),
        curvature_samples=256, block=40, profile_steps=(6_299,),
        profile_nbetas=(200 / 3, 2_000 / 3), profile_ratios=(0.1, 1.0), profile_draws=100),
    language=LAPTOP_LANGUAGE,
    one_layer=LAPTOP_LANGUAGE.one_layer(),
    language_protocols=LanguageProtocolSettings(
        steps=(2_000,), target_batches=(4, 32), target_draws=60, long_steps=(),
        profile_nbetas=(LANGUAGE_NBETA / 10, LANGUAGE_NBETA), profile_ratios=(0.1, 1.0),
        profile_draws=40, reading_steps=(500, 2_000)),
    language_description="a model a twentieth of the paper's in size, on another text, for 1/625 "
                         "of the paper's tokens",
    kept=8)

# The paper's model by the paper's optimiser, in contexts of a quarter and batches of a twenty-fifth
# of its tokens: steps, not tokens, decide when the first stages come. The run is the first part of
# the paper's 50,000 updates, up to its last boundary, 17,000 (a later one could not be told from
# the end). A larger rate brings the induction circuit and another LLC curve (data/larger_rate).
PUBLISHED_LANGUAGE = LanguageSettings(
    model=LanguageModel(context=256),
    training=LanguageTraining(corpus="offline", stop=17_001, batch=16, log_checkpoints=40,
                              linear_checkpoints=101),
    llc=LLCSettings(eps=1e-3, nbeta=LANGUAGE_NBETA, gamma=100.0, batch=2, samples=512, chains=4,
                    draws=80, burn_in=40),
    metrics=LanguageMetrics(
        contexts=700, icl_early=(40, 60), icl_late=(200, 256), ablation_contexts=250,
        bigram_contexts=500, bigram_positions=8, ngram_contexts=1_800,
        previous_sequences=1_000, prefix_sequences=1_000),
    evaluation=LanguageEvaluation(curve_checkpoints=52, check_checkpoints=2))

PUBLISHED = Preset(
    "published",
    "the paper's training run in full; LLC from smaller batches and fewer draws",
    RegressionSettings(
        llc=LLCSettings(batch=128, samples=2**16, chains=8, draws=1000, burn_in=None,
                        precision=0.02),
        evaluation=RegressionEvaluation(samples=2**16)),
    protocols=ProtocolSettings(steps=PROTOCOL_STEPS, long_steps=PROTOCOL_STEPS, long_chains=4,
                               prior_steps=PROTOCOL_STEPS),
    language=PUBLISHED_LANGUAGE,
    one_layer=PUBLISHED_LANGUAGE.one_layer(stop=4_001, checkpoints=30),
    language_description="the paper's model and rate on another text, in contexts of a quarter and "
                         "batches of a twenty-fifth of the paper's tokens, for a third of its "
                         "steps (one layer: a thirteenth)")

SMOKE_LANGUAGE = LanguageSettings(
    model=LanguageModel(heads=2, embed_dim=32, head_dim=16, context=64, vocabulary=64),
    training=LanguageTraining(corpus="toy", steps=300, stop=300, batch=8, lr=1e-2, warmup=20,
                              log_checkpoints=7, linear_checkpoints=4),
    llc=LLCSettings(eps=1e-3, nbeta=LANGUAGE_NBETA, gamma=100.0, batch=4, samples=64, chains=3,
                    draws=24, burn_in=8),
    metrics=LanguageMetrics(
        contexts=100, ablation_contexts=100, icl_early=(8, 12), icl_late=(48, 64),
        bigram_contexts=50, bigram_positions=4, ngram_count=100, ngram_contexts=100,
        previous_sequences=60, prefix_sequences=60),
    evaluation=LanguageEvaluation(curve_checkpoints=8, check_checkpoints=2, check_chains=4,
                                  check_draws=20, position_checkpoints=3, probes=50,
                                  change_contexts=20, changes=5, text_tokens=40),
    stages=StageSettings(tolerance=2.0, restarts=0))

SMOKE_DESCRIPTION = (
    "a few steps of a tiny model: it shows that the page runs, and nothing of the paper")

# Too small to show a stage: it keeps every line of the computation alive in a test.
SMOKE = Preset(
    "smoke",
    SMOKE_DESCRIPTION,
    RegressionSettings(
        task=RegressionTask(examples=4),
        model=RegressionModel(embed_dim=16, mlp_dim=16),
        training=RegressionTraining(steps=600, stop=600, batch=64, log_checkpoints=8,
                                    linear_checkpoints=4),
        llc=LLCSettings(batch=32, samples=256, chains=3, draws=40, burn_in=16),
        evaluation=RegressionEvaluation(samples=512, curve_checkpoints=7),
        stages=StageSettings(restarts=0)),
    calibration=CalibrationSettings(
        eps=(1e-4, 1e-3), drifts=(1e-2, 1e-1), pulls=(1e-3, 1e-1), sweep_draws=12, early=100,
        checkpoints=3, batch=32, batches=(16, 32), samples=256, chains=2, draws=16, burn_in=8,
        looks=8),
    metrics=RegressionMetrics(samples=256, ood_samples=128, attention_samples=64, probes=64),
    task_sets=TaskSetSettings(counts=(1, 4), stop=60, samples=256),
    hessian=HessianSettings(samples=32, checkpoints=4, pairs=5, precision=0.2, most_probes=20,
                            density_probes=1, density_steps=10),
    check=CheckSettings(steps=(100, 599), chains=2, draws=30),
    protocols=ProtocolSettings(
        steps=(0, 100, 599), batch=32, samples=256, chains=2, draws=40, burn_in=20,
        long_steps=(599,), long_chains=2, long_draws=60, prior_steps=(599,), prior_chains=2,
        prior_draws=60, small_steps=(599,),
        small_draws=40, curvature_samples=64, position_samples=128, block=10,
        profile_steps=(599,), profile_nbetas=(200 / 3,), profile_ratios=(0.3,), profile_draws=16,
        compile=False),
    language=SMOKE_LANGUAGE,
    one_layer=SMOKE_LANGUAGE.one_layer(),
    language_protocols=LanguageProtocolSettings(
        steps=(0, 299), target_batches=(4, 8), target_draws=20, long_steps=(299,),
        long_chains=2, long_draws=24, profile_nbetas=(LANGUAGE_NBETA,),
        profile_ratios=(0.1, 1.0), profile_draws=20, profile_curvature_samples=4,
        reading_steps=(0, 299)),
    language_description=SMOKE_DESCRIPTION,
    kept=4)

PRESETS = {preset.name: preset for preset in (SMOKE, LAPTOP, PUBLISHED, PAPER)}


def get(name: str) -> Preset:
    """The preset of that name. Raises UserError with the names there are."""
    if name not in PRESETS:
        raise UserError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
