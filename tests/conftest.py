"""One torch thread in every test: at these sizes a second one only waits, and it waits hot. And
the fixtures of the book's tests."""

import pytest
from browsing import book, browser, visit  # noqa: F401


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)
