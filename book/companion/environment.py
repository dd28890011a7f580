"""This process's surroundings, for a while: its variables, and what imports find."""

import contextlib
import importlib
import os
import sys
import warnings


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


@contextlib.contextmanager
def quiet_imports():
    """For transformers and TransformerLens: both import torchvision where they find it, and fail
    where that was built for another torch; and tqdm warns of a bar that a notebook cannot draw."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass
    except RuntimeError:
        sys.modules["torchvision"] = None  # as if it were not installed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield
