from collections.abc import Iterator

import pytest
import torch

from tests import probes


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def probe_environments() -> Iterator[None]:
    """probe/NAME-v0 for the environments of tests/probes.py."""
    with probes.registered():
        yield


def pytest_configure(config: pytest.Config) -> None:
    # Box2D's extension module warns while it is imported and cannot survive that warning as an error
    config.addinivalue_line("filterwarnings", "ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
