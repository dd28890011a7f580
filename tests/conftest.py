"""One torch thread in every test: at these sizes a second one only waits, and it waits hot. What a
run left out, as its last word. And the fixtures of the book's tests."""

from collections import Counter

import pytest
from browsing import book, browser, visit  # noqa: F401

LONGEST = ("test_book.py", "15_own_model.ipynb", "test_compute.py", "test_reproduce.py",
           "test_colab.py", "test_step_bias.py", "test_protocols.py", "test_language.py",
           "test_reading.py", "test_truths.py", "test_sweep.py", "test_reruns.py",
           "test_measure.py", "test_calibrate.py", "03_primer.ipynb", "04_calibration.ipynb",
           "06_regression_stages.ipynb", "test_training.py", "test_faults_kill.py")


@pytest.hookimpl(optionalhook=True)  # of a plugin that may be off
def pytest_xdist_auto_num_workers():
    """One more than there are cores: for a quarter of its time a worker waits, for a browser, a
    disk, a process that it killed."""
    import joblib

    return joblib.cpu_count() + 1


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """The files that take minutes first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: next((place for place, name in enumerate(LONGEST)
                                      if item.path.name == name), len(LONGEST)))


def pytest_unconfigure(config):
    """After pytest's own closing line: which tests did not run, and what would run them."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None:
        return
    if left := not_run(reporter.stats.get("skipped", [])):
        reporter.write_line(left)


def not_run(reports) -> str | None:
    """One line that counts skipped tests by their reason, which says what they lack."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports
                      if isinstance(report.longrepr, tuple))
    if not reasons:
        return None
    return f"NOT RUN: {reasons.total()} tests: " + "; ".join(
        f"{count} ({reason})" for reason, count in reasons.most_common())
