"""One torch thread in every test: at these sizes a second one only waits, and it waits hot."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)
