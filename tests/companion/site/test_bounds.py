"""Every parameter of every page has its bounds in one table, and its comment says the same."""

import re

import pytest
import yaml

from companion.results import regression_settings
from companion.site import notebooks
from companion.site.bounds import BOUNDS, WORDS, Bound
from companion.site.page_parameters import Parameter, parameters
from devlib.errors import UserError
from devlib.settings import StageSettings, replace

PAGES = {name: parameters(notebooks.find(name)) for name in notebooks.names()}
GIVEN = [(page, name) for page, known in PAGES.items() for name in known]
LIMIT = re.compile(r"(?:above|below) [\d.]+|[\d.]+ or (?:more|less)")


@pytest.mark.parametrize("page, name", GIVEN)
def test_every_parameter_has_its_bounds_and_a_comment_that_agrees(page, name):
    parameter, bound = PAGES[page][name], BOUNDS[name]
    assert parameter.type == bound.type
    assert LIMIT.findall(parameter.help) == [bound.words] * bool(bound.words)
    for choice in bound.choices:  # the default stands beside it
        assert choice in (parameter.default, "") or re.search(rf"\b{choice}\b", parameter.help)
    assert parameter.default is None or bound.allows(parameter.default)


def test_the_table_holds_no_parameter_that_no_page_has():
    assert BOUNDS.keys() == {name for _, name in GIVEN}


@pytest.mark.parametrize("name, edge, inside, outside", [
    ("tolerance", "0", "1e-9", "-1"), ("eps", "0", "1e-4", "-1e-4"), ("nbeta", "0", "25", "-1"),
    ("gamma", "-1e-9", "0", "-1")])
def test_a_number_is_held_to_its_bound(name, edge, inside, outside):
    parameter = Parameter(name, "float", None, "")  # whatever its comment says
    assert parameter.parse(inside) == float(inside)
    assert parameter.parse("none") is None
    for text in (edge, outside):
        with pytest.raises(UserError, match=f"{name} takes a finite number {BOUNDS[name].words}, "
                                            f"not '{text}'"):
            parameter.parse(text)


@pytest.mark.parametrize("name, default, taken, message", [
    ("residual", "doubled", ["doubled", "standard"], "doubled, standard"),
    ("corpus", "", ["", "offline", "toy", "hub"], "offline, toy, hub")])
def test_a_text_is_one_of_its_choices(name, default, taken, message):
    parameter = Parameter(name, "str", default, "")
    assert [parameter.parse(text) for text in taken] == taken
    with pytest.raises(UserError, match=f"{name} takes {message}, not 'other'"):
        parameter.parse("other")


def test_a_parameter_of_no_page_is_held_to_its_type_alone():
    assert Parameter("count", "int", 3, "above 5").parse("-2") == -2
    assert {Bound(kind).message for kind in WORDS} == set(WORDS.values())


def through_settings(name, value):
    """A page's number as it comes out of the settings that the page builds with it."""
    if name == "tolerance":
        return replace(StageSettings(), tolerance=value).tolerance
    return getattr(regression_settings("smoke", llc={name: value}).llc, name)


@pytest.mark.parametrize("name", [name for name, bound in BOUNDS.items() if bound.type == "float"])
def test_a_number_from_plain_papermill_is_taken_or_refused_too(name):
    """Nothing of ours stands between papermill and a page, and YAML reads 1e-4 as a text."""
    text = yaml.safe_load("1e-4")
    assert text == "1e-4" and through_settings(name, text) == 1e-4
    for bad in ("fast", True, "-1", "nan"):
        with pytest.raises(UserError, match=f"{name} must be a (finite )?number"):
            through_settings(name, bad)
