"""Where things are: the project, the runs and the cache."""

import os
from pathlib import Path


def runs_directory() -> Path:
    """Where runs go: $DEVLIB_RUNS, or runs/ in the project (ignored by git)."""
    return Path(os.environ.get("DEVLIB_RUNS") or project_root() / "runs")


def cache_directory() -> Path:
    """Where downloaded and tokenised text goes: $DEVLIB_CACHE, or ~/.cache/devlib."""
    return Path(os.environ.get("DEVLIB_CACHE") or Path.home() / ".cache" / "devlib")


def project_root() -> Path:
    """The checkout that holds this companion."""
    return Path(__file__).resolve().parents[2]
