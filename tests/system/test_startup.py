"""The first moments of `python -m rlopt`: no code of the working directory runs, and a Ctrl-C is one line."""

import signal
import subprocess
import sys
import time

import pytest

from tests.support.command_line import SHORT
from tests.support.launching import environment

# Python itself imports contextlib and two more before the first line of rlopt: see SECURITY.md
PLANTED = ["torch", "numpy", "yaml", "typing", "signal", "argparse", "hydra", "omegaconf", "gymnasium",
           "hydra_plugins/planted", "rlopt_extensions", "matplotlib", "sitecustomize_"]  # fmt: skip


def python(*arguments: str, **how) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "rlopt", *arguments], env=environment(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c, **how)  # fmt: skip


def heed_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, these tests too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    "command", [["eval", "."], ["report", "."], ["train", *SHORT, "run_dir=new"]], ids=lambda c: c[0]
)
def test_no_module_of_the_working_directory_is_imported(tmp_path, command):
    for name in PLANTED:
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    process = python(*command, cwd=tmp_path)
    _, said = process.communicate(timeout=120)
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert process.returncode == (0 if command[0] == "train" else 2), said


def interrupted(seconds: float, *arguments: str, **how) -> tuple[int, list[str]]:
    process = python(*arguments, **how)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said.splitlines()


@pytest.mark.parametrize("seconds", [0.5, 1.2, *(pytest.param(0.3 + i / 8, marks=pytest.mark.fuzz) for i in range(40))])
def test_an_interrupt_at_the_start_is_told_and_is_130(tmp_path, seconds):
    """The interpreter's own first tenths of a second are Python's."""
    long = ["total_steps=100000000", "batch_size=64", "policy.hidden=[4]", "critic.hidden=[4]"]
    code, said = interrupted(seconds, "train", *long, "run_dir=run", cwd=tmp_path)
    assert code == 130
    assert not any("Traceback" in line or "Error" in line for line in said), said
    begun = (tmp_path / "run").exists()
    assert said == ["rlopt: interrupted"] or (begun and any(line.startswith("Stopped at step") for line in said)), said
