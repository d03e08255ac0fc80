"""The tests of tests/kernels.py in Triton's interpreter.

Its bfloat16 loads and stores are correct, its matrix products are not.
"""

import pytest
import torch

from tests.kernels import *  # noqa: F403 - each of them is a test


@pytest.fixture
def device() -> str:
    return "cpu"


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.fixture
def half() -> torch.dtype:
    return torch.float16
