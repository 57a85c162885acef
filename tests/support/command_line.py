"""What tests of the command line share: a short run, and what was told and made."""

import re
from pathlib import Path

SHORT = ["total_steps=40", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]


def chosen(*overrides: str) -> list[str]:
    """The last of several values of one option; the command line takes each option once."""
    return [f"{name}={value}" for name, value in dict(text.split("=", 1) for text in overrides).items()]


def created() -> list[str]:
    return sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("*"))


def one_line(err: str) -> str:
    """The message, which is one line, for users and not for programmers."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("rlopt: ")
    assert not re.search(r"Traceback|omegaconf|hydra|<class", lines[0], re.IGNORECASE), lines[0]
    return lines[0]
