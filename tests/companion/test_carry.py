"""A study set down on one machine and taken up on another ends as if it had stayed."""

import pytest

from companion import carry, regression, results
from companion.cli import main
from companion.compute import parallel
from companion.runs import RunKey
from devlib.checkpoints import CheckpointStore
from devlib.errors import CheckpointError, UserError
from devlib.regression.train import Trainer, train

KEY = RunKey.of("evaluation", "smoke", 3)
BROKEN_OFF = 300  # of 600 updates


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 1)


def broken_off(runs, monkeypatch):
    """A run of which so many updates are done."""
    monkeypatch.setenv("DEVLIB_RUNS", str(runs))
    update, taken = Trainer.update, []

    def counted(trainer):
        if len(taken) == BROKEN_OFF:
            raise KeyboardInterrupt
        taken.append(trainer.step)
        return update(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", counted)
        train(KEY.settings, KEY.seed, KEY.checkpoints(), save_every=0)


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """The file of such a run, and a runs directory that knows nothing of it."""
    broken_off(tmp_path / "here", monkeypatch)
    file = carry.set_down(tmp_path / "new" / "study.tar.xz", "smoke", KEY.seed)
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "there"))
    return file


def test_it_ends_with_the_bytes_of_a_run_that_stayed(carried, tmp_path, monkeypatch):
    carry.take_up(carried, "smoke", KEY.seed)
    taken, update = [], Trainer.update
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", lambda trainer: taken.append(trainer.step) or update(
            trainer))
        moved = results.evaluation("smoke", KEY.seed, recompute=True)
    assert taken == list(range(BROKEN_OFF, 600))
    store = CheckpointStore(KEY.checkpoints())
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "stayed"))
    stayed = results.evaluation("smoke", KEY.seed, recompute=True)
    assert moved["evaluation"].equals(stayed["evaluation"])
    whole = CheckpointStore(KEY.checkpoints())
    assert store.steps == whole.steps and len(store.loadable) < len(whole.loadable)
    for step in store.loadable:
        assert store.path(step).read_bytes() == whole.path(step).read_bytes()


def test_training_may_go_on_meanwhile(tmp_path, monkeypatch):
    broken_off(tmp_path / "here", monkeypatch)
    evaluate = regression.evaluation_table

    def while_it_trains(*of):
        train(KEY.settings, KEY.seed, KEY.checkpoints(), save_every=0)
        return evaluate(*of)

    with monkeypatch.context() as patch:
        patch.setattr(regression, "evaluation_table", while_it_trains)
        file = carry.set_down(tmp_path / "study.tar.xz", "smoke", KEY.seed)
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "there"))
    carry.take_up(file, "smoke", KEY.seed)
    assert max(CheckpointStore(KEY.checkpoints()).steps) < BROKEN_OFF
    taken, update = [], Trainer.update
    monkeypatch.setattr(Trainer, "update", lambda trainer: taken.append(trainer.step) or update(
        trainer))
    train(KEY.settings, KEY.seed, KEY.checkpoints())
    assert taken == list(range(BROKEN_OFF, 600))


def test_what_the_repository_keeps_comes_along_and_nothing_else(carried, tmp_path):
    carry.take_up(carried, "smoke", KEY.seed)
    here = CheckpointStore(KEY.checkpoints(tmp_path / "here"))
    there = CheckpointStore(KEY.checkpoints())
    assert there.steps == here.steps
    left = set(there.steps) - set(there.loadable)
    assert left and all(map(there.left, left)) and not any(map(there.left, there.loadable))
    with pytest.raises(CheckpointError, match="is missing; set it aside, then train"):
        there.load(min(left))


def test_measurements_come_along(tmp_path, monkeypatch):
    broken_off(tmp_path / "here", monkeypatch)
    piece = RunKey.of("protocols", "smoke", KEY.seed).own() / "protocols" / "a_step_0000001.json"
    piece.parent.mkdir(parents=True)
    piece.write_text("{}")
    (piece.parent / ".b.json.part").write_text("half")
    file = carry.set_down(tmp_path / "study.tar.xz", "smoke", KEY.seed)
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "there"))
    carry.take_up(file, "smoke", KEY.seed)
    folder = RunKey.of("protocols", "smoke", KEY.seed).own() / "protocols"
    assert [path.name for path in folder.iterdir()] == [piece.name]


def test_the_same_run_gives_the_same_bytes(carried, tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "here"))
    again = carry.set_down(tmp_path / "again.tar.xz", "smoke", KEY.seed)
    assert again.read_bytes() == carried.read_bytes()


def test_nothing_here_is_replaced(carried, tmp_path, monkeypatch):
    folder = RunKey.of("protocols", "smoke", KEY.seed).own()
    folder.mkdir(parents=True)
    carry.take_up(carried, "smoke", KEY.seed)
    before = KEY.checkpoints().stat().st_mtime_ns
    assert carry.take_up(carried, "smoke", KEY.seed) == []
    assert KEY.checkpoints().stat().st_mtime_ns == before and list(folder.iterdir()) == []


def test_a_run_that_had_not_come_to_its_first_checkpoint_gives_way(carried):
    mine = KEY.trained.own() / "seconds.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    assert KEY.trained.own() in carry.take_up(carried, "smoke", KEY.seed)
    assert mine.read_text() == "{}" and CheckpointStore(KEY.checkpoints()).loadable


def test_before_training_there_is_nothing_to_carry(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path))
    with pytest.raises(UserError, match="train it first"):
        carry.set_down(tmp_path / "study.tar.xz", "smoke", KEY.seed)
    KEY.checkpoints().mkdir(parents=True)
    CheckpointStore(KEY.checkpoints(), {"of": "a run that has just begun"})
    with pytest.raises(UserError, match="try again then"):
        carry.set_down(tmp_path / "study.tar.xz", "smoke", KEY.seed)
    assert not (tmp_path / "study.tar.xz").exists()


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "CheckpointStore", lambda place: pytest.fail("work was begun"))
    with pytest.raises(UserError, match=r"is a folder; name a file in it, such as .*study-seed3"):
        carry.set_down(tmp_path, "smoke", 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*another name for the file"):
        carry.set_down(tmp_path / "file" / "study.tar.xz", "smoke", 3)


@pytest.mark.parametrize("spoil, word", [
    (lambda file: file.unlink(), "is no carried study"),
    (lambda file: file.write_bytes(b"what"), "is no carried study"),
    (lambda file: file.write_bytes(file.read_bytes()[:5_000]), "is no carried study")])
def test_a_file_that_is_none_is_refused(carried, capsys, spoil, word, tmp_path):
    spoil(carried)
    with pytest.raises(SystemExit):
        main(["study", "--preset", "smoke", "--seed", "3", "--carried", str(carried)])
    assert word in capsys.readouterr().err
    assert not list((tmp_path / "there").rglob("*.safetensors"))


def test_another_run_is_refused(carried, capsys):
    with pytest.raises(SystemExit):
        main(["study", "--preset", "smoke", "--seed", "4", "--carried", str(carried)])
    assert "carries another run than preset smoke, seed 4" in capsys.readouterr().err


def test_the_commands_call_it(carried, tmp_path, monkeypatch, capsys):
    file, here = tmp_path / "by_command.tar.xz", str(tmp_path / "here")
    main(["carry", str(file), "--preset", "smoke", "--seed", "3", "--runs", here])
    assert capsys.readouterr().out.strip() == str(file)
    assert file.read_bytes() == carried.read_bytes()
