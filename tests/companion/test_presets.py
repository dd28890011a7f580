"""The presets hold the paper's numbers, each with its symbol, unit and section."""

import dataclasses
import math

import pytest

from companion import presets
from devlib.errors import UserError
from devlib.regression.model import RegressionTransformer, build_model, parameter_table
from devlib.regression.train import identity
from devlib.settings import LLCSettings, RegressionEvaluation, StageSettings, describe, replace

PAPER = presets.PAPER.regression

# From the paper and the authors' code, typed in a second time.
NUMBERS = {
    ("task", "task_dim"): 4, ("task", "examples"): 8, ("task", "noise_variance"): 0.125,
    ("model", "layers"): 2, ("model", "heads"): 4, ("model", "embed_dim"): 64,
    ("model", "mlp_dim"): 64, ("training", "steps"): 500_000, ("training", "stop"): 500_000,
    ("training", "batch"): 256, ("training", "max_lr"): 0.003, ("training", "beta1"): 0.9,
    ("training", "beta2"): 0.999, ("training", "pct_start"): 0.5,
    ("training", "div_factor"): 249_999, ("llc", "eps"): 3e-4, ("llc", "batch"): 1024,
    ("llc", "samples"): 1_048_576, ("llc", "chains"): 10, ("llc", "draws"): 5000,
    ("llc", "burn_in"): 1000, ("stages", "tolerance"): 8, ("stages", "length"): 3,
}


@pytest.mark.parametrize("part, name", NUMBERS)
def test_paper_number(part, name):
    assert getattr(getattr(PAPER, part), name) == NUMBERS[part, name]


def test_llc_numbers_given_to_three_decimals():
    assert round(PAPER.llc.nbeta, 3) == 66.667
    assert round(PAPER.llc.gamma, 3) == 6.667  # the paper's 13.3 is for an update with gamma / 2


def test_language_numbers():
    language = presets.PAPER.language
    model, training = language.model, language.training
    assert (model.embed_dim, model.heads, model.head_dim) == (256, 8, 32)
    assert model.heads * model.head_dim == model.embed_dim
    assert (model.context, model.vocabulary) == (1024, 5000)
    assert model.init_sd == 0.8 / math.sqrt(model.embed_dim)
    assert (training.lr, training.weight_decay, training.batch) == (1e-3, 0.05, 100)
    assert training.steps == 50_000
    assert language.llc.nbeta == language.llc.batch / math.log(language.llc.batch)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_number_says_symbol_unit_and_section(preset):
    def rows(settings):
        for row in describe(settings):
            if dataclasses.is_dataclass(row["value"]):
                yield from rows(row["value"])
            else:
                yield row

    for settings in (presets.get(preset).regression, presets.get(preset).language):
        for part in dataclasses.fields(settings):
            for row in rows(getattr(settings, part.name)):
                assert set(row) == {"name", "value", "symbol", "unit", "section"}, row
                assert all(row[key] for key in ("symbol", "unit", "section")), row


def test_published_and_laptop_train_as_the_paper_does():
    for preset in (presets.PUBLISHED, presets.LAPTOP):
        ours = preset.regression
        assert (ours.task, ours.model) == (PAPER.task, PAPER.model)
        assert replace(ours.training, stop=500_000) == PAPER.training
        assert (ours.llc.eps, ours.llc.nbeta, ours.llc.gamma) == (
            PAPER.llc.eps, PAPER.llc.nbeta, PAPER.llc.gamma)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_settings_that_can_be_sampled(preset):
    for llc in (presets.get(preset).regression.llc, presets.get(preset).language.llc):
        assert 0 <= (llc.burn_in or 0) < llc.draws and llc.batch <= llc.samples


def test_unknown_preset_names_those_there_are():
    with pytest.raises(UserError, match="no preset 'big'; choose one of smoke, laptop, published"):
        presets.get("big")


def test_presets_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.PAPER.regression.training.batch = 1


def test_parameter_table_of_f2():
    """51,717 = 320 token + 1,024 positional + 2 x 24,960 block + 128 final LN + 325 unembed."""
    table = parameter_table(RegressionTransformer(PAPER.model, PAPER.task))
    counts = {}
    for name, shape, count in table:
        assert count == math.prod(shape)
        group = ".".join(name.split(".")[:2 if name.startswith("blocks") else 1])
        counts[group] = counts.get(group, 0) + count
    assert counts == {"embed": 320, "position": 1024, "blocks.0": 24_960, "blocks.1": 24_960,
                      "unembed_ln": 128, "unembed": 325}
    assert sum(counts.values()) == 51_717
    block = {name.removeprefix("blocks.0."): count for name, _, count in table
             if name.startswith("blocks.0.")}
    assert block["qkv.weight"] == 12_288 and block["out.weight"] == 4_096
    assert sum(count for name, count in block.items() if name.startswith("ln")) == 256
    assert sum(count for name, count in block.items() if name.startswith("mlp")) == 8_320


def test_a_run_is_named_by_what_its_updates_depend_on():
    """LLC, evaluation and stage settings may change without making another run."""
    base = presets.SMOKE.regression
    same = replace(base, llc=LLCSettings(chains=3),
                           evaluation=RegressionEvaluation(samples=7),
                           stages=StageSettings(tolerance=1.0))
    assert identity(base, 0) == identity(same, 0)
    others = [replace(base, model=replace(base.model, residual="standard")),
              replace(base, task=replace(base.task, noise_variance=0.25)),
              replace(base, training=replace(base.training, batch=63))]
    assert all(identity(base, 0) != identity(other, 0) for other in others)
    assert identity(base, 0) != identity(base, 1)


def test_initialisation_is_torchs_default_and_a_function_of_the_seed():
    settings = presets.PAPER.regression
    one, again, other = (dict(build_model(settings, seed).named_parameters())
                         for seed in (0, 0, 1))
    assert all(one[name].equal(again[name]) for name in one)
    assert not one["embed.weight"].equal(other["embed.weight"])
    for name, fan_in in (("embed.weight", 5), ("position.weight", 16), ("unembed.weight", 64)):
        bound, values = fan_in**-0.5, one[name]  # uniform on +-1 / sqrt(fan in)
        assert values.abs().max() <= bound
        error = 4 * bound**2 / 3 * (0.8 / values.numel()) ** 0.5  # var of u^2 is 4/45 bound^4
        assert abs(values.square().mean() - bound**2 / 3) < error
    assert one["blocks.0.ln1.weight"].eq(1).all() and one["blocks.0.ln1.bias"].eq(0).all()
