import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rlopt.cli import main as cli
from rlopt.config import choices as catalogue
from rlopt.training.trainer import Trainer
from tests.support import inspecting, probes, resuming
from tests.support.extending import FILES, write
from tests.support.probes import make_trainer
from tests.support.recorded import write_run as write_run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def probe_environments() -> Iterator[None]:
    """probe/NAME-v0 for the environments of tests/support/probes.py."""
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


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No process that a test began, and no alarm, outlives it."""
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Callable[..., Trainer]:
    """A function from overrides to a run; what it opened is closed."""

    def start(*overrides: str) -> Trainer:
        run = make_trainer(*overrides)
        request.addfinalizer(lambda: run.collector.close())
        return run

    return start


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder of a finished run of a case, made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def of(name: str, *overrides: str) -> Path:
        key = f"{name} {' '.join(overrides)}"
        if key not in made:
            made[key] = folder / str(len(made))
            make_trainer(*resuming.SMALL, *resuming.CASES[name], *overrides, f"run_dir={made[key]}").run()
        return made[key]

    return of


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A run to go on with, with every file that a run directory may hold."""
    run_dir = tmp_path_factory.mktemp("template") / "run"
    small = ["batch_size=80", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=1"]
    saved = ["checkpoint.every_updates=1", "checkpoint.keep=2"]
    assert cli.main(["train", *small, *saved, "env=cartpole", "total_steps=160", f"run_dir={run_dir}"]) == 0
    (run_dir / "checkpoints" / "step-000000000160.safetensors").unlink()
    for name in ("nan_report.json", "error.txt"):
        (run_dir / name).write_text("{}")
    return run_dir


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A run of three updates on each environment."""
    found = {}
    for name, overrides in inspecting.RUNS.items():
        found[name] = tmp_path_factory.mktemp(name) / "run"
        make_trainer(*inspecting.SMALL, *overrides, f"run_dir={found[name]}").run()
    return found


def pytest_configure(config: pytest.Config) -> None:
    # Box2D's extension module warns while it is imported and cannot survive that warning as an error
    config.addinivalue_line("filterwarnings", "ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
