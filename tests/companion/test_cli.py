"""`python -m companion`: what a user can get wrong is one line and exit code 2, before any work."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from companion import presets
from companion.claims.ledger import entries
from companion.cli import main
from companion.program import PROGRAM
from companion.runs import rerun_folder
from companion.site import book_copy, notebooks, page_runs

CASES = Path(__file__).parents[1] / "notebook_cases"
SUM = str(CASES / "01_sum.ipynb")
FILE = "file"  # in a bad case: a place below a regular file, where not even root can write


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None
            for path in Path(folder).rglob("*")}


def devlib(*arguments, cwd, **options):
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "companion", *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, **options)


BAD = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "command": (["ran"], "invalid choice: 'ran'"),
    "no notebook": (["run"], "arguments are required: notebook"),
    "notebook": (["run", "03_absent"], "no notebook '03_absent'; choose one of"),
    "preset": (["run", SUM, "--preset", "big"],
               "no preset 'big'; choose one of smoke, laptop, published, paper"),
    "option": (["run", SUM, "--sede", "3"], "unrecognized arguments: --sede 3"),
    "seed not a number": (["run", SUM, "--seed", "one"], "invalid int value: 'one'"),
    "seed not whole": (["run", SUM, "--seed", "1.5"], "invalid int value: '1.5'"),
    "negative seed": (["run", SUM, "--seed", "-1"], "seed must be 0 or more, not -1"),
    "parameter": (["run", SUM, "-p", "sede", "3"],
                  "01_sum has no parameter 'sede'; it takes preset, seed, recompute, count, scale"),
    "parameter without value": (["run", SUM, "-p", "count"], "expected 2 arguments"),
    "parameter twice": (["run", SUM, "-p", "count", "1", "-p", "count", "2"], "given twice"),
    "preset as parameter": (["run", SUM, "-p", "preset", "smoke"], "with --preset, not with -p"),
    "seed as parameter": (["run", SUM, "-p", "seed", "1"], "with --seed, not with -p"),
    "int": (["run", SUM, "-p", "count", "3.5"], "parameter count takes a whole number, not '3.5'"),
    "float": (["run", SUM, "-p", "scale", "fast"], "scale takes a finite number, not 'fast'"),
    "nan": (["run", SUM, "-p", "scale", "nan"], "scale takes a finite number, not 'nan'"),
    "infinite": (["run", SUM, "-p", "scale", "-inf"], "expected 2 arguments"),
    "too large": (["run", SUM, "-p", "scale", "1e999"], "takes a finite number, not '1e999'"),
    "bool": (["run", SUM, "-p", "recompute", "yes"], "recompute takes true or false, not 'yes'"),
    "list": (["run", SUM, "-p", "terms", "[2]"], "terms is of type list and cannot be set"),
    "directory": (["run", SUM, "--runs", FILE], "cannot write to"),
    "refresh notebook": (["refresh", "03_absent"], "no notebook '03_absent'"),
    "reproduce preset": (["reproduce", "--preset", "big"], "no preset 'big'"),
    "reproduce seed": (["reproduce", "--seed", "-1"], "seed must be 0 or more, not -1"),
    "reproduce directory": (["reproduce", "--runs", FILE], "cannot write to"),
    "train preset": (["train", "--preset", "big"], "no preset 'big'"),
    "train seed": (["train", "--seed", "-1"], "0 or more, not -1"),
    "train residual": (["train", "--residual", "tripled"], "invalid choice: 'tripled'"),
    "train model": (["train", "--model", "vision"], "invalid choice: 'vision'"),
    "train corpus": (["train", "--model", "language", "--corpus", "books"],
                     "invalid choice: 'books'"),
    "regression on text": (["train", "--corpus", "toy"], "--corpus is for language models"),
    "language residual": (["train", "--model", "one-layer", "--residual", "doubled"],
                          "--residual is for the regression model"),
    "reproduce corpus": (["reproduce", "--corpus", "books"], "invalid choice: 'books'"),
    "train language directory": (["train", "--model", "language", "--preset", "smoke", "--runs",
                                  FILE], "cannot write to"),
    "train directory": (["train", "--preset", "smoke", "--runs", FILE], "cannot write to"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path, monkeypatch, capfd):
    arguments, message = BAD[case]
    (tmp_path / "file").write_text("a regular file")
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    before, cases = snapshot(tmp_path), snapshot(CASES)
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "file" / "runs") if a is FILE else a for a in arguments])
    printed = capfd.readouterr()
    assert end.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("companion: ")
    assert message in printed.err
    assert (snapshot(tmp_path), snapshot(CASES)) == (before, cases)


def test_run_writes_a_copy_and_leaves_the_page(tmp_path):
    # A user's kernel of the same name must not be taken for this interpreter's.
    decoy = tmp_path / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(json.dumps(
        {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                   "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    before = snapshot(CASES)
    result = devlib("run", SUM, "--preset", "smoke", "--seed", 3, "-p", "count", 4, "-p", "label",
                    "true sum", "--runs", "runs {a}", cwd=tmp_path, env=environment)
    out = (tmp_path / "runs {a}" / rerun_folder("smoke", 3, {"count": 4, "label": "true sum"})
           / "notebooks" / "01_sum.ipynb")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{out}\n", "")
    nb = nbformat.read(out, 4)
    nbformat.validate(nb)
    assert notebooks.canonical(nb, keep_injected=True) == nb
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert code[1].source.splitlines() == [
        "# Parameters", 'preset = "smoke"', "seed = 3", "recompute = True", "count = 4",
        'label = "true sum"']
    assert code[2].outputs[0].text == "true sum 8.000\n"
    assert json.loads((tmp_path / "runs {a}" / "case.json").read_text()) == {
        "preset": "smoke", "seed": 3, "prefix": sys.prefix, "cwd": str(CASES)}
    assert list(out.parent.iterdir()) == [out]
    assert snapshot(CASES) == before


def test_recompute_can_be_switched_off(tmp_path):
    page_runs.run(SUM, extra={"recompute": "False"}, runs_dir=tmp_path)
    assert not (tmp_path / "case.json").exists()


@pytest.mark.parametrize("end, message", [
    ("raise", "01_sum: cell 5 failed: RuntimeError: no sum for today; the notebook up to there: "),
    ("exit", "01_sum: the kernel died")])
def test_a_failing_page_is_one_line_and_is_kept(tmp_path, end, message):
    result = devlib("run", SUM, "-p", "end", end, "--runs", tmp_path, cwd=tmp_path)
    failed = tmp_path / f"laptop-seed0-end={end}" / "notebooks" / "01_sum.failed.ipynb"
    assert result.returncode == 2
    assert result.stderr.startswith(f"companion: {message}")
    assert result.stderr.endswith(f"{failed}\n")
    assert result.stderr.count("\n") == 1
    assert list(failed.parent.iterdir()) == [failed]
    assert "sum 3.000" in failed.read_text()


def test_a_run_that_succeeds_removes_the_failed_one(tmp_path):
    failed = tmp_path / "laptop-seed0" / "notebooks" / "01_sum.failed.ipynb"
    failed.parent.mkdir(parents=True)
    failed.write_text("{}")
    out = page_runs.run(SUM, runs_dir=tmp_path)
    assert list(failed.parent.iterdir()) == [out]


def test_an_interrupted_run_says_that_it_goes_on(tmp_path):
    def listen():  # a shell starts its background jobs deaf to interrupts, and so this very test
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    result = devlib("run", SUM, "-p", "end", "interrupt", "--runs", tmp_path, cwd=tmp_path,
                    preexec_fn=listen)
    assert result.returncode == 130
    assert result.stderr == "companion: interrupted; the same command goes on where it was\n"
    assert list((tmp_path / "laptop-seed0-end=interrupt" / "notebooks").iterdir()) == []


def test_reproduce_builds_the_book_and_prints_its_place(tmp_path, monkeypatch, capfd):
    root, build_copy = tmp_path / "root", book_copy.build_copy
    (root / "book").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "book" / "intro.md").write_text("# Intro\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/01_sum\n")
    (root / "_config.yml").write_text('title: T\nexecute: {execute_notebooks: "off"}\n')
    shutil.copy(CASES / "01_sum.py", root / "notebooks")
    monkeypatch.setattr(book_copy, "build_copy",
                        lambda *scale: build_copy(*scale, root=root))
    asked = []  # the tables themselves take a quarter of an hour
    monkeypatch.setattr("companion.reproduce.compute_tables", lambda *scale: asked.append(scale))
    main(["reproduce", "--seed", "2", "--runs", str(tmp_path / "runs")])
    said = capfd.readouterr().out
    assert "\nNo findings of this run: " in said  # nor, as below, a tally: no table was made here
    assert f"\nnot run: {len(entries())} (A-1, A-2, LR-1" in said
    index = Path(said.splitlines()[-1])
    assert index == tmp_path / "runs/laptop-seed2/book/_build/html/index.html"
    assert index.exists()
    assert asked == [("laptop", 2, None)]
    page = (index.parent / "notebooks" / "01_sum.html").read_text()
    assert "sum 5.000" in page
    assert 'alt="One &quot;grey&quot; = pixel"' in page
    copy = tmp_path / "runs/laptop-seed2/book"
    (copy / "book" / "intro.md").write_text("# Intro\n\n{ref}`nowhere`\n")
    monkeypatch.setattr(book_copy, "build_copy", lambda *scale: copy)
    with pytest.raises(SystemExit) as end:  # a warning is an error
        main(["reproduce", "--runs", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith(
        "companion: jupyter-book could not build")


@pytest.mark.parametrize("residual", ["doubled", "standard"])
def test_train_takes_the_residual_stream(tmp_path, monkeypatch, capsys, residual):
    from devlib.regression import train as regression_train

    calls = []
    monkeypatch.setattr(regression_train, "train", lambda *arguments: calls.append(arguments))
    main(["train", "--preset", "smoke", "--seed", "2", "--residual", residual,
          "--runs", str(tmp_path)])
    (settings, seed, directory), = calls
    smoke = presets.get("smoke").regression
    assert (settings.model.residual, seed) == (residual, 2)
    assert settings.training == smoke.training
    assert Path(directory).is_relative_to(tmp_path)
    assert capsys.readouterr().out == f"{directory}\n"


def test_presets_are_listed(capsys):
    main(["presets"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(
        presets.PRESETS)


def test_the_program_s_name_stands_in_one_place():
    """All that prints a command takes it from there."""
    root = Path(__file__).parents[2]
    name = re.compile(rf"{re.escape(PROGRAM)}\b(?!\.)")  # a dot: a module of its own
    holding = [path.relative_to(root).as_posix() for folder in (
                   "devlib", "book/companion", "book/_ext")
               for path in (root / folder).rglob("*.py") if name.search(path.read_text())]
    assert holding == ["book/companion/program.py"]


def test_help_loads_nothing_heavy():
    code = ("import sys\nfrom companion.cli import main\ntry:\n    main(['--help'])\n"
            "except SystemExit as end:\n    assert end.code == 0\n"
            "assert not {'torch', 'numpy', 'papermill', 'nbformat', 'yaml'} & set(sys.modules)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "reproduce" in result.stdout
