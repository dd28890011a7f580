"""The words in which a page says whether a claim of the paper holds in its run."""


def verdict(holds: bool, *, reached: bool) -> str:
    """"agrees" or "differs", or that this run stops before the claim can be seen."""
    if not reached:
        return "not reached at this scale"
    return "agrees" if holds else "differs"
