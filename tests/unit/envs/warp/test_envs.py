"""MuJoCo Warp on the processor: kernels are compiled at first use, for minutes, so these tests are marked `learning`."""

import importlib.util
import sys
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from rlopt.envs.mujoco.task import Task
from rlopt.envs.warp import WarpEnvs, simulation_of
from rlopt.envs.warp.envs import import_warp
from rlopt.errors import EnvironmentFault, UserError
from tests.support import torture
from tests.support.tensors import NoWaiting
from tests.support.warp import CPU, InC, actions_for, apart, make, simulation
from tests.support.warp_balance import SOURCE, Balance

TASKS = [
    "HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "HumanoidStandup", "Swimmer", "Reacher", "Pusher",
    "InvertedPendulum", "InvertedDoublePendulum",
]  # fmt: skip
# positions, in metres and radians, from those in C: the worst of 16 environments after 1 and after 10 steps, and their
# median after 50 and after 100; four times what was measured or more. None: chaotic by then, as C itself is, begun 1e-6
# away. Ant: Warp turns the friction pyramid of a capsule that stands steeply on a plane
APART = {
    "HalfCheetah": (1e-6, 2e-4, 1e-1, None),
    "Hopper": (1e-6, 5e-6, 1e-5, 1e-4),
    "Walker2d": (1e-6, 2e-5, 1e-4, 3e-4),
    "Ant": (1e-6, 1.0, None, None),
    "Humanoid": (1e-6, 1e-5, 5e-5, 1e-3),
    "Swimmer": (1e-6, 1e-5, 1e-5, 1e-4),
    "Reacher": (1e-6, 1e-5, 1e-5, 1e-4),
    "Pusher": (1e-6, 1e-5, 5e-5, 5e-4),
    "InvertedPendulum": (1e-6, 1e-5, 1e-5, 2e-5),
    "InvertedDoublePendulum": (1e-6, 1e-5, 1e-3, None),
}
SMALL = ["env.backend=warp", "env.num_envs=2", "batch_size=8", "total_steps=16", "policy.hidden=[8]", "critic.hidden=[8]",
         "schedule.minibatch=null", "critic.schedule.minibatch=4", "evaluation.episodes=0"]  # fmt: skip


def slow(test):
    """Marks a test that needs the extra, and minutes."""
    missing = importlib.util.find_spec("mujoco_warp") is None or importlib.util.find_spec("warp") is None
    return pytest.mark.learning(pytest.mark.skipif(missing, reason="needs the extra: scripts/bootstrap warp")(test))


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(
        UserError, match=r"env.backend=warp needs a package .*, or scripts/bootstrap warp for a clone's .venv$"
    ):
        import_warp()


@slow
@pytest.mark.parametrize("task", TASKS)
def test_functions_of_a_state_in_c_are_equal(task):
    """Over Warp's own arrays, into which C's are copied: 1e-6 of the largest number in the row, or of 1."""
    envs = make(task, 2)
    envs.reset(0)
    theirs = [InC(simulation(task), *row) for row in zip(*(envs.state()[n] for n in ("qpos", "qvel")), strict=True)]
    draw = actions_for(envs)
    for _ in range(20):
        actions = draw()
        for each, action in zip(theirs, actions.double().numpy(), strict=True):
            each.step(action)
    s = SimpleNamespace(**{n: np.concatenate([each.physics()[n] for each in theirs]) for n in envs.task.reads})
    for name, x in vars(s).items():
        view = getattr(envs.physics, name)
        assert view.shape == x.shape and view.data_ptr() == getattr(envs._data, name).ptr
        view.copy_(torch.from_numpy(x))
    envs.state()["ctrl"].copy_(actions)
    own, speed = simulation(task).task, np.array([-0.5, 1.5])
    healthy, ours = own.healthy(s), envs.task.healthy(envs.physics)
    seen, wanted = envs.task.observe(envs.physics), own.observe(s)
    reward = envs.task.reward(envs.physics, actions, torch.as_tensor(speed).float(), ours)
    expected = own.reward(s, actions.double().numpy(), speed, healthy)
    size = np.maximum(np.abs(wanted).max(1), 1)
    assert (np.abs(seen.numpy() - wanted).max(1) <= 1e-6 * size).all()
    assert (np.abs(reward.numpy() - expected) <= 1e-6 * size).all()
    assert healthy is None or np.array_equal(healthy, ours.numpy())


@slow
@pytest.mark.parametrize("task", APART)
def test_trajectories_stay_near_those_of_c(task):
    found = [found["warp"] for found in apart(task).values()]
    for (median, worst), bound, of_all in zip(found, APART[task], (True, True, False, False), strict=True):
        assert bound is None or (worst if of_all else median) <= bound


@slow
def test_an_ant_differs_by_its_friction_pyramids_alone():
    """With cones, which have no sides that could be turned, its legs slide as they do in C."""
    found = apart("Ant", count=4, moments=(1, 10), cone=int(mujoco.mjtCone.mjCONE_ELLIPTIC))
    assert found[1]["warp"][1] < 1e-6 and found[10]["warp"][1] < 1e-4


@slow
def test_a_humanoid_is_solved_by_newton():
    """Gymnasium's model asks for PGS, which Warp lacks; by Newton C gives the same."""
    found = apart("Humanoid", count=4, solver=2, moments=(1, 10))
    assert found[1]["warp"][1] < 2e-6 and found[10]["warp"][1] < 1e-4
    one = simulation("Humanoid")
    WarpEnvs(one, 1, CPU)
    assert one.model.opt.solver == 0


@slow
def test_episodes_end_and_begin_in_the_same_step():
    envs = make("InvertedPendulum", 8, max_episode_steps=6)
    first = envs.reset(5, first=2)
    assert 0 < first.abs().max() < 0.01 and torch.equal(make("InvertedPendulum", 10).reset(5)[2:], first)
    elapsed, ended = torch.zeros(8), 0
    for _ in range(40):
        found = envs.step(torch.full((8, 1), 3.0))
        elapsed += 1
        fallen = ~((found.last[:, 1].abs() <= 0.2) & found.last.isfinite().all(1))
        assert torch.equal(found.terminated, fallen) and torch.equal(found.truncated, elapsed >= 6)
        assert torch.equal(found.reward, (~fallen).float())
        over = found.terminated | found.truncated
        assert torch.equal(found.observation[~over], found.last[~over])
        assert (found.observation[over].abs() < 0.01).all()
        ended, elapsed = ended + int(over.sum()), elapsed.masked_fill(over, 0)
    assert ended > 40
    assert int((envs.state()["time"] < 0.3).sum()) == 8


@slow
def test_a_state_that_is_not_finite_ends_its_episode():
    envs = make("HalfCheetah", 2)
    envs.reset(0)
    envs.state()["qvel"][0] = torch.nan
    found = envs.step(torch.zeros(2, 6))
    assert found.terminated.tolist() == [True, False] and found.last[0].isnan().any()
    assert found.observation.isfinite().all()
    assert envs.step(torch.zeros(2, 6)).last.isfinite().all()


@slow
@pytest.mark.parametrize("task", ["Hopper", "Humanoid", "Reacher"])
def test_a_saved_state_goes_on_to_the_bit(task):
    """In other environments, in the middle of an episode and through the next one; and no step waits for the device."""
    one, other = (make(task, 3, max_episode_steps=5) for _ in range(2))
    one.reset(1)
    other.reset(1)
    draw = actions_for(one)
    for _ in range(3):
        one.step(draw())
    other.restore({name: x.clone() for name, x in one.state().items()})
    for _ in range(4):
        actions = draw()
        with NoWaiting():
            found = one.step(actions)
        for x, y in zip(found, other.step(actions), strict=True):
            assert torch.equal(x, y)


@slow
def test_too_little_room_is_told_with_its_option(run, tmp_path):
    one = simulation("HalfCheetah")
    for sizes, option in (((64, 2), "njmax"), ((1, 200), "nconmax")):
        envs = WarpEnvs(one, 4, CPU, *sizes)
        envs.reset(0)
        draw = actions_for(envs)
        envs.check()
        for _ in range(12):
            envs.step(draw())
        with pytest.raises(EnvironmentFault, match=rf"env\.{option}=\d+ has room for \d+.*; type env\.{option}=\d+$"):
            envs.check()
    small = [typed for typed in SMALL if "batch_size" not in typed]
    run_dir = f"run_dir={tmp_path / 'run'}"
    code, _, err = run("train", "env.id=HalfCheetah-v5", *small, "batch_size=40", "env.njmax=1", run_dir)
    assert code == 2 and "env.njmax=1 has room for 1; type env.njmax=" in err and "Traceback" not in err


@slow
def test_the_room_that_was_typed_is_there():
    envs = WarpEnvs(simulation("InvertedPendulum"), 1, CPU, None, 40)
    assert envs.sizes == (8, 40)


@slow
def test_what_warp_does_not_serve_is_refused():
    one = simulation("InvertedPendulum")
    one.model.opt.enableflags = int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    with pytest.raises(UserError, match="serves no sleeping bodies"):
        WarpEnvs(one, 1, CPU)
    one.model.opt.enableflags = int(mujoco.mjtEnableBit.mjENBL_FWDINV)
    with pytest.raises(UserError, match=r"MuJoCo Warp cannot simulate this model: .* type env.backend=sync"):
        WarpEnvs(one, 1, CPU)


@slow
def test_a_class_of_ones_own_does_what_it_does_in_c():
    envs, env = WarpEnvs(simulation_of("x.py:Balance", Balance(), {}), 2, CPU), Balance()
    assert isinstance(envs.task, Task)
    first = envs.reset(0)
    env.reset(seed=0)
    env.data.qpos[:], env.data.qvel[:] = first[1, :2].double(), first[1, 2:].double()
    for t in range(1, 101):
        action = torch.full((2, 1), 0.05 * (-1) ** t)
        found, theirs = envs.step(action), env.step(action[1].numpy())
        np.testing.assert_allclose(found.last[1], theirs[0], atol=1e-4)
        assert float(found.reward[1]) == pytest.approx(theirs[1], abs=1e-4)
        assert (bool(found.terminated[1]), bool(found.truncated[1])) == theirs[2:4]
        if theirs[2] or theirs[3]:
            break
    assert t > 5


@slow
def test_the_guides_class_is_trained_on_and_evaluated(run, tmp_path):
    (tmp_path / "balance.py").write_text(SOURCE)
    run_dir, file = str(tmp_path / "run"), str(tmp_path / "balance.py")
    assert run("train", f"env.id={file}:Balance", *SMALL, f"run_dir={run_dir}")[0] == 0
    assert run("eval", run_dir, "--import", file, "--episodes", "2")[0] == 0
    code, _, err = run("inspect", run_dir, "--import", file, "--samples", "8", "--metric", "fisher", "--solver", "cg")
    assert code == 0, err


@slow
@pytest.mark.parametrize("algo", ["trpo", "ppo"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_on(task, algo, run, tmp_path):
    code, _, err = run("train", f"env.id={task}-v5", f"algo={algo}", *SMALL, f"run_dir={tmp_path / 'run'}")
    assert code == 0, err


@slow
def test_runs_that_are_killed_resume_to_the_bit(tmp_path, monkeypatch, capsys):
    case = ("env=hopper", "env.backend=warp", "algo=trpo", "env.num_envs=2", "batch_size=16", "total_steps=160")
    monkeypatch.setattr(torture, "CASES", {"tensor hopper in warp": case})
    torture.random.seed(3)
    assert torture.torture(2, tmp_path) == 0, capsys.readouterr().out
