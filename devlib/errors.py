"""The errors a user can mend. The command line prints them as one line and exits with 2."""


class UserError(ValueError):
    """Something a user gave is wrong; the message says what to do instead."""


class StorageError(UserError):
    """A disk is full, or cannot be written."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another run; the message names the file."""


class ShortChains(UserWarning):
    """Chains that are too short for their own settings, which is known before they run."""


class UnsoundPoints(UserWarning):
    """Boundaries of a curve that rest on estimates which failed their own checks."""


class Interrupted(KeyboardInterrupt):
    """The user broke off. `found` has what was known by then, in the form of the whole result."""

    def __init__(self, found):
        super().__init__(str(found))
        self.found = found
