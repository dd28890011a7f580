"""Speed of training the two-layer language model, 16 contexts of 256 tokens, on one thread:
devlib's update in float32, and in bfloat16 where the processor has it, and that of TransformerLens
2.18's HookedTransformer, eager float32, in turns. Rates are tokens a CPU second."""

import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from companion.places import project_root
from devlib.language.model import fast_precision
from devlib.language.parameters import initial_parameters
from devlib.language.train import LanguageTrainer
from tests.bench.language_work import SEED, SETTINGS, batch
from tests.bench.measure import Report, cpu, in_turns, peak_memory, spread
from tests.bench.peer import Peer

TIMES = ("devlib.language.train:LanguageTrainer",)
BARS = {"float32": 2.0, "bfloat16": 3.5}  # times TransformerLens's tokens a second
UPDATES, ROUNDS = 4, 9  # of a measurement, of measurements
TOKENS = SETTINGS.training.batch * SETTINGS.model.context  # of an update
SAME = {"float32": 1e-4, "bfloat16": 1e-2}  # relative difference of losses from the same weights


def rate(trainer):
    """Tokens a CPU second, over some updates."""
    _, seconds = cpu(lambda: [trainer.update() for _ in range(UPDATES)])
    return UPDATES * TOKENS / seconds


def trained_a_little(precision):
    """Prints this process's peak memory in MB after a few updates."""
    trainer = LanguageTrainer(SETTINGS, SEED, batch, precision)
    for _ in range(UPDATES):
        trainer.update()
    print(peak_memory())


def memory(precision) -> int:
    """Peak resident memory, in MB, of a process that trains and does nothing else."""
    code = f"from tests.bench import bench_language as b; b.trained_a_little({precision!r})"
    return int(subprocess.run([sys.executable, "-c", code], cwd=project_root(), check=True,
                              capture_output=True, text=True).stdout)


def main():
    report = Report("language", TIMES)
    trainers = {precision: LanguageTrainer(SETTINGS, SEED, batch, precision)
                for precision in dict.fromkeys(("float32", fast_precision()))}
    with tempfile.TemporaryDirectory() as folder, Peer("transformerlens") as peer:
        weights = str(Path(folder) / "weights.safetensors")
        save_file(initial_parameters(SETTINGS.model, SEED), weights)
        theirs = peer("train", weights=weights, updates=UPDATES)
        for precision, trainer in trainers.items():
            for loss in theirs["losses"]:  # else they would not be doing the same work
                if abs(float(trainer.update()) / loss - 1) > SAME[precision]:
                    raise SystemExit(f"bench language: losses in {precision} are others")
        contestants = {precision: lambda trainer=trainer: rate(trainer)
                       for precision, trainer in trainers.items()}
        contestants["TransformerLens"] = lambda: UPDATES * TOKENS / peer(
            "train", weights=weights, updates=UPDATES)["cpu"]
        rates = in_turns(contestants, ROUNDS)
        versions = peer("versions")
    faster = {precision: spread([ours / plain for ours, plain in
                                 zip(rates[precision], rates["TransformerLens"], strict=True)])
              | {"bar": BARS[precision]} for precision in trainers}
    peaks = {precision: memory(precision) for precision in trainers}
    report.store({"tokens a second": {name: spread(values) for name, values in rates.items()},
                  "times as fast": faster, "tokens an update": TOKENS,
                  "peak MB": peaks | {"TransformerLens": theirs["peak MB"]}},
                 **{"transformer-lens": versions["transformer-lens"]})
    for precision, times in faster.items():
        print(f"{precision}: {spread(rates[precision])['median']:.0f} tokens/s, "
              f"{times['median']:.2f} times TransformerLens's (bar {times['bar']}); "
              f"{peaks[precision]} MB at most, TransformerLens {theirs['peak MB']} MB")
    if "bfloat16" not in trainers:
        print("bfloat16: not measured, since this processor only emulates it")


if __name__ == "__main__":
    main()
