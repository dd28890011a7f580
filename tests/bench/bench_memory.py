"""Peak resident memory of one process for each preset and kind of work, data/bench/memory.json.

Each in a Python of its own: a few updates, or a few draws of one chain on the preset's whole set.
Tokens are random: the text itself is a memory map. The paper's language
models are left out, as a GPU's matter: there a million contexts of 1,024 tokens are 8.4 GB.
"""

import json
import subprocess
import sys

import torch

from companion import presets
from companion.places import project_root
from devlib.language import model as language_loss
from devlib.language.parameters import initial_parameters
from devlib.language.train import LanguageTrainer
from devlib.regression.model import MICROBATCH, build_model, per_sample_loss
from devlib.regression.task import fixed_set
from devlib.regression.train import Trainer
from devlib.sampling import SGLD
from devlib.sampling.chains import Chains
from tests.bench.measure import Report

TIMES = ("devlib.regression.train:Trainer", "devlib.language.train:LanguageTrainer",
         "devlib.sampling:Chains")
PRESETS = ("smoke", "laptop", "published", "paper")
STEPS = 2


def main(which=PRESETS, **where):
    report, found = Report("memory", TIMES, **where), {}
    for preset in which:
        for work in WORK:
            if preset != "paper" or work.startswith("regression"):
                found.setdefault(work, {})[preset] = measure(preset, work)
                print(f"{preset:10} {work:20} {found[work][preset]:6} MB", flush=True)
    report.store({"peak MB": found})


def measure(preset, work) -> int:
    code = ("from tests.bench import bench_memory, measure; "
            f"bench_memory.WORK[{work!r}]({preset!r}); print(measure.peak_memory())")
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=project_root(), check=True,
                                     capture_output=True, text=True).stdout)


def regression_training(preset):
    trainer = Trainer(presets.get(preset).regression, 0, compile=False)
    for _ in range(STEPS):
        trainer.update()


def regression_llc(preset):
    settings = presets.get(preset).regression
    model = build_model(settings, 0)
    _chain(per_sample_loss(model), dict(model.named_parameters()),
           fixed_set(0, "llc", settings.llc.samples, settings.task), settings.llc, MICROBATCH)


def language_training(preset):
    settings = presets.get(preset).language
    tokens = _tokens(settings, settings.training.batch)
    trainer = LanguageTrainer(settings, 0, lambda _: tokens, "float32")
    for _ in range(STEPS):
        trainer.update()


def language_llc(preset):
    settings = presets.get(preset).language
    _chain(language_loss.per_sample_loss(settings.model), initial_parameters(settings.model, 0),
           (_tokens(settings, settings.llc.samples),), settings.llc)


def _chain(loss, params, data, llc, microbatch=None):
    """A few draws; the loss of w0 is taken of a batch, as its pass over the set needs no more
    memory than the set."""
    Chains(loss, params, data, SGLD(llc.eps, llc.nbeta, llc.gamma), chains=1, vectorised=False,
           batch_size=llc.batch, compile=False, microbatch=microbatch,
           init_losses=torch.zeros(len(data[0]))).extend(STEPS)


def _tokens(settings, contexts):
    return torch.randint(settings.model.vocabulary, (contexts, settings.model.context))


WORK = {"regression training": regression_training, "regression LLC": regression_llc,
        "language training": language_training, "language LLC": language_llc}


if __name__ == "__main__":
    main()
