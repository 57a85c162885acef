"""Two network namespaces, joined by a virtual cable, as two hosts. Needs root and iproute2; skipped elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlopt.cli.main import main
from tests.support.command_line import chosen
from tests.support.launching import ended, environment
from tests.support.ranked import SMALL


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """The namespaces; 10.77.0.1 is in the first, 10.77.0.2 in the second."""
    names = (f"rlopt{os.getpid()}a", f"rlopt{os.getpid()}b")
    if not shutil.which("ip") or not all([ip("netns", "add", name) for name in names]):
        pytest.skip("no network namespaces here")
    try:
        cable = f"v{os.getpid()}"
        assert ip(
            "link",
            "add",
            f"{cable}a",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            f"{cable}b",
            "netns",
            names[1],
        )
        for i, name in enumerate(names):
            device = f"{cable}{'ab'[i]}"
            assert ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", device)
            assert all(ip("-n", name, "link", "set", each, "up") for each in ("lo", device))
        yield names
    finally:
        [ip("netns", "delete", name) for name in names]


def test_two_hosts_run_as_one_process_and_the_first_writes(hosts, tmp_path):
    overrides = chosen(*SMALL, "evaluation.episodes=2")
    folders = [tmp_path / "a", tmp_path / "b"]
    processes = []
    for i, (host, folder) in enumerate(zip(hosts, folders, strict=True)):
        folder.mkdir()
        start = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
        start += [f"--node-rank={i}", "--nproc-per-node=1", "--master-addr=10.77.0.1", "--master-port=29500"]
        processes.append(
            subprocess.Popen([*start, "-m", "rlopt", "train", *overrides, "run_dir=run"], cwd=folder, text=True,
                             env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )  # fmt: skip
    with ended(*processes):
        said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "trpo on CartPole" in said[0][0] and said[1][0] == ""
    assert [p.name for p in folders[0].iterdir()] == ["run"] and list(folders[1].iterdir()) == []

    assert main(["train", *overrides, f"run_dir={tmp_path / 'one'}"]) == 0
    one, two = (
        json.loads(Path(place / "summary.json").read_text()) for place in (tmp_path / "one", folders[0] / "run")
    )
    for name in ("steps", "return_mean", "evaluation_return", "sampled_evaluation_return"):
        assert two[name] == pytest.approx(one[name], rel=1e-8)
