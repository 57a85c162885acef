import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rlopt.cli import main as cli
from rlopt.config import choices as catalogue
from tests import probes
from tests.extending import FILES, write


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def probe_environments() -> Iterator[None]:
    """probe/NAME-v0 for the environments of tests/probes.py."""
    with probes.registered():
        yield


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Iterator[None]:
    """An empty working directory; afterwards signal handlers are as they were, and no folder of extensions is left."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    assert catalogue.extra_dirs() == ()


@pytest.fixture
def parts(tmp_path) -> Path:
    """A folder of one's own parts."""
    return write(tmp_path / "my_parts", FILES)


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    """A function that runs one command and returns (exit code, stdout, stderr)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def double_precision() -> Iterator[None]:
    """torch makes float64 tensors, as experiments on known functions do."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pytest_configure(config: pytest.Config) -> None:
    # Box2D's extension module warns while it is imported and cannot survive that warning as an error
    config.addinivalue_line("filterwarnings", "ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
