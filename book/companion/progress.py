"""What a long command is doing, and how long is left: a line a minute on stderr, where no terminal
shows the bars of the work itself."""

import sys
import threading
import time
from contextlib import contextmanager, nullcontext

MINUTE = 60.0  # seconds between two lines
_current = None


class Progress:
    """Parts of a command, by name, with the seconds that each is expected to take. What is left is
    those of the parts to come, times how much slower than expected the finished ones were."""

    def __init__(self, expected: dict[str, float], clock=time.monotonic):
        self.expected, self.clock = dict(expected), clock
        self.begun, self.finished, self.now, self.since = clock(), [], None, clock()

    def begin(self, name):
        """From here on this part is being done. One that was not expected counts for nothing."""
        self.expected.setdefault(name, 0.0)
        self.now, self.since = name, self.clock()

    def end(self):
        """The part that was begun is done."""
        self.finished.append((self.now, self.clock() - self.since))
        self.now = None

    def left(self) -> float:
        """Seconds that are left, by expectation and by how the finished parts held to it."""
        planned = sum(self.expected[name] for name, _ in self.finished)
        factor = sum(took for _, took in self.finished) / planned if planned else 1.0
        done = {name for name, _ in self.finished}
        rest = sum(seconds for name, seconds in self.expected.items()
                   if name not in done and name != self.now)
        under_way = factor * self.expected[self.now] - (self.clock() - self.since) if (
            self.now) else 0.0
        return factor * rest + max(0.0, under_way)

    def line(self) -> str:
        """Where the command is."""
        number = min(len(self.finished) + 1, len(self.expected))
        left = f"about {_minutes(self.left())} left".replace("about less", "less")
        return (f"{number} of {len(self.expected)}, {self.now or 'between parts'}; "
                f"{_minutes(self.clock() - self.begun)} so far, {left}")


def _minutes(seconds) -> str:
    minutes = round(seconds / MINUTE)
    if minutes < 1:
        return "less than a minute"
    hours, rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest} min"
    return f"{minutes} minute{'s' * (minutes > 1)}"


@contextmanager
def reporting(expected: dict[str, float], every=MINUTE, stream=None):
    """Reports the parts that `part` names within. A line goes to `stream` (stderr) every so many
    seconds, unless that is a terminal. The first comes after as many: what fails at once says only
    why."""
    global _current
    stream, stop = stream or sys.stderr, threading.Event()
    found = Progress(expected)

    def report():
        while not stop.wait(every):
            print(found.line(), file=stream, flush=True)

    thread = None if stream.isatty() else threading.Thread(target=report, daemon=True)
    _current = found
    try:
        if thread:
            thread.start()
        yield found
    finally:
        _current = None
        stop.set()
        if thread:
            thread.join()


def part(name):
    """A part of what is reported; of nothing, where nothing is."""
    return nullcontext() if _current is None else _part(_current, name)


@contextmanager
def _part(progress, name):
    progress.begin(name)
    yield
    progress.end()
