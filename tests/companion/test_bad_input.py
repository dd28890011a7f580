"""What a user can get wrong, over every command and parameter: one line that says what to do, exit
code 2, and nothing written. (tests/companion/test_cli.py has the commonest.)"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from companion import results, results_language
from companion.cli import main
from companion.corpus.contexts import fixed_contexts, training_batch
from companion.corpus.corpora import load_corpus
from companion.corpus.tokenizer import load_tokenizer
from companion.corpus.toy import toy_corpus
from companion.packed import Packed
from companion.released import download, load_released
from devlib.checkpoints import CheckpointStore
from devlib.checks import check_seed
from devlib.errors import UserError
from devlib.llc import default_nbeta, estimate_llc
from devlib.llc.calibrate import calibrate, sweep
from devlib.llc.precision import estimate_to_precision
from devlib.sampling import sample_chains
from devlib.sampling.draws import Draws
from devlib.sampling.sgld import SGLD, RMSpropSGLD
from devlib.stages import smooth
from tests.companion.test_cli import snapshot

CASES = Path(__file__).parents[1] / "notebook_cases"
SUM = str(CASES / "01_sum.py")
LAPTOP = ["--preset", "laptop"]
HUGE, LONG = "9" * 30, "a" * 5000

COMMANDS = {
    # which command
    "command of another kind": (["--preset", "smoke"], "invalid choice: 'smoke'"),
    "command in capitals": (["RUN", SUM], "invalid choice: 'RUN'"),
    "empty command": ([""], "invalid choice: ''"),
    "two commands": (["presets", "run"], "unrecognized arguments: run"),
    # which page
    "empty page": (["run", ""], "no notebook ''; choose one of 01_training"),
    "page by a number": (["run", "2"], "no notebook '2'; choose one of"),
    "misspelt page": (["run", "stage_boundary"], "no notebook 'stage_boundary'; choose one of"),
    "page outside": (["run", "../../etc/passwd"], "no notebook '../../etc/passwd'"),
    "absolute page": (["run", "/etc/passwd"], "no notebook '/etc/passwd'"),
    "absent file": (["run", "nowhere/page.ipynb"], "no notebook 'nowhere/page.ipynb'"),
    "folder": (["run", "folder.ipynb"], "folder.ipynb is no readable notebook"),
    "no notebook": (["run", "text.ipynb"], "text.ipynb is no readable notebook"),
    "bytes": (["run", "bytes.py"], "bytes.py is no readable notebook"),
    "no parameters": (["run", "plain.py"], "has no parameter preset, seed, recompute"),
    "parameters that are no Python": (["run", "broken.py"], "parameters cell is no Python"),
    "two pages": (["run", SUM, SUM], "unrecognized arguments"),
    "refresh outside": (["refresh", "../text.ipynb"], "no notebook '../text.ipynb'"),
    "refresh without source": (["refresh", "alone.ipynb"], "alone.py is missing"),
    "refresh one bad of two": (["refresh", "training", "x"], "no notebook 'x'"),
    # presets
    "preset in capitals": (["run", SUM, "--preset", "Smoke"], "no preset 'Smoke'; choose one of"),
    "empty preset": (["run", SUM, "--preset", ""], "no preset ''; choose one of smoke"),
    "preset as path": (["train", "--preset", "../smoke"], "no preset '../smoke'; choose one of"),
    "preset without value": (["reproduce", "--preset"], "--preset: expected one argument"),
    "adopt preset": (["adopt", "--preset", "big"], "no preset 'big'; choose one of"),
    "adopt nothing": (["adopt", "--preset", "smoke"], "no finished tables of seed 0; compute them"),
    # seeds
    "seed without value": (["run", SUM, "--seed"], "--seed: expected one argument"),
    "seed of no end": (["run", SUM, "--seed", HUGE], r"seed must be below 2\*\*63"),
    "train seed of no end": (["train", "--seed", HUGE], r"seed must be below 2\*\*63"),
    "reproduce seed of no end": (["reproduce", "--seed", HUGE], r"seed must be below 2\*\*63"),
    "seed with more digits than Python reads": (["train", "--seed", "1" * 5000], "invalid int"),
    "seed nan": (["train", "--seed", "nan"], "invalid int value: 'nan'"),
    "seed in hex": (["reproduce", "--seed", "0x1"], "invalid int value: '0x1'"),
    "empty seed": (["run", SUM, "--seed", ""], "invalid int value: ''"),
    "several seeds": (["run", SUM, "--seed", "0-4"], "invalid int value: '0-4'"),
    "adopt seed": (["adopt", "--seed", "-3"], "seed must be 0 or more, not -3"),
    "adopt seed not whole": (["adopt", "--seed", "0.5"], "invalid int value: '0.5'"),
    # parameters of a page
    "empty parameter": (["run", SUM, "-p", "", "1"], "has no parameter ''; it takes preset"),
    "parameter of another page": (["run", "training", "-p", "tolerance", "4"],
                                  "01_training has no parameter 'tolerance'; it takes preset"),
    "parameter with =": (["run", SUM, "-p", "count=3"], "expected 2 arguments"),
    "count empty": (["run", SUM, "-p", "count", ""], "count takes a whole number, not ''"),
    "count nan": (["run", SUM, "-p", "count", "nan"], "count takes a whole number, not 'nan'"),
    "count in words": (["run", SUM, "-p", "count", "three"], "takes a whole number, not 'three'"),
    "count and unit": (["run", SUM, "-p", "count", "3k"], "takes a whole number, not '3k'"),
    "scale infinite": (["run", SUM, "-p", "scale", "inf"], "takes a finite number, not 'inf'"),
    "scale with comma": (["run", SUM, "-p", "scale", "0,5"], "takes a finite number, not '0,5'"),
    "scale as code": (["run", SUM, "-p", "scale", "__import__('os')"], "takes a finite number"),
    "bool as number": (["run", SUM, "-p", "recompute", "1"], "takes true or false, not '1'"),
    "bool empty": (["run", SUM, "-p", "recompute", ""], "takes true or false, not ''"),
    "tolerance negative": (["run", "stage_boundaries", "-p", "tolerance", "-4"],
                           "2 arguments|tolerance takes a finite number above 0, not .-4."),
    "tolerance zero": (["run", "stage_boundaries", "-p", "tolerance", "0"],
                       "tolerance takes a finite number above 0, not .0."),
    "tolerance nan": (["run", "stage_boundaries", "-p", "tolerance", "nan"],
                      "tolerance takes a finite number, not 'nan'"),
    "residual": (["run", "more_seeds", "-p", "residual", "tripled"],
                 "residual takes doubled, standard, not 'tripled'"),
    "corpus of a page": (["run", "language_stages", "-p", "corpus", "books"],
                         "corpus takes offline, toy, hub, not 'books'"),
    "reuse": (["run", "regression_stages", "-p", "reuse", "maybe"],
              "reuse takes true or false, not 'maybe'"),
    # places
    "no place": (["run", SUM, "--runs", ""], "'' names no directory"),
    "blank place": (["train", "--runs", "  "], "' +' names no directory"),
    "place with a null": (["reproduce", "--runs", "a\0b"], "names no directory"),
    "place of no end": (["train", "--preset", "smoke", "--runs", LONG], "File name too long"),
    "place in proc": (["run", SUM, "--runs", "/proc/devlib"], "cannot write to /proc/devlib"),
    "place below a device": (["train", "--preset", "smoke", "--runs", "/dev/null/x"],
                             "cannot write to /dev/null/x"),
    "adopt from nowhere": (["adopt", "--runs", "nowhere"], "nowhere/laptop has no finished tables"),
    "claims nowhere": (["claims", "--runs", "nowhere"], "nowhere is no directory"),
    "mend nowhere": (["mend", "--runs", "nowhere"], "nowhere is no directory"),
    "mend a file": (["mend", "--runs", "text.ipynb"], "text.ipynb is no directory"),
    "mend no place": (["mend", "--runs", ""], "'' names no directory"),
    "mend more": (["mend", "everything"], "unrecognized arguments: everything"),
    # models and corpora
    "model empty": (["train", "--model", ""], "invalid choice: ''"),
    "residual of the paper": (["train", "--residual", "pre"], "invalid choice: 'pre'"),
    "corpus of reproduce": (["reproduce", "--corpus", "pile"], "invalid choice: 'pile'"),
    "corpus of another vocabulary": (["train", "--preset", "smoke", "--model", "language",
                                      "--corpus", "offline"],
                                     "vocabulary must be from 257 to 50257 tokens, not 64"),
    "option of another command": (["presets", "--seed", "1"], "unrecognized arguments: --seed 1"),
}


@pytest.fixture
def nothing_written(tmp_path, monkeypatch):
    """A folder with some files that are no pages, where nothing more may be written."""
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "text.ipynb").write_text("no notebook")
    (tmp_path / "alone.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, '
                                          '"nbformat_minor": 5}')
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "plain.py").write_text("# %%\nprint(1)\n")
    (tmp_path / "broken.py").write_text('# %% tags=["parameters"]\nseed: int = (\n')
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DEVLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command(case, nothing_written, capfd):
    arguments, message = COMMANDS[case]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capfd.readouterr()
    assert end.value.code == 2 and printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("companion: ")
    assert re.search(message, printed.err), printed.err


def test_there_are_sixty():
    assert len(COMMANDS) >= 60


@pytest.mark.parametrize("variable, arguments", [
    ("DEVLIB_RUNS", ["train", "--preset", "smoke"]), ("DEVLIB_RUNS", ["run", SUM]),
    ("DEVLIB_CACHE", ["train", "--model", "language", *LAPTOP])])
def test_a_variable_that_names_a_file(variable, arguments, nothing_written, monkeypatch, capfd):
    monkeypatch.setenv(variable, str(nothing_written / "text.ipynb"))
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capfd.readouterr()
    assert end.value.code == 2 and printed.err.count("\n") == 1
    assert "cannot write to" in printed.err and variable in printed.err


# ------------------------------------------------------------------------------ the library

PARAMS = {"w": torch.zeros(3)}
XS = torch.ones(8, 3)
FINE = SGLD(1e-3, 10.0, 1.0)
DRAWS = Draws(np.ones((2, 20)), np.ones((2, 20)), 1.0, FINE, 4, 8, 0)


def loss(params, batch):
    return (batch[0] @ params["w"] - 1).square()


def chains(loss=loss, params=PARAMS, data=(XS,), sampler=FINE, **options):
    return sample_chains(loss, params, data, sampler, **{"chains": 2, "draws": 20} | options)


def choose(**options):
    return calibrate(loss, PARAMS, (XS,), **{"batch_size": 4, "draws": 16} | options)


def precise(**options):
    return estimate_to_precision(loss, PARAMS, (XS,), FINE, **{"chains": 2} | options)


CALLS = {
    "eps zero": (lambda: SGLD(0, 1, 1), "eps must be a finite number, above 0, not 0"),
    "eps nan": (lambda: SGLD(float("nan"), 1, 1), "eps must be a finite number, above 0, not nan"),
    "eps text": (lambda: SGLD("1e-4", 1, 1), "eps must be a finite number, above 0, not '1e-4'"),
    "nbeta negative": (lambda: SGLD(1e-4, -1, 1), "nbeta must be a finite number, above 0"),
    "nbeta infinite": (lambda: SGLD(1e-4, float("inf"), 1), "nbeta must be a finite number"),
    "gamma negative": (lambda: SGLD(1e-4, 1, -1), "gamma must be a finite number, 0 or more"),
    "gamma none": (lambda: SGLD(1e-4, 1, None), "gamma must be a finite number, 0 or more"),
    "decay": (lambda: RMSpropSGLD(1e-4, 1, 1, decay=2), "decay must be a finite number"),
    "adapt": (lambda: RMSpropSGLD(1e-4, 1, 1, adapt=0), "adapt must be a whole number of 1"),
    "batch of one": (lambda: default_nbeta(1), "batch_size must be a whole number of 2 or more"),
    "no chains": (lambda: chains(chains=0), "chains must be a whole number of 1 or more, not 0"),
    "chains nan": (lambda: chains(chains=float("nan")), "chains must be a whole number"),
    "chains of no end": (lambda: chains(chains=10**12), r"chains = 10+ takes .* GB of memory"),
    "draws of no end": (lambda: chains(draws=10**12), r"draws = 10+ takes .* GB of memory"),
    "batch of no end": (lambda: chains(batch_size=10**13), r"batch_size = 10+ takes .* GB"),
    "no draws": (lambda: chains(draws=0), "draws must be a whole number of 1 or more, not 0"),
    "draws not whole": (lambda: chains(draws=2.5), "draws must be a whole number"),
    "burn-in too long": (lambda: chains(burn_in=20), "burn_in must be below draws = 20, not 20"),
    "burn-in negative": (lambda: chains(burn_in=-1), "burn_in must be a whole number of 0"),
    "seed negative": (lambda: chains(seed=-1), "seed must be a whole number of 0 or more"),
    "seed text": (lambda: chains(seed="0"), "seed must be a whole number of 0 or more"),
    "batch zero": (lambda: chains(batch_size=0), "batch_size must be a whole number of 1"),
    "microbatch": (lambda: chains(microbatch=0), "microbatch must be a whole number of 1"),
    "sampler": (lambda: chains(sampler="SGLD"), "sampler must be an SGLD or RMSpropSGLD"),
    "loss": (lambda: chains(loss=None), "loss must be a function"),
    "mean loss": (lambda: chains(loss=lambda p, b: loss(p, b).mean()), "one value a sample"),
    "params": (lambda: chains(params={}), "params is empty"),
    "params of whole numbers": (lambda: chains(params={"w": torch.zeros(3, dtype=int)}),
                                "no tensor of floating-point numbers"),
    "data": (lambda: chains(data=XS), "data must be a tuple of tensors"),
    "no data": (lambda: chains(data=(XS[:0],)), "data must be tensors of one length above 0"),
    "data of nan": (lambda: chains(data=(XS * float("nan"),)), "loss of w0 is not finite"),
    "mask": (lambda: chains(mask={"v": True}), "the mask names .'v'., which the parameters"),
    "empty mask": (lambda: chains(mask={}), "the mask leaves no parameter free"),
    "on_divergence": (lambda: chains(on_divergence="stop"), "on_divergence must be 'raise' or"),
    "init losses": (lambda: chains(init_losses=torch.ones(3)), "init_losses must have shape"),
    "baseline": (lambda: estimate_llc(DRAWS, "none"), "baseline must be one of same-batch"),
    "no draws to estimate": (lambda: estimate_llc([1.0]), "takes what sample_chains gives"),
    "calibrate batch": (lambda: choose(batch_size=1), "batch_size must be a whole number of 2"),
    "calibrate draws": (lambda: choose(draws=8), "draws must be a whole number of 16 or more"),
    "calibrate nbeta": (lambda: choose(nbeta=-1), "nbeta must be a finite number, above 0"),
    "calibrate one eps": (lambda: choose(eps=[1e-3]), "give two or more eps"),
    "calibrate eps no list": (lambda: choose(eps=1e-3), "give two or more eps"),
    "calibrate eps nan": (lambda: choose(eps=[1e-3, float("nan")]), "eps must be a finite number"),
    "calibrate gammas": (lambda: choose(gammas=[-1]), "gamma must be a finite number, 0 or more"),
    "calibrate precision": (lambda: choose(precision=0), "precision must be a finite number"),
    "calibrate tolerance": (lambda: choose(tolerance="1"), "tolerance must be a number above 0"),
    "calibrate chains": (lambda: choose(chains=0), "chains must be a whole number of 1 or more"),
    "sweep sampler": (lambda: sweep(loss, PARAMS, (XS,), ["x"], batch_size=4),
                      "sampler must be an SGLD"),
    "precision": (lambda: precise(precision=float("nan")), "precision must be a finite number"),
    "cap": (lambda: precise(cap_draws=0), "cap_draws must be a whole number"),
    "few checkpoints": (lambda: smooth([1, 2], [0.0, 1.0]), "at least 4 checkpoints, not 2"),
    "preset": (lambda: results.regression("big", 0), "no preset 'big'"),
    "results seed": (lambda: results.regression("smoke", 2**63), r"seed must be below 2\*\*63"),
    "layers": (lambda: results_language.language("smoke", 0, layers=3), "layers must be 1 or 2"),
    "corpus": (lambda: load_corpus("pile"), "corpus must be one of offline, toy, hub"),
    "vocabulary": (lambda: load_tokenizer(10**9), "vocabulary must be from 257 to 50257"),
    "token": (lambda: load_tokenizer(300).decode([300]), "token ids must be from 0 to 299"),
    "context": (lambda: training_batch(toy_corpus(50, 10, 5), 0, 0, 4, 10**9), "context of the"),
    "contexts": (lambda: fixed_contexts(toy_corpus(50, 10, 5), 0, "x", 10**9, 8), "contexts of 8"),
    "no run": (lambda: CheckpointStore("nowhere"), "no run in nowhere"),
    "no packed file": (lambda: Packed("nowhere.safetensors"), "nowhere.json is damaged"),
    "no draws file": (lambda: Draws.read("text.ipynb"), "holds no draws of devlib"),
    "released": (lambda: load_released("nowhere.pth"), "cannot read nowhere.pth"),
    "released layers": (lambda: download(3, 0), "models of 1 and 2 layers are released, not of 3"),
    "checked seed": (lambda: check_seed(True), "seed must be 0 or more, not True"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call(case, nothing_written):
    call, message = CALLS[case]
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
