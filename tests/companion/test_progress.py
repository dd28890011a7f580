"""How a long command says where it is: parts, times, and a line now and then without a terminal."""

import io
import threading

import pytest

from companion import progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def running():
    clock = Clock()
    return progress.Progress({"a": 60, "b": 600, "c": 120}, clock), clock


def test_what_is_left_is_what_was_expected_before_anything_is_done(running):
    found, clock = running
    assert found.left() == 780
    found.begin("a")
    clock.now = 20
    assert found.left() == 760
    assert found.line() == "1 of 3, a; less than a minute so far, about 13 minutes left"


def test_a_last_moment_is_not_about_itself(running):
    found, clock = running
    for name in "abc":
        found.begin(name)
        clock.now += found.expected[name] - (10 if name == "c" else 0)
        if name != "c":
            found.end()
    assert found.line().endswith("so far, less than a minute left")


def test_what_is_left_goes_by_how_long_the_finished_parts_took(running):
    found, clock = running
    found.begin("a")
    clock.now = 120  # twice as long as expected
    found.end()
    found.begin("b")
    clock.now = 420
    assert found.left() == 2 * 600 - 300 + 2 * 120
    assert found.line() == "2 of 3, b; 7 minutes so far, about 19 minutes left"


def test_a_part_that_takes_longer_than_it_should_leaves_no_less_than_the_rest(running):
    found, clock = running
    found.begin("a")
    clock.now = 1_000
    assert found.left() == 720


def test_an_unexpected_part_counts_for_nothing(running):
    found, _ = running
    found.begin("d")
    assert found.left() == 780 and "1 of 4, d" in found.line()


@pytest.mark.parametrize("seconds, words", [
    (20, "less than a minute"), (61, "1 minute"), (600, "10 minutes"), (7_260, "2 h 1 min")])
def test_times_are_in_words(seconds, words):
    assert progress._minutes(seconds) == words


class Stream(io.StringIO):
    """A stream that says when a third line was written to it."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal, self.third = terminal, threading.Event()

    def isatty(self):
        return self.terminal

    def write(self, text):
        super().write(text)
        if self.getvalue().count("\n") >= 3:
            self.third.set()


def test_without_a_terminal_a_line_comes_now_and_then():
    stream = Stream(terminal=False)
    with progress.reporting({"a": 60, "b": 60}, every=0.001, stream=stream), progress.part("a"):
        assert stream.third.wait(60)
    for line in stream.getvalue().splitlines():
        assert line.startswith("1 of 2, ") and line.endswith(" left")
    said = stream.getvalue()
    with progress.part("b"):  # of nothing: the report has ended
        assert stream.getvalue() == said


def test_on_a_terminal_the_bars_speak():
    stream = Stream(terminal=True)
    with progress.reporting({"a": 60}, every=0.001, stream=stream) as found, progress.part("a"):
        pass
    assert stream.getvalue() == "" and [name for name, _ in found.finished] == ["a"]
