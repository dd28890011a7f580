"""devlib alone: what `pip install .` brings is enough for README's example, and the companion is
not needed."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions

import pytest

from companion.known.answers import quadratic_chain_mean
from companion.places import project_root
from devlib.llc import default_nbeta
from devlib.sampling import SGLD

ROOT = project_root()
GIVEN = """
import sys, torch
sys.modules["companion"] = None  # to import it is an error
xs = torch.full((512, 1), 10.0)
ys, model = 2 * xs, torch.nn.Linear(1, 1, bias=False)
model.weight.data.fill_(2.0)
"""  # what the example takes as given: 1/2 h (w - 2)^2 with h = 200
ASKED = """
from devlib.llc import estimate_llc
estimate, sampler = estimate_llc(found.draws), found.draws.sampler
print(devlib.__file__, estimate.mean, estimate.mcse, sampler.eps, sampler.nbeta, sampler.gamma)
"""


def run_example(python, folder, **options):
    """devlib's file, as that Python finds it in `folder`; README's example gives the exact LLC."""
    example, = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    done = subprocess.run([python, "-c", GIVEN + example + ASKED], cwd=folder, text=True,
                          capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    printed, llc, mcse, *settings = done.stdout.splitlines()[-1].split()
    exact = quadratic_chain_mean((200.0,), SGLD(*map(float, settings)))
    assert abs(float(llc) - exact) < 4 * float(mcse) < 0.3
    assert float(settings[1]) == default_nbeta(128)
    return printed


def test_readmes_example_needs_devlib_alone(tmp_path):
    shutil.copytree(ROOT / "devlib", tmp_path / "devlib")
    assert run_example(sys.executable, tmp_path).startswith(str(tmp_path))


def test_every_library_that_devlib_imports_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in declared}
    imported = {part.split(".")[0] for path in (ROOT / "devlib").rglob("*.py")
                for node in ast.walk(ast.parse(path.read_text()))
                for part in ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                             else [node.module] if isinstance(node, ast.ImportFrom) else [])}
    imported -= {*sys.stdlib_module_names, "devlib"}
    known = packages_distributions()
    assert {min(known[name], key=len).lower() for name in imported} == declared


@pytest.mark.slow
def test_an_empty_environment_gets_devlib_and_no_companion(tmp_path):
    """Into a fresh virtual environment, with all that devlib depends on: minutes, most of them
    torch's."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(
        ".*", "runs", "_build", "notebooks", "data", "build", "*.egg-info"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-compile", source], check=True)
    env = {"PATH": "/usr/bin:/bin"}
    assert run_example(python, tmp_path, env=env).startswith(str(tmp_path / "venv"))
    there = subprocess.run([python, "-c", "import companion"], cwd=tmp_path, env=env,
                           capture_output=True, text=True)
    assert "No module named 'companion'" in there.stderr
