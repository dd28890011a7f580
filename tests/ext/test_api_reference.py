"""The API reference: what it finds in a source, what it links to, and that nothing is left bare."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import api_reference  # noqa: E402
import api_source  # noqa: E402


@pytest.fixture(scope="module")
def real():
    """This library's modules and the tests of each name."""
    found = api_source.modules(ROOT)
    return found, api_source.tests(ROOT, found)


def test_every_public_name_has_a_docstring_or_a_test(real):
    found, tested = real
    bare = [name.path for module in found.values() for name in module.all_names
            if not name.doc and name.path not in tested]
    assert not bare, f"neither docstring nor test: {', '.join(bare)}"


def test_every_module_says_what_it_is_and_stands_in_one_group(real):
    found, _ = real
    assert all(module.doc for module in found.values())
    listed = [module.name for _, _, members in api_reference.groups(found) for module in members]
    assert sorted(listed) == sorted(module.name for module in found.values())
    assert all(members for _, _, members in api_reference.groups(found))


def test_a_module_stands_with_its_package():
    one = {name: api_source.Module(name, "", ())
           for name in ("devlib.news", "companion.pages.news")}
    shown = api_reference.groups(one)
    assert [module.name for module in shown[0][2]] == ["devlib.news"]
    assert sum(len(members) for _, _, members in shown) == 2


def test_the_estimator_leads_to_its_equation_and_its_tests(real):
    found, tested = real
    name = next(n for n in found["llc.estimate"].names if n.name == "estimate_llc")
    assert "eq. 3" in api_reference.references(name.doc)
    assert api_reference.place("eq. 3") == "#equations"
    assert "test_estimate.test_estimate_is_the_mean_after_burn_in" in tested[name.path]
    assert "(equations)=\n## The two equations" in (ROOT / "book/notation.md").read_text()


def test_every_place_is_a_page():
    for page in map(api_reference.place, api_reference.PLACES):
        if page != "#equations":
            path = ROOT / "book" / page
            assert path.with_suffix(".md").exists() or path.with_suffix(".ipynb").exists(), page


@pytest.mark.parametrize("text, wanted", {
    "The estimate of eq. 3 from the draws": ["eq. 3"],
    "the online estimate of A.5.4 (eqs. 9-12)": ["A.5.4", "eq. 9", "eq. 12"],
    "The update (8), pure.": ["eq. 8"], "q(t | s) of (15)": ["eq. 15"],
    "Stages (Section 5, B.1).": ["5", "B.1"], "the score (6.2, C.1.2)": ["6.2", "C.1.2"],
    "zero, for tasks of mean zero (7.1)": ["7.1"], "Shapes (4, 5) and 0.5; Fig. B.4 (2)": ["B.4"],
    "A.9 and eq. 99 have no page; F.2 twice, F.2": ["F.2"]}.items())
def test_references_of_a_docstring(text, wanted):
    assert api_reference.references(text) == wanted


def test_signs_of_markup_stand_for_themselves_but_in_code():
    text = "a <b> of $RUNS, |w| * x, `c <d> $e --f`, --runs\n\n    w <- w * $2"
    assert api_reference.escape(text) == (
        "a \\<b> of \\$RUNS, \\|w\\| \\* x, `c <d> $e --f`, `--runs`\n\n    w <- w * $2")


def test_first_sentences():
    assert api_reference.first_sentence("One thing, e.g.\nmore (F.1.2): so. Next.\n\nLast.") == (
        "One thing, e.g. more (F.1.2): so.")
    assert api_reference.first_sentence("As a row (Fig.\nB.5). Next.") == "As a row (Fig. B.5)."


# ------------------------------------------------------------------------- a library made for it

LIBRARY = {
    "devlib/__init__.py": "",
    "devlib/shapes.py": '''
        """Shapes (A.2)."""
        from dataclasses import dataclass, field

        @dataclass
        class Square:
            """A square."""
            side: float = number(2.0, "a", "m", "-")
            tags: list = field(default_factory=list)

            @property
            def area(self) -> float:
                return self.side**2

            @classmethod
            def unit(cls, scale=1) -> "Square":
                """The unit square."""

            def grow(self, by, *, twice=False):
                """Grows."""

            def _hidden(self): ...

        class Box:
            def __init__(self, width, depth=1): ...

        def draw(shape, *, colour="red") -> str: ...
        def lonely(): ...
        def _private(): ...
        ''',
    "devlib/front.py": '"""The front."""\nfrom devlib.shapes import Square, draw\n',
    "notebooks/01_page.py": "from devlib import shapes\nshapes.draw(1)\n",
    "tests/helpers.py": "from devlib.shapes import Box\n\ndef box():\n    return Box(1)\n",
    "tests/test_shapes.py": '''
        import pytest
        from helpers import box
        from devlib import front
        from devlib.front import Square as S

        @pytest.fixture
        def square():
            return S(3)

        def test_area(square):
            assert square.area == 9

        def test_drawing():
            front.draw(2)

        def test_box():
            box()

        def test_nothing():
            assert lonely != draw
        '''}


@pytest.fixture
def library(tmp_path):
    for name, text in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def test_names_and_signatures(library):
    found = api_source.modules(library)
    assert list(found) == ["front", "shapes"] and not found["front"].names  # re-exports have a home
    square, box, draw, lonely = found["shapes"].names
    assert square.signature == "(side: float = 2.0, tags: list = ...)"
    assert [(m.name, m.kind, m.signature) for m in square.members] == [
        ("Square.area", "property", "() -> float"),
        ("Square.unit", "classmethod", "(scale=1) -> 'Square'"),
        ("Square.grow", "method", "(by, *, twice=False)")]
    assert box.signature == "(width, depth=1)"
    assert draw.signature == "(shape, *, colour='red') -> str"
    assert lonely.doc == "" and square.doc == "A square."


def test_tests_are_found_through_aliases_reexports_fixtures_and_helpers(library):
    tested = api_source.tests(library, api_source.modules(library))
    assert tested == {
        "devlib.shapes.Square": ["test_shapes.test_area"],
        "devlib.shapes.Square.area": ["test_shapes.test_area"],
        "devlib.shapes.draw": ["test_shapes.test_drawing"],
        "devlib.shapes.Box": ["test_shapes.test_box"]}
    assert api_source.pages(library, api_source.modules(library)) == {
        "devlib.shapes.draw": ["01_page"]}


def test_what_a_name_looks_like(library):
    writer = api_reference.Writer(library, "https://example.org/r/blob/main")
    square, _, draw, _ = writer.found["shapes"].names
    assert writer.name(draw, ["A.2"]).splitlines() == [
        "```{py:function} draw(shape, *, colour='red') -> str", ":module: devlib.shapes", "",
        "Paper", ": [A.2](../notebooks/03_primer)", "",
        "Tests", ": [`test_drawing`](https://example.org/r/blob/main/tests/test_shapes.py)", "",
        "Pages", ": [](../notebooks/01_page)", "```"]
    text = writer.name(square)
    assert text.startswith("````{py:class} Square(side") and text.endswith("````")
    assert ":classmethod:" in text and "```{py:property} Square.area\n" in text
    assert ":type: float" in text and "_hidden" not in text


def test_a_line_to_each_name(library):
    writer = api_reference.Writer(library, "")
    square, box, *_ = writer.found["shapes"].names
    assert writer.line(square) == "`Square`\n: A square."
    assert writer.line(box) == "`Box`"


def test_the_reference_is_read_and_not_imported():
    """Neither torch nor devlib is loaded for it."""
    program = ("import sys; sys.path.insert(0, 'book/_ext'); import api_reference as a;"
               "w = a.Writer('.', ''); text = w.reference(1, len(a.GROUPS)) + w.overview();"
               "assert 'sample_chains' in text;"
               "print(*(m for m in ('torch', 'numpy', 'devlib') if m in sys.modules))")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
