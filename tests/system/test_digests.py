"""The same command gives the same bits, from one version of rlopt to the next.

Each command trains a few updates; the SHA-256 of the parameters in the newest checkpoint must be the one recorded in
digests.json, beside this file. Bits depend on the type of machine and on the versions of the libraries that compute, so
that digests are recorded for each; on a machine of another type the tests are skipped. On a commit that is known to be
right,

    python tests/system/test_digests.py --record

adds this machine's. After a change that is meant to change the numbers, delete digests.json and record again.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import rlopt

RECORDED = Path(__file__).with_name("digests.json")
RECORD = "python tests/system/test_digests.py --record"
COMMON = ["seed=3", "evaluation.episodes=0", "record.tensorboard=false"]
SMALL = "batch_size=512 env.num_envs=4 total_steps=1536"  # three updates
SECOND_ORDER_CRITIC = "critic.metric=fisher critic.solver=cg critic.step=trust_region critic.schedule=whole_batch"
COMMANDS = [
    # every preset
    f"algo=vpg env=cartpole {SMALL}",
    f"algo=svrpg env=cartpole {SMALL}",
    f"algo=storm_pg env=pendulum {SMALL}",
    "algo=a2c env=halfcheetah total_steps=192",
    f"algo=npg env=pendulum {SMALL}",
    f"algo=nac env=cartpole {SMALL}",
    "algo=enac env=pendulum batch_size=800 env.num_envs=4 total_steps=2400",
    "experiment=lqr algo=enac batch_size=1600 env.num_envs=8 total_steps=4800",
    f"algo=trpo env=cartpole {SMALL}",
    "algo=trpo env=halfcheetah batch_size=512 total_steps=1536",
    f"algo=trpo env=lqr {SMALL}",
    f"algo=acktr env=pendulum {SMALL}",
    f"algo=ppo env=cartpole {SMALL}",
    f"algo=ppo env=pendulum {SMALL}",
    "algo=ppo env=halfcheetah batch_size=512 total_steps=1536",
    f"algo=gauss_newton env=pendulum {SMALL}",
    f"algo=ggn env=cartpole {SMALL}",
    f"algo=newton env=pendulum {SMALL}",
    # solvers
    *[f"algo=trpo env=cartpole solver={name} {SMALL}" for name in ("kfac", "ekfac", "kfra", "low_rank", "diagonal")],
    *[f"algo=trpo env=pendulum solver={name} {SMALL}" for name in ("kfac", "block", "gram", "lbfgs")],
    f"algo=trpo env=pendulum solver.preconditioner=diagonal {SMALL}",
    # what is typed, over preset and recipe
    f"algo=ppo schedule=whole_batch {SMALL}",
    f"algo=ppo optimizer=sgd {SMALL}",
    f"algo=vpg env=cartpole optimizer=history {SMALL}",
    f"algo=trpo env=cartpole step=kl_clip scheduler=cosine {SMALL}",
    f"algo=trpo env=cartpole metric=average {SMALL}",
    f"algo=trpo env=cartpole metric=gradient_covariance solver=tonga {SMALL}",
    f"algo=ppo critic=shared {SMALL}",
    f"algo=ppo objective=kl_penalty {SMALL}",
    f"algo=acktr solver=ekfac {SMALL}",
    f"algo=acktr solver=cg {SMALL}",
    f"algo=acktr env=hopper step=kl_line_search {SMALL}",
    f"algo=trpo env=halfcheetah step=trust_region {SMALL}",
    f"algo=trpo {SECOND_ORDER_CRITIC} {SMALL}",
    f"algo=trpo metric=ggn solver=kfac {SMALL}",
]
WITH_WORKERS = [f"algo=trpo env=halfcheetah step=trust_region {SMALL}", f"algo=ppo env=pendulum {SMALL}"]
RESUMED = [f"algo=trpo env=cartpole {SMALL}", f"algo=acktr env=pendulum {SMALL}"]
ACTING = [f"algo=npg env=pendulum averaging.kind=ema averaging.decay=0.5 {SMALL}"]


def machine() -> str:
    """Type of this machine, and the versions that its bits depend on."""
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        about = ""
    fields = [re.search(rf"^{name}\s*: (.*)$", about, re.MULTILINE) for name in ("vendor_id", "cpu family", "model")]
    processor = " ".join(field[1] for field in fields if field) or platform.processor()
    c = " ".join(part for part in platform.libc_ver() if part)
    return ", ".join(part for part in (
        platform.machine(), processor, torch.backends.cpu.get_cpu_capability(), c,
        *(f"{name} {_version(name)}" for name in ("torch", "numpy", "gymnasium", "mujoco")),
    ) if part)  # fmt: skip


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def parameters(run_dir: Path) -> str:
    """SHA-256 of the actor's in the newest checkpoint, and the critic's where it has some of its own."""
    files = [path for path in run_dir.glob("checkpoints/**/*.safetensors") if "/." not in path.as_posix()]
    newest = max(files, key=lambda path: max(map(int, re.findall(r"step-(\d+)", path.relative_to(run_dir).as_posix()))))
    with safe_open(newest, "numpy") as tensors:
        names = ["agent/actor/theta", *({"agent/critic/theta"} & set(tensors.keys()))]
        return _sha256(*(tensors.get_tensor(name) for name in names))


def actions(run_dir: Path) -> str:
    """SHA-256 of those of the saved policy, by its mode and by samples, for observations drawn from their space."""
    policy = rlopt.load(run_dir)
    policy.observation_space.seed(5)
    seen = np.stack([policy.observation_space.sample() for _ in range(32)])
    return _sha256(policy(seen), policy.sample(seen, np.random.default_rng(6)))


def named(command: str) -> str:
    """What tells one command of this file from the others."""
    return command.replace(SMALL, "").replace(SECOND_ORDER_CRITIC, "second-order critic").strip()


def _sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def train(command: str, run_dir: Path, *others: str) -> None:
    words = [word for word in command.split() if word.partition("=")[0] not in {o.partition("=")[0] for o in others}]
    rlopt.train(*words, *COMMON, *others, run_dir=run_dir)


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    """Machine -> "parameters" or "actions" -> command -> digest."""
    return json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}


def record() -> None:
    """Add this machine's digests to those recorded."""
    found: dict[str, dict[str, str]] = {"parameters": {}, "actions": {}}
    for measure, commands in ((parameters, COMMANDS), (actions, ACTING)):
        for command in commands:
            with tempfile.TemporaryDirectory() as folder:
                train(command, Path(folder) / "run")
                found[measure.__name__][command] = measure(Path(folder) / "run")
    RECORDED.write_text(json.dumps({**recorded(), machine(): found}, indent=1) + "\n")
    print(f"{sum(map(len, found.values()))} digests recorded for {machine()}")


@pytest.fixture
def run_dir(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def known() -> dict[str, dict[str, str]]:
    """What is recorded for machines of this type."""
    here, found = machine(), recorded()
    if here not in found:
        pytest.skip(f"no digests are recorded for machines of this type ({here}); to record them, on a commit that is "
                    f"known to be right: {RECORD}")  # fmt: skip
    return found[here]


def check(found: str, digests: dict[str, str], command: str) -> None:
    assert command in digests, f"no digest is recorded for {command}; to record it: {RECORD}"
    assert found == digests[command], (
        f"`rlopt train {command} {' '.join(COMMON)}` gives other numbers than those recorded; where that is meant, "
        f"delete {RECORDED.name} and record again: {RECORD}"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_the_same_command_gives_the_bits_that_were_recorded(command, run_dir, known):
    train(command, run_dir)
    check(parameters(run_dir), known["parameters"], command)


@pytest.mark.parametrize("command", WITH_WORKERS, ids=named)
def test_so_it_does_with_two_workers(command, run_dir, known):
    train(command, run_dir, "workers=2")
    check(parameters(run_dir), known["parameters"], command)


@pytest.mark.parametrize("command", RESUMED, ids=named)
def test_and_when_it_was_stopped_and_another_process_resumed_it(command, run_dir, known):
    train(command, run_dir, "total_steps=1024")
    resume = [sys.executable, "-m", "rlopt", "resume", str(run_dir), "total_steps=1536"]
    subprocess.run(resume, cwd=Path(rlopt.__file__).parents[1], check=True)
    check(parameters(run_dir), known["parameters"], command)


@pytest.mark.parametrize("command", ACTING, ids=named)
def test_its_policy_acts_as_was_recorded(command, run_dir, known):
    train(command, run_dir)
    check(actions(run_dir), known["actions"], command)


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit(f"to record this machine's digests: {RECORD}")
    record()
