"""Python runs this first in every process of a command that is to be killed (tests/killing.py)."""

import os

if "KILL_AT" in os.environ:
    import kill_at

    kill_at.install()
