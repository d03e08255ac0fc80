"""Everything here needs an NVIDIA GPU."""

import pytest

from gpu.present import count


@pytest.fixture(autouse=True, scope="session")
def gpu() -> None:
    if not count():
        pytest.skip("no NVIDIA GPU here")
