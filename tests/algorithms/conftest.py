"""One thread for torch, as in every command: only then does the same work give the same bits."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
