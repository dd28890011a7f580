"""ARCHITECTURE.md and CONTRIBUTING.md name what there is."""

import re
from importlib.util import find_spec

import pytest

from companion.places import project_root

ROOT = project_root()
GUIDES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
NO_FILE = {"runs/", ".ipynb"}  # made by whoever computes, and a suffix
ROOMS = {"devlib": ROOT / "devlib", "book/companion": ROOT / "book" / "companion"}


def named(guide):
    """What stands as code in a guide, commands word by word."""
    text = (ROOT / guide).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|\n)(.*?)```", text, re.S)
    plain = re.sub(r"```.*?```", "", text, flags=re.S)
    words = re.findall(r"`([^`]+)`", plain) + re.findall(r"\]\((\S+?)\)", plain)
    return {word for part in (*words, *(b for b in blocks if " -m pytest" in b))
            for word in part.split()}


def pattern(path):
    """A path with its placeholders as a pattern: NN_name, <preset>."""
    return re.sub(r"<\w+>", "*", path).replace("NN_name", "[0-9][0-9]_*").rstrip("/")


@pytest.mark.parametrize("guide", GUIDES)
def test_every_path_exists(guide):
    paths = {word for word in named(guide)
             if re.search(r"/|\.(py|ipynb|md|yaml|yml|toml|txt)$", word)} - NO_FILE
    assert len(paths) > 10
    lacking = [path for path in paths if not any(ROOT.glob(pattern(path)))]
    assert not lacking


@pytest.mark.parametrize("guide", GUIDES)
def test_every_module_exists(guide):
    dotted = {word for word in named(guide)
              if re.fullmatch(r"(devlib|companion)(\.\w+)*", word)}
    assert dotted and all(map(find_spec, dotted))


def test_the_picture_shows_what_is_there():
    """Of each room all packages, `name/`, and modules only where lines begin with their names."""
    picture = re.search(r"```\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)[1]
    for room, folder in ROOMS.items():
        block = re.search(rf"^ {room} .*\n((?:   \S.*\n)+)", picture, re.M)[1]
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert {*re.findall(r"(\w+)/\s", block)} == packages
        modules = [name for line in block.splitlines()
                   for name in re.match(r"   ([\w ]*?)(?:  |\S*/|$)", line)[1].split()]
        assert len(modules) > 4
        assert all((folder / f"{name}.py").exists() for name in modules)
