"""Every page runs on Google Colab: from its .ipynb alone, in a session that fetches the library.

Without a network: git finds the repository's address at a copy of this checkout, and pip is a
stand-in, but for the test that asks the real one whether the requirements are met. The pages are
those that a built book's links open, and the branch has gone on since that book.

nbval runs every cell of every page already, so that a session here runs two pages whole, one of
each model, and of the others all that Colab has to give: what they fetch and what they import. The
slow test runs them whole.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
import yaml

from companion.places import project_root
from companion.site import book_commit, colab, notebooks, page_parameters

ROOT = project_root()
URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
FOLDER = URL.rsplit("/", 1)[-1]
# What the project installs and Colab does not have.
LACKING = ["transformer_lens", "papermill", "jupytext", "nbval", "sphinx", "myst_nb",
           "jupyter_book", "playwright", "cwevals"]
WHOLE = "01_training", "11_one_layer"
REST = [name for name in notebooks.names() if name not in WHOLE]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository with the files of this checkout, those not yet committed included, in one
    commit that has its tag; the next one, the branch's, has a library that cannot be loaded."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    place = tmp_path_factory.mktemp("remote") / "repository"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    git = ["git", "-C", str(place), "-c", "core.compression=0", "-c", "user.name=test",
           "-c", "user.email=test"]
    for command in (["init", "-q", "-b", "main"], ["config", "uploadpack.allowFilter", "true"],
                    ["add", "-A", "--force"], ["commit", "-q", "-m", "copy"]):
        subprocess.run([*git, *command], check=True)
    tag = book_commit.tag_pages(place)
    (place / "devlib" / "__init__.py").write_text("raise ImportError('of another commit')\n")
    subprocess.run([*git, "commit", "-q", "-a", "-m", "later"], check=True)
    # one pack, in which nothing was compared with anything: served in a fifth of the time
    subprocess.run([*git, "-c", "pack.window=0", "repack", "-adq"], check=True)
    return place, tag


def open_on_colab(repository, home, whole=(), imports=()):
    """How each page ended, by name, and what they asked pip for: pages whose cells all run, and
    pages of which the first cell and the imports do."""
    repository, tag = repository
    pip, log, folders = home / "python", home / "log", {}
    pip.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
    pip.chmod(0o755)
    for name in (*whole, *imports):
        (home / name).mkdir()
        page = home / name / f"{name}.ipynb"
        page.write_bytes(subprocess.run(
            ["git", "-C", str(repository), "show", f"{tag}:notebooks/{page.name}"], check=True,
            capture_output=True).stdout)
        folders[str(page)] = str(home / name)
    facts = {"pages": folders, "whole": list(whole), "pip": str(pip), "lacking": LACKING}
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("DEVLIB_", "PYTHONPATH"))}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "colab_session.py"), json.dumps(facts)],
        cwd=home, capture_output=True, text=True, env=environment | {
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": URL})
    assert result.returncode == 0, result.stderr[-3000:]
    lines = map(json.loads, result.stdout.splitlines())
    return {Path(line["page"]).stem: line["end"] for line in lines}, log.read_text().splitlines()


@pytest.fixture(scope="module")
def sessions(repository, tmp_path_factory):
    return open_on_colab(repository, tmp_path_factory.mktemp("colab"), WHOLE, REST)


def assert_ran_alone(ended, name):
    """In a folder that has the page and the fetched library and nothing computed or offered."""
    assert "error" not in ended, ended["error"]
    assert ended["library"].endswith(f"/{name}/{FOLDER}/devlib/__init__.py")
    assert ended["left"] == sorted([FOLDER, f"{name}.ipynb"])


@pytest.mark.parametrize("name", notebooks.names())
def test_a_page_finds_all_it_needs_from_its_notebook_alone(sessions, name):
    assert_ran_alone(sessions[0][name], name)
    assert sessions[0][name]["ran"] == ("whole" if name in WHOLE else "imports")


@pytest.mark.slow  # nbval runs these cells in every run; five minutes of a core to see them again
def test_every_page_runs_whole_from_its_notebook_alone(repository, tmp_path):
    ends, _ = open_on_colab(repository, tmp_path, REST)
    assert list(ends) == REST
    for name, ended in ends.items():
        assert_ran_alone(ended, name)


def test_each_page_asks_pip_for_the_requirements_of_colab_and_nothing_else(sessions):
    asked = [re.fullmatch(rf"-m pip install --quiet -r /.*/{FOLDER}/requirements-colab\.txt", line)
             for line in sessions[1]]
    assert len(asked) == len(notebooks.names()) and all(asked)


def test_the_real_pip_finds_the_requirements_met_without_an_index(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-r",
         str(ROOT / "requirements-colab.txt")], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Would install" not in result.stdout


@pytest.mark.parametrize("name", notebooks.names())
def test_a_page_asks_for_a_gpu_and_fits_a_session_as_it_is(name):
    nb = json.loads(notebooks.find(name).read_text())
    assert nb["metadata"]["accelerator"] == "GPU"
    known = page_parameters.parameters(notebooks.find(name))
    assert known["recompute"].default is False  # it reads tables, of a preset that has them
    assert any((ROOT / "data" / "results" / known["preset"].default).iterdir())


def test_the_page_on_colab_installs_what_the_project_s_extra_names():
    text = (ROOT / "book" / "colab.md").read_text()
    extra = tomllib.loads((ROOT / "book" / "pyproject.toml").read_text())["project"][
        "optional-dependencies"]["language"]
    assert set(re.findall('"([^"]+)"', re.search("%pip install.*", text)[0])) == set(extra)


# ------------------------------------------------------------------------------------ taking home


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A runs directory, and a session's folder as the working directory."""
    for name in ("laptop/regression-doubled-seed3/llc.csv", "laptop-seed3/metrics.json",
                 "laptop/regression-doubled-seed3/checkpoints/step_0000000.safetensors",
                 "laptop-seed3/.metrics.json.lock"):
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(name)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    monkeypatch.setenv("DEVLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.mark.parametrize("checkpoints", [False, True])
def test_what_was_computed_is_zipped_and_handed_to_the_browser(runs, monkeypatch, checkpoints):
    offered = []
    module = types.ModuleType("google.colab")
    module.files = types.SimpleNamespace(download=offered.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    place = colab.download_results(checkpoints)
    assert offered == [str(place)] and list(Path.cwd().iterdir()) == [place]
    with zipfile.ZipFile(place) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    kept = ["laptop-seed3/metrics.json", "laptop/regression-doubled-seed3/llc.csv"]
    kept += ["laptop/regression-doubled-seed3/checkpoints/step_0000000.safetensors"] * checkpoints
    assert found == {name: name for name in kept}


def test_where_nothing_was_computed_nothing_is_offered(runs, capsys):
    shutil.rmtree(runs)
    assert colab.download_results() is None
    assert capsys.readouterr().out == "" and list(Path.cwd().iterdir()) == []


def test_elsewhere_the_file_is_made_and_no_browser_asked(runs):
    assert colab.download_results() == Path.cwd() / colab.NAME
