"""Variables of this process's environment, for a while."""

import contextlib
import os


@contextlib.contextmanager
def environment(**variables):
    """Sets environment variables (None takes one away), and puts them back when the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _set(variables)
        yield
    finally:
        _set(before)


def _set(variables):
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
