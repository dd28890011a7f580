"""A run's one identity: its folder, back and forth, and its settings."""

from pathlib import Path

import pytest

from companion import presets, runs
from companion.runs import RunKey, parse_rerun, rerun_folder
from companion.site import reruns
from devlib.errors import UserError
from devlib.files import settings_hash
from devlib.sealed import read_sealed
from devlib.settings import as_dict

TABLES = sorted(path.parent for path in runs.COMMITTED.glob("*/*/manifest.json"))
PACKED = sorted(runs.CHECKPOINTS.glob("*/*.safetensors"))
RERUNS = sorted(path.parent for path in reruns.COMMITTED.glob("*/metrics.json"))


def spelled(path):
    return str(path.relative_to(path.parents[1]))


@pytest.mark.parametrize("place", TABLES, ids=spelled)
def test_committed_tables_have_the_folder_and_the_settings_of_their_key(place):
    key = RunKey.parse(place.parent.name, place.name)
    assert key.folder == place.name and key.committed == place
    manifest = read_sealed(place / "manifest.json")
    assert (manifest["preset"], manifest["seed"]) == (key.preset, key.seed)
    settings = manifest["settings"]
    if key.kind not in ("primer", "task-sets"):  # these take a part of them, or none
        model = settings.get("regression", settings.get("language", settings))
        assert settings_hash(model) == settings_hash(as_dict(key.settings))


@pytest.mark.parametrize("path", PACKED, ids=spelled)
def test_committed_checkpoints_have_the_name_and_the_settings_of_their_key(path):
    key = RunKey.parse(path.parent.name, path.stem)
    assert key.folder == path.stem and key.packed == path
    model = read_sealed(path.with_suffix(".json"))["settings"]["model"]
    assert settings_hash(model) == settings_hash(as_dict(key.settings.model))


@pytest.mark.parametrize("place", RERUNS, ids=lambda place: place.name)
def test_committed_reruns_have_the_folder_of_their_parameters(place):
    run = reruns.read(place / "metrics.json")
    assert rerun_folder(run.preset, run.seed, run.settings) == place.name == run.name
    texts = {name: str(value) for name, value in run.settings.items()}
    assert parse_rerun(place.name) == (run.preset, run.seed, texts)


def test_every_kind_is_committed_and_read_back():
    assert TABLES and PACKED and RERUNS
    kinds = {RunKey.parse(place.parent.name, place.name).kind for place in TABLES}
    assert kinds | {"evaluation"} == {*runs.KINDS}  # that is of seeds without a curve: none yet
    assert {key.committed for name in presets.PRESETS for key in runs.finished(name)} == {*TABLES}


@pytest.mark.parametrize("kind, parameters, folder", [
    ("regression", {}, "regression-doubled-seed3"),
    ("regression", {"residual": "standard", "reuse": True, "gamma": 10, "eps": 1e-5},
     "regression-standard-reused-eps=1e-05-gamma=10.0-seed3"),
    ("development", {"reuse": True, "eps": 1e-5}, "development-doubled-reused-seed3"),
    ("check", {"reuse": True}, "check-doubled-seed3"),
    ("calibration", {"residual": "standard", "reuse": True}, "calibration-seed3"),
    ("language-1layer", {"corpus": "toy", "residual": "standard"}, "language-1layer-toy-seed3"),
    ("language-2layer", {"corpus": "offline"}, "language-2layer-seed3")])
def test_a_key_is_read_back_from_its_folder(kind, parameters, folder):
    key = RunKey.of_page(kind, "laptop", 3, parameters | {"tolerance": 4.0})
    assert key.folder == folder and RunKey.parse("laptop", folder) == key
    assert key.own("runs") == Path("runs") / "laptop" / folder
    assert hash(key) == hash(RunKey.of_page(kind, "laptop", 3, parameters))


def test_the_settings_are_those_of_the_preset_but_for_what_the_key_names():
    laptop = presets.get("laptop")
    assert RunKey.of("hessian", "laptop", 0).settings == laptop.regression
    assert RunKey.of("language-1layer", "laptop", 0).settings == laptop.one_layer
    toy = RunKey.of("language-2layer", "laptop", 0, corpus="toy").settings
    assert toy.training.corpus == "toy" and toy.model == laptop.language.model
    changed = RunKey.of("regression", "laptop", 0, residual="standard", eps=1e-5)
    assert changed.settings.llc.eps == 1e-5 and changed.settings.model.residual == "standard"
    assert changed.settings.llc.gamma == laptop.regression.llc.gamma


def test_tables_about_one_model_share_its_checkpoints():
    keys = [RunKey.of(kind, "smoke", 1, residual="standard", reuse=True, eps=1e-5)
            for kind in runs.OF_REGRESSION]
    assert {key.checkpoints("runs") for key in keys} == {
        Path("runs/smoke/regression-standard-seed1/checkpoints")}
    assert keys[0].evaluated.folder == "regression-standard-reused-seed1"


@pytest.mark.parametrize("name", [
    "", "seed0", "regression-seed0", "regression-doubled", "regression-doubled-seed-1",
    "regression-doubled-seed00", "regression-doubled-seed0 ", "regression-tripled-seed0",
    "regression-doubled-eps=1e-5-seed0", "regression-doubled-eps=much-seed0",
    "regression-doubled-reused-reused-seed0", "development-doubled-eps=0.1-seed0",
    "primer-doubled-seed0", "language-3layer-seed0", "language-2layer-offline-seed0",
    "language-2layer-toy", f"primer-seed{2**63}", "../regression-doubled-seed0"])
def test_a_folder_that_is_none_is_refused_in_one_line(name):
    with pytest.raises(UserError) as error:
        RunKey.parse("laptop", name)
    assert str(error.value) == (f"{name!r} is no folder of tables: their names are like "
                                "regression-doubled-seed0 or language-2layer-seed0")


@pytest.mark.parametrize("name", ["", "laptop", "laptop-seed", "huge-seed0", "laptop-seed0-eps",
                                  "laptop-seed0-eps=", "laptop-seed0-eps=1/2", "laptop-seed0-"])
def test_a_folder_that_is_no_rerun_is_refused_in_one_line(name):
    with pytest.raises(UserError) as error:
        parse_rerun(name)
    assert str(error.value) == (f"{name!r} is no folder of a rerun: their names are like "
                                "laptop-seed0 or laptop-seed0-eps=0.0001")


@pytest.mark.parametrize("change, words", [
    ({"kind": "tables"}, "kind must be one of regression"), ({"preset": "big"}, "no preset 'big'"),
    ({"seed": -1}, "seed must be 0 or more"), ({"residual": "tripled"}, "residual must be"),
    ({"corpus": "pile"}, "corpus must be one of offline, toy, hub, not 'pile'")])
def test_what_is_no_key_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        RunKey.of(**{"kind": "regression", "preset": "smoke", "seed": 0} | change)


def test_other_folders_are_no_tables(tmp_path):
    for name in ("regression-doubled-seed1", "regression-doubled-seed0", "notes", "primer-seed2"):
        (tmp_path / "smoke" / name).mkdir(parents=True)
        if name != "primer-seed2":  # not finished
            (tmp_path / "smoke" / name / "manifest.json").touch()
    assert [key.seed for key in runs.finished("smoke", tmp_path)] == [0, 1]
    assert runs.seeds_of("smoke", "regression-doubled", tmp_path) == [0, 1]
    assert runs.seeds_of("smoke", "primer", tmp_path) == []
