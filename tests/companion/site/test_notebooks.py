"""Every page keeps its contract, and the tools that run, compare and store pages do as they say."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml

from companion.places import project_root
from companion.site import (
    book_copy,
    fixed_cells,
    notebooks,
    page_contract,
    page_parameters,
    page_runs,
)
from devlib.errors import UserError

ROOT = project_root()
CASES = Path(__file__).parents[2] / "notebook_cases"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())


def snapshot(folder):
    """Every file below a folder with its content."""
    return {path.relative_to(folder): path.read_bytes()
            for path in Path(folder).rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------ the book's pages


@pytest.mark.parametrize("name", notebooks.names())
def test_page_keeps_the_contract(name):
    assert page_contract.check(notebooks.find(name)) == []


def test_the_book_lists_exactly_these_pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert sorted(Path(f).name for f in listed if f.startswith("notebooks/")) == notebooks.names()


# ----------------------------------------------------------------------------------- the contract


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with one page that keeps the contract, made by `refresh`."""
    folder = tmp_path_factory.mktemp("good")
    text = (CASES / "01_sum.py").read_text().replace(
        '# %% tags=["parameters"]',
        f'{fixed_cells.HIDDEN}\n{fixed_cells.head()}\n\n# %% tags=["parameters"]')
    (folder / "01_sum.py").write_text(text)
    assert page_runs.refresh(folder=folder) == [folder / "01_sum.ipynb"]
    return folder


def test_a_refreshed_page_keeps_the_contract(good):
    assert page_contract.check(good / "01_sum.ipynb") == []
    assert nbformat.read(good / "01_sum.ipynb", 4).metadata["accelerator"] == "GPU"


def put(cell, **values):
    cell.update(values)


OUTPUT = nbformat.v4.new_output
BREAKS = {
    "differs from its .py": lambda code: put(code[2], source="print(1)"),
    "differs from its .py ": lambda code: put(code[1], metadata={"tags": ["parameters", "x"]}),
    "differs from its .py  ": lambda code: code[3].metadata.mystnb.image.update(alt="another"),
    "does not begin with the head of every page": lambda code: put(
        code[0], source=code[0].source + " "),
    "does not end with the tail of every page": lambda code: put(
        code[-1], source=code[-1].source + " "),
    "is not in the canonical form": lambda code: put(code[2], id="cell-77"),
    "code cell 3 was not run, or not in order": lambda code: put(code[2], execution_count=None),
    "code cell 4 was not run, or not in order": lambda code: put(code[3], execution_count=9),
    "code cell 3 shows an error": lambda code: code[2].outputs.append(
        OUTPUT("error", ename="E", evalue="", traceback=[])),
    "code cell 3 writes to stderr": lambda code: code[2].outputs.append(
        OUTPUT("stream", name="stderr", text="warning")),
    "code cell 3 has a picture without alternative text": lambda code: code[2].outputs.append(
        OUTPUT("display_data", {"image/png": "aGk="})),
    "has no parameter recompute: bool": lambda code: put(
        code[1], source=code[1].source.replace("recompute", "anew")),
    "has no parameter seed: int": lambda code: put(
        code[1], source=code[1].source.replace("seed: int", "seed: float")),
    "has no comment on parameter seed": lambda code: put(
        code[1], source=code[1].source.replace("# added to the sum", "")),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_each_break_of_the_contract_is_named(good, tmp_path, problem):
    shutil.copy(good / "01_sum.py", tmp_path)
    nb = nbformat.read(good / "01_sum.ipynb", 4)
    BREAKS[problem]([cell for cell in nb.cells if cell.cell_type == "code"])
    notebooks.write(nb, tmp_path / "01_sum.ipynb")
    assert problem.strip() in page_contract.check(tmp_path / "01_sum.ipynb")


def test_canonical_drops_what_a_run_leaves_and_is_a_fixed_point():
    nb = nbformat.read(CASES / "01_sum.ipynb", 4)
    raw = copy.deepcopy(nb)
    raw.metadata |= {"papermill": {"duration": 3}, "widgets": {}, "language_info": {"version": "3"}}
    injected = nbformat.v4.new_code_cell("# Parameters\nseed = 1", execution_count=8,
                                         metadata={"tags": [notebooks.INJECTED]})
    raw.cells.insert(2, injected)
    for number, cell in enumerate(c for c in raw.cells if c.cell_type == "code"):
        cell.metadata |= {"papermill": {"status": "completed"}, "execution": {}, "collapsed": True}
        cell.id, cell.execution_count = f"random{number}", 7 + number
    raw.cells[3].outputs = [OUTPUT("stream", text="sum "), OUTPUT("stream", text="3.000\n")]
    assert notebooks.canonical(raw) == nb
    assert notebooks.canonical(nb) == nb
    kept = notebooks.canonical(raw, keep_injected=True)
    assert len(kept.cells) == len(nb.cells) + 1
    assert notebooks.canonical(kept) == nb


# ------------------------------------------------------------------------- finding and parameters


@pytest.mark.parametrize("name", ["01_sum", "sum", "01_sum.ipynb", "01_sum.py", CASES / "01_sum.py",
                                  str(CASES / "01_sum.ipynb")])
def test_find_takes_name_short_name_and_path(name):
    assert notebooks.find(name, CASES) == CASES / "01_sum.ipynb"


@pytest.mark.parametrize("name", ["3_sum", "summ", "", "1", "absent/01_sum.ipynb"])
def test_find_names_the_pages_there_are(name):
    with pytest.raises(UserError, match="choose one of 01_sum, 02_unsteady"):
        notebooks.find(name, CASES)


def test_parameters_have_type_default_and_help():
    found = page_parameters.parameters(CASES / "01_sum.ipynb")
    assert list(found) == ["preset", "seed", "recompute", "count", "scale", "label", "terms", "end"]
    assert found["scale"] == page_parameters.Parameter("scale", "float", 0.5, "factor")


@pytest.mark.parametrize("line", ["lr: float = 1e-3  # with = sign", "lr: int = 3 * 4  # product"])
def test_a_parameter_that_papermill_would_leave_out_is_refused(tmp_path, line):
    text = (CASES / "02_unsteady.py").read_text()
    (tmp_path / "02_unsteady.py").write_text(text.replace("seed: int", f"{line}\nseed: int"))
    with pytest.raises(UserError, match="definition of lr"):
        page_parameters.parameters(tmp_path / "02_unsteady.ipynb")


def test_a_page_whose_two_files_differ_is_refused(tmp_path):
    for name in ("01_sum.py", "01_sum.ipynb"):
        shutil.copy(CASES / name, tmp_path)
    (tmp_path / "01_sum.py").write_text((CASES / "01_sum.py").read_text().replace("total", "sum_"))
    with pytest.raises(UserError, match="companion refresh 01_sum"):
        page_runs.run("sum", folder=tmp_path, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_failing_refresh_keeps_the_old_page(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    for name in ("02_unsteady.py", "02_unsteady.ipynb"):
        shutil.copy(CASES / name, tmp_path)
    source = tmp_path / "02_unsteady.py"
    source.write_text(source.read_text().replace("import sys", "import sys\n1 / 0"))
    before = (tmp_path / "02_unsteady.ipynb").read_bytes()
    with pytest.raises(UserError, match="ZeroDivisionError"):
        page_runs.refresh(["unsteady"], tmp_path)
    assert (tmp_path / "02_unsteady.ipynb").read_bytes() == before
    assert (tmp_path / "runs" / "refresh" / "02_unsteady.failed.ipynb").exists()


# ------------------------------------------------------------------------------- the copied book


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one page."""
    root = tmp_path / "checkout"
    (root / "book").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "book" / "intro.md").write_text("# Intro\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/01_sum\n")
    (root / "_config.yml").write_text('title: T\nexecute: {execute_notebooks: "off"}\n')
    for name in ("01_sum.py", "01_sum.ipynb"):
        shutil.copy(CASES / name, root / "notebooks")
    return root


@pytest.mark.parametrize("seed, hidden", [(0, True), (1, False)])
def test_build_copy_holds_recomputed_pages(checkout, tmp_path, seed, hidden):
    before = snapshot(checkout)
    stale = tmp_path / f"runs/laptop-seed{seed}/book/book/old.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("# Old")
    made = book_copy.build_copy("laptop", seed, tmp_path / "runs", root=checkout)
    assert made == tmp_path / f"runs/laptop-seed{seed}/book"
    assert sorted(map(str, snapshot(made))) == [
        "_config.yml", "_toc.yml", "book/intro.md", "notebooks/01_sum.ipynb"]
    nb = nbformat.read(made / "notebooks" / "01_sum.ipynb", 4)
    tags = next(cell.metadata.tags for cell in nb.cells
                if notebooks.INJECTED in cell.metadata.get("tags", []))
    assert ("remove-cell" in tags) == hidden
    assert [o.text for c in nb.cells if c.cell_type == "code" for o in c.outputs
            if o.output_type == "stream"] == [f"sum {3 + seed}.000\n"]
    assert json.loads((tmp_path / "runs" / "case.json").read_text())["seed"] == seed
    assert snapshot(checkout) == before


def test_a_copied_book_s_pages_get_the_parameters_they_have(checkout, tmp_path):
    for kind in ("py", "ipynb"):  # a second page, which has no `count` and runs beside the first
        text = (CASES / f"01_sum.{kind}").read_text()
        for words in ("count: int", "count + 1"):
            text = text.replace(words, words.replace("count", "number"))
        (checkout / "notebooks" / f"02_other.{kind}").write_text(text)
    made = book_copy.build_copy("laptop", 0, tmp_path, {"count": "4", "corpus": "toy"}, checkout)
    injected, other = (
        next(cell for cell in nbformat.read(made / "notebooks" / name, 4).cells
             if notebooks.INJECTED in cell.metadata.get("tags", []))
        for name in ("01_sum.ipynb", "02_other.ipynb"))
    assert "count = 4" in injected.source and "corpus" not in injected.source
    assert "remove-cell" not in injected.metadata.tags  # they are not the page's own
    assert "count" not in other.source and "remove-cell" in other.metadata.tags
    assert {run: list(json.loads((tmp_path / run / "metrics.json").read_text())["pages"])
            for run in ("laptop-seed0", "laptop-seed0-count=4")} == {
        "laptop-seed0": ["02_other"], "laptop-seed0-count=4": ["01_sum"]}


# ------------------------------------------------------------------------------------------ nbval


def nbval(folder):
    """Runs nbval over the pages of a folder: its output and (outcome, page, cell) of each cell."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-rA",
         "--color=no", "-p", "no:cacheprovider", "-p", "conftest", f"--rootdir={folder}", "."],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True)
    return result.stdout, re.findall(r"^(PASSED|FAILED|ERROR) (\S+\.ipynb)::Cell (\d)",
                                     result.stdout, re.MULTILINE)


def test_nbval_passes_unchanged_pages_and_fails_on_one_digit(tmp_path):
    for page in CASES.glob("*.ipynb"):
        shutil.copy(page, tmp_path)
    changed = tmp_path / "changed.ipynb"
    text = (CASES / "01_sum.ipynb").read_text()
    assert text.count("sum 3.000") == 1
    changed.write_text(text.replace("sum 3.000", "sum 3.001"))
    printed, outcomes = nbval(tmp_path)
    assert [o[1:] for o in outcomes if o[0] != "PASSED"] == [("changed.ipynb", "1")], printed
    assert len(outcomes) == 4 + 2 + 4
    assert "sum 3.001" in printed


def test_nbval_compares_the_words_and_the_csv_under_a_figure_and_not_its_drawing(tmp_path):
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "language": "python",
                                                           "display_name": "Python 3"}})
    under = ('<p>Made by the {} preset. <a download="a.csv" href="data:text/csv;base64,{}">a</a> '
             '<a download="a.svg" href="data:image/svg+xml;base64,{}">b</a>')
    for stored in (("laptop", "MS4wMDI=", "MQ=="), ("laptop", "MS4wMDE=", "Mg=="),
                   ("smoke", "MS4wMDI=", "Mg==")):
        show = f"from IPython.display import HTML, display\n" \
               f"display(HTML({under.format('laptop', 'MS4wMDI=', 'Mg==')!r}))"
        output = nbformat.v4.new_output("display_data", data={
            "text/html": under.format(*stored), "text/plain": "<IPython.core.display.HTML object>"})
        nb.cells.append(nbformat.v4.new_code_cell(show, outputs=[output], execution_count=1))
    nbformat.write(nb, tmp_path / "page.ipynb")
    printed, outcomes = nbval(tmp_path)
    assert [o[0] for o in outcomes] == ["PASSED", "FAILED", "FAILED"], printed


# ------------------------------------------------------------------------------------------ Colab


def test_the_fixed_cells_are_short():
    assert len(fixed_cells.head().splitlines()) <= 8
    assert fixed_cells.head().splitlines()[4].startswith('if "google.colab" in sys.modules:')
    assert fixed_cells.TAIL.splitlines()[-1] == "page_ends.end(recompute)"


def test_the_head_carries_the_address_and_the_branch_of_the_config(tmp_path):
    facts = CONFIG["repository"]
    assert f" {facts['url']} stagewise && " in fixed_cells.head()
    assert f"checkout -q {facts['branch']}\"" in fixed_cells.head()
    (tmp_path / "_config.yml").write_text(
        "repository: {url: 'https://example.org/a/the book.git/', branch: dev}")
    text = fixed_cells.head(tmp_path)
    assert "'https://example.org/a/the book.git' 'the book' && git -C 'the book' " in text
    assert 'checkout -q dev"' in text and 'sys.path[:0] = ["the book", "the book/book"]' in text
    assert 'checkout -q abc"' in fixed_cells.head(tmp_path, "abc")


PROGRAM = """\
import json, sys, types
facts = json.loads(sys.argv[1])
sys.executable = facts["python"]
if facts["colab"]:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
if facts["numpy"]:
    sys.modules["numpy"] = types.ModuleType("numpy")
    sys.modules["numpy"].__version__ = facts["numpy"]
for _ in range(2):  # a reader may run the first cell again
    exec(facts["text"])
print(json.dumps([path for path in sys.path if path.endswith(facts["folder"])]))
"""


@pytest.fixture
def colab(tmp_path):
    """Runs the head where git and pip are stand-ins that note how they were called; what git
    clones is this library."""
    log, shims = tmp_path / "log", tmp_path / "bin"
    shims.mkdir()
    for name in ("git", "python"):
        shim = shims / name
        shim.write_text(
            f'#!/bin/sh\necho {name} "$@" >> "{log}"\nif [ "$1" = clone ]; then for last; do :; '
            f'done; mkdir -p "$last/book"; cp -r "{ROOT / "devlib"}" "$last"; '
            f'cp -r "{ROOT / "book" / "companion"}" "$last/book"; fi\n')
        shim.chmod(0o755)
    folder = CONFIG["repository"]["url"].rstrip("/").rsplit("/", 1)[-1]

    def start(colab, numpy=None):
        facts = {"python": str(shims / "python"), "colab": colab, "numpy": numpy,
                 "text": fixed_cells.head(), "folder": folder}
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(facts)], cwd=tmp_path, text=True,
            capture_output=True, env=os.environ | {"PATH": f"{shims}:{os.environ['PATH']}"})
        return result, log.read_text().splitlines() if log.exists() else [], tmp_path / folder
    return start


def test_the_head_on_colab_clones_once_installs_and_finds_the_library(colab):
    result, calls, root = colab(True, numpy=metadata.version("numpy"))
    pip = f"python -m pip install --quiet -r {root}/requirements-colab.txt"
    facts = CONFIG["repository"]
    clone = f"git clone -qn --filter=blob:none {facts['url']} {root.name}"
    checkout = f"git -C {root.name} checkout -q {facts['branch']}"
    assert calls == [clone, checkout, pip, checkout, pip]
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [str(root)]


def test_the_head_restarts_a_session_whose_numpy_changed(colab):
    result, calls, _ = colab(True, numpy="1.0.0")
    assert result.returncode == -9
    assert len(calls) == 3
    assert f"numpy changed from 1.0.0 to {metadata.version('numpy')}" in result.stdout


def test_the_head_does_nothing_elsewhere(colab):
    result, calls, root = colab(False, numpy="1.0.0")
    assert (result.returncode, calls, root.exists()) == (0, [], False)


def test_colab_requirements_leave_its_compiled_stack_alone():
    lines = (ROOT / "requirements-colab.txt").read_text().splitlines()
    named = {re.match(r"[\w-]+", line)[0] for line in lines if line and line[0] != "#"}
    stack = {"torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib"}
    projects = [tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"]
                for place in ("", "book")]
    needed = {re.match(r"[\w-]+", line)[0] for project in projects
              for line in project["dependencies"]} - {"devlib"}
    assert not named & stack
    assert needed - stack <= named


def test_readme_shows_the_committed_figure(tmp_path):
    notebooks.picture(notebooks.find("stage_boundaries"), tmp_path / "llc.png")
    assert (tmp_path / "llc.png").read_bytes() == (ROOT / "data" / "llc.png").read_bytes()
