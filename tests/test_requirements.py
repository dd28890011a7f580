"""requirements.txt: whole, at peace with itself, and with torch of any build."""

import importlib.metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from companion.places import project_root

PINS = {canonicalize_name(name): version for name, version in (
    line.split("==") for line in (project_root() / "requirements.txt").read_text().splitlines()
    if line[0] != "#")}


def wanted(name):
    """What an installed package asks for here: requirements."""
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


@pytest.mark.parametrize("name", sorted({*PINS} - {"torch"}))  # its needs hang on its build
def test_what_a_pin_needs_is_pinned_and_fits(name):
    """As pip check, from the pins alone, so that nothing else is installed beside them."""
    try:
        assert importlib.metadata.version(name).split("+")[0] == PINS[name]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    for need in wanted(name):
        pin = PINS.get(canonicalize_name(need.name))
        assert pin is not None, f"{name} needs {need}, which is not pinned"
        assert need.specifier.contains(pin, prereleases=True), f"{name} needs {need}, not {pin}"


def test_nothing_is_compiled_against_one_build_of_torch():
    """Such a wheel (torchvision's, torchaudio's) asks for torch's version to the letter. Beside
    another build of that version, as torch +cpu, it loads no operators and transformers' models
    cannot be imported: what needs one has an environment of its own (tests/bench/peer.py)."""
    bound = {name for name in PINS for need in wanted(name)
             if need.name == "torch" and "==" in str(need.specifier)}
    assert bound == set() == PINS.keys() & {"torchvision", "torchaudio", "torchtext"}
