import copy
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import gymnasium as gym
import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.errors import EnvironmentFault, UserError
from rlopt.parallel import processes as child
from rlopt.rollout.buffer import Rollout
from tests.support.batches import FIELDS, same
from tests.support.failing import breaking, failed
from tests.support.lasting import Lasting
from tests.support.launching import children, until
from tests.support.probes import make_trainer
from tests.support.traces import same as same_tree
from tests.support.traces import tree_of

pytestmark = pytest.mark.usefixtures("probe_environments")
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "overrides",
    [
        ("env=cartpole", "env.num_envs=8", "algo=ppo"),
        ("env=pendulum", "env.num_envs=8", "policy.activation=silu"),
        ("env=pendulum", "env.num_envs=8", "noise.color=1", "noise.block=13"),
        ("env=halfcheetah", "env.num_envs=8"),
        ("env=halfcheetah", "env.num_envs=8", "dtype=float64"),
        ("env.id=probe/Counter-v0", "env.num_envs=5"),
        ("env.id=probe/Seeded-v0", "env.num_envs=21"),
        (
            "env.id=probe/Counter-v0",
            "env.num_envs=11",
            "policy=gru",
            "critic=lstm",
            "schedule.sequence=5",
            "critic.schedule.sequence=4",
        ),
    ],
    ids=" ".join,
)
def test_batches_and_learning_do_not_depend_on_workers(started, overrides):
    if "env=halfcheetah" in overrides:
        pytest.importorskip("mujoco")
    size = 20 * int(overrides[1].removeprefix("env.num_envs="))
    runs = [started(*overrides, f"batch_size={size}", f"workers={k}") for k in (1, 2, 3)]
    for _ in range(3):
        batches = [run.collector.collect(run.agent.policy(run.state)) for run in runs]
        for other in batches[1:]:
            assert [name for name in FIELDS if not same(batches[0], other, name)] == []
        for run, batch in zip(runs, batches, strict=True):
            run.state, lesson = run.agent.learn(run.state, batch, run.minibatches)
            assert lesson.failure is None
    for network in ("actor", "critic"):
        thetas = [run.state[network]["theta"] for run in runs]
        assert all(torch.equal(thetas[0], theta) for theta in thetas[1:])


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_a_whole_run_is_the_same_with_two_workers(tmp_path, algo):
    trees, summaries = [], []
    for workers in (1, 2):
        run = make_trainer(f"algo={algo}", "env=pendulum", "env.num_envs=4", "batch_size=160", "total_steps=800",
                           "evaluation.episodes=2", f"run_dir={tmp_path / str(workers)}", f"workers={workers}")  # fmt: skip
        summaries.append({k: v for k, v in run.run().items() if "seconds" not in k and "per_second" not in k})
        trees.append(checkpoint.load_newest(tmp_path / str(workers))[1])
    assert summaries[0] == summaries[1] and summaries[0]["steps"] == 800
    for network in ("actor", "critic"):
        assert torch.equal(*(tree["agent"][network]["theta"] for tree in trees))
    assert torch.equal(*(tree["agent"]["observations"]["mean"] for tree in trees))


def test_the_next_rollout_is_collected_while_the_critic_learns(started):
    run = started("algo=trpo", "env=pendulum", "env.num_envs=4", "batch_size=160", "total_steps=1000", "workers=2")
    batch = run.collector.collect(run.agent.policy(run.state))
    before, course = copy.deepcopy(batch), []

    def acts(policy):
        course.append("next")
        run.collector.start(policy)
        ahead.append(run.collector.finish())

    ahead: list[Rollout] = []
    train = run.agent.critic.run
    run.agent.critic.run = lambda *a: (course.append("critic"), train(*a))[1]
    run.agent.learn(run.state, batch, run.minibatches, acts)
    assert course == ["next", "critic"]
    assert [name for name in FIELDS if not same(before, batch, name)] == []
    assert torch.equal(ahead[0].observations[0], batch.following[0])
    assert not torch.equal(ahead[0].inputs[0], batch.inputs[-1])  # by the normaliser that has taken in the batch


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "environment 5, at its step 7, raised RuntimeError: the simulator broke"),
        ("dies", "environment 5, at its step 7, was lost: the process of environments 3 to 5 ended with SIGKILL"),
        ("hangs", "environment 5, at its step 7, has not come back for env.timeout=0.4 seconds"),
        ("exits", "environment 5, at its step 7, raised SystemExit: 0"),
        ("interrupts", "environment 5, at its step 7, raised KeyboardInterrupt"),
        ("odd", "environment 5, at its step 7, raised Odd: that is not sent between processes"),
    ],
)
def test_a_broken_environment_ends_the_run_with_number_and_step(tmp_path, monkeypatch, how, said):
    monkeypatch.setattr(child, "_PATIENCE", 0.3)
    run = make_trainer(f"run_dir={tmp_path}", *breaking(how, which=5, at=7, count=6), "env.timeout=0.4", "batch_size=24",
                       "total_steps=2400", "workers=2")  # fmt: skip
    assert failed(run, saved=24) == said
    trace = (tmp_path / "error.txt").read_text()
    assert "in finish" in trace
    if how == "raises":
        assert "in step" in trace and "RuntimeError: the simulator broke" in trace


def test_an_environment_that_breaks_here_is_named_too(tmp_path):
    run = make_trainer(f"run_dir={tmp_path}", *breaking("raises", which=5, at=7, count=6), "batch_size=24",
                       "total_steps=2400")  # fmt: skip
    with pytest.raises(EnvironmentFault, match="^environment 5, at its step 7, raised RuntimeError: the simulator"):
        run.run()


def test_a_failed_first_reset_in_a_worker_is_named(tmp_path):
    run = make_trainer(f"run_dir={tmp_path}", "env.id=probe/Raises-v0", "env.num_envs=4", "env.kwargs.at=0",
                       "batch_size=24", "workers=2")  # fmt: skip
    with pytest.raises(EnvironmentFault, match="^environment [02], at its first reset, raised RuntimeError"):
        run.run()


def test_a_rollout_may_take_longer_than_the_timeout_of_a_step(started):
    run = started(*breaking("dawdles", which=3, at=12, count=4), "batch_size=200", "workers=2", "env.timeout=0.5")
    assert run.collector.collect(run.agent.policy(run.state)).steps == 200


@pytest.mark.parametrize(("how", "batch_size", "code"), [("hangs", 80, -signal.SIGKILL), ("dawdles", 40000, 0)])
def test_closing_once_or_twice_ends_workers_amid_a_rollout(started, how, batch_size, code):
    run = started(*breaking(how, which=3, at=12, count=4), f"batch_size={batch_size}", "workers=2")
    run.collector.start(run.agent.policy(run.state))
    workers = run.collector._workers
    assert until(lambda: workers[1].counter.step >= 12)
    run.collector.close()
    assert [worker.process.exitcode for worker in workers] == [0, code]
    run.collector.close()


PROGRAM = """
import sys, time
from pathlib import Path
from tests.support import probes
from rlopt.cli.main import main

def sleep(seconds):
    (Path(sys.argv[1]) / "hangs").touch()
    forever(seconds)

forever, time.sleep = time.sleep, sleep
with probes.registered():
    sys.exit(main(["train", "batch_size=40", "total_steps=4000", "run_dir=" + sys.argv[1], *sys.argv[2:]]))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("hangs", signal.SIGKILL),
        pytest.param("hangs", signal.SIGINT, marks=pytest.mark.learning),  # long, as the next two, for the fast run
        pytest.param("hangs", signal.SIGTERM, marks=pytest.mark.learning),
        pytest.param("holds", signal.SIGKILL, marks=pytest.mark.learning),
    ],
)
def test_no_child_survives_a_killed_or_interrupted_learner(tmp_path, how, number):
    """One of them hangs in its environment's step, where it hears of nothing."""
    if how == "holds" and sys.platform != "linux":
        pytest.skip("only Linux kills a process whose parent has ended")
    typed = [str(tmp_path / "run"), *breaking(how, which=3, at=12, count=4), "workers=2"]
    run = subprocess.Popen([sys.executable, "-c", PROGRAM, *typed], cwd=ROOT, start_new_session=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        assert until(lambda: (tmp_path / "run" / "hangs").exists())
        workers = children(run.pid)
        assert len(workers) == 2
        if number == signal.SIGKILL:
            os.kill(run.pid, number)
        else:
            os.killpg(run.pid, number)  # as a terminal does
        code = run.wait(60)
        assert until(lambda: not any(map(alive, workers)), 10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        # the rollout in which it hangs is collected while the first update's critic still learns
        assert checkpoint.load_newest(tmp_path / "run")[0] in (0, 40)


MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Swings(PendulumEnv):
    pass

gym.register("mine/Swings-v0", entry_point=Swings, max_episode_steps=20)
"""


@pytest.mark.parametrize(("flag", "method"), [("--import", "forkserver"), ("--extensions", "spawn")])
def test_workers_that_are_not_forked_collect_the_same(tmp_path, monkeypatch, flag, method):
    """They know the environments that the command line names."""
    module = tmp_path / "folder/env/swings_of_mine.py"
    module.parent.mkdir(parents=True)
    module.write_text(MODULE)
    (tmp_path / "folder/env/swings.yaml").write_text("# @package _global_\nenv: {name: swings, id: mine/Swings-v0}\n")
    monkeypatch.syspath_prepend(str(module.parent))
    named = [flag, "swings_of_mine" if flag == "--import" else str(tmp_path / "folder")]
    typed = ["env.id=mine/Swings-v0", "env.num_envs=2", "batch_size=80", "total_steps=160", "policy.hidden=[4]",
             "critic.hidden=[4]", "evaluation.episodes=0"]  # fmt: skip
    trees = []
    for start, workers in (("fork", 1), (method, 2)):
        monkeypatch.setattr(child, "START_METHOD", start)
        assert cli.main(["train", *named, *typed, f"workers={workers}", f"run_dir={tmp_path / start}"]) == 0
        trees.append(tree_of(tmp_path / start))
        gym.registry.pop("mine/Swings-v0", None)
        sys.modules.pop("swings_of_mine", None)
    assert same_tree(*trees)


def test_a_fault_in_a_worker_that_is_not_forked_is_named(tmp_path, monkeypatch):
    """The registry's entry is sent where it can be: that of the probes cannot."""
    monkeypatch.setattr(child, "START_METHOD", "spawn")
    entry = gym.envs.registration.EnvSpec("Raises-v0", entry_point="tests.support.failing:Raises")
    monkeypatch.setitem(gym.registry, "Raises-v0", entry)
    run = make_trainer("env.id=Raises-v0", "env.kwargs.at=7", "env.num_envs=2", "batch_size=10", "workers=2",
                       "policy.hidden=[4]", f"run_dir={tmp_path}")  # fmt: skip
    assert "at its step 7, raised RuntimeError: the simulator broke" in failed(run, saved=10)


def test_workers_without_files_left_are_refused(monkeypatch, tmp_path):
    def pipe(*_) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(multiprocessing.context.BaseContext, "Pipe", pipe)
    with pytest.raises(
        UserError, match="workers=2 cannot be started: .*Too many open files; lower workers, or raise `ulimit"
    ):
        make_trainer("env=cartpole", "workers=2")


@pytest.mark.parametrize(("workers", "told"), [(1, 0), (2, 1)])
def test_a_class_changed_beside_its_workers_is_told_of_once(started, monkeypatch, capsys, workers, told):
    """As a curriculum may do that a callback drives."""
    run = started(
        "env.id=probe/Lasting-v0", "env.kwargs={kind: none}", "env.num_envs=2", "batch_size=8", f"workers={workers}"
    )
    for level in (0, 7, 7):
        monkeypatch.setattr(Lasting, "shared", level)
        run.collector.collect(run.agent.policy(run.state))
    said = "Lasting.shared was changed in this process; the environments in workers do not see it"
    assert capsys.readouterr().err.count(said) == told


def test_an_environment_that_ends_its_worker_is_reported(started):
    with pytest.raises(UserError, match="Fails-v0 cannot be made with .*: SystemExit: 0"):
        started("env.id=probe/Fails-v0", "env.kwargs.how=exits", "env.kwargs.when=made", "env.kwargs.elsewhere=true",
                "workers=2")  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("workers=9",), "workers=9 are more than the 8 environments they would share"),
        (("workers=0",), "workers must be"),
        (("workers=2", "env.backend=envpool"), "env.backend=envpool has threads of its own; leave out workers"),
        (
            ("env.backend=async",),
            r"^env.backend must be auto or sync or mujoco or envpool or tensor or warp; async was removed: workers=K runs K processes$",
        ),
    ],
)
def test_workers_that_cannot_be_are_refused(overrides, said):
    with pytest.raises(UserError, match=said):
        make_trainer("env=cartpole", *overrides)
