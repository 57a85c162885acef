"""Behaviour cloning against least squares, for every kind of action, and what it refuses."""

import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlopt
from rlopt.cli.main import main
from rlopt.core.heads import Beta, DiagonalGaussian, MultiCategorical
from rlopt.errors import UserError
from rlopt.policy.policy import Policy
from rlopt.training.cloning import Cloner, Demonstrations, _check_allowed, _policy_actions, read_demonstrations
from tests.support.building import resolve, trainer

SMALL = ["batch_size=64", "total_steps=64", "evaluation.episodes=0", "critic.hidden=[4]"]


def demonstrations(count: int = 200) -> Demonstrations:
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(count, 1)).astype(np.float32)
    return Demonstrations(observations, -0.7 * observations + 0.1 * generator.normal(size=(count, 1)), "data")


def test_a_policy_with_memory_is_refused():
    run = trainer(resolve([*SMALL, "env=lqr", "policy=gru"]))
    run.collector.close()
    policy = Policy(run.agent.policy(run.state), run.agent.head, *run.config.env.spaces())
    with pytest.raises(UserError, match="a policy with memory"):
        Cloner(run.agent, run.state, policy, demonstrations(), 0.0, 0)


def test_a_natural_step_of_a_linear_policy_is_least_squares():
    options = ["env=lqr", "policy=linear", "policy.bias=true", "metric=fisher", "solver=dense", "damping.value=1e-13",
               "step=fixed", "step.rate=1.0", "dtype=float64", "observations.normalise=false"]  # fmt: skip
    run = trainer(resolve([*SMALL, *options]))
    run.collector.close()
    data = demonstrations()
    policy = Policy(run.agent.policy(run.state), run.agent.head, *run.config.env.spaces())
    state, progress = Cloner(run.agent, run.state, policy, data, 0.0, 0).run(1, lambda p: None)
    design = np.column_stack([data.observations.astype(np.float64), np.ones(len(data.actions))])
    wanted, *_ = np.linalg.lstsq(design, data.actions, rcond=None)
    assert state["actor"]["theta"][:2].numpy() == pytest.approx(wanted[:, 0], abs=1e-9)
    assert progress.held_out == progress.trained


def write(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_a_cloned_policy_acts_resumes_and_starts_other_runs(tmp_path, capsys):
    data = demonstrations()
    file = write(tmp_path / "data.npz", observations=data.observations, actions=data.actions)
    options = [*SMALL, "env=lqr", "algo=ppo", "policy.hidden=[8]", "optimizer.lr=0.01"]
    assert main(["clone", file, "--updates", "60", *options, f"run_dir={tmp_path}/cloned"]) == 0
    cloned = rlopt.load(tmp_path / "cloned")
    assert cloned(np.array([0.5], np.float32))[0] == pytest.approx(-0.35, abs=0.05)
    assert main(["train", *options, f"init.from={tmp_path}/cloned", f"run_dir={tmp_path}/on"]) == 0
    assert main(["resume", str(tmp_path / "cloned")]) == 0
    assert "64 steps" in capsys.readouterr().out
    steps = [rlopt.load(tmp_path / name).outputs(np.zeros(1, np.float32)) for name in ("on", "cloned")]
    assert np.array_equal(*steps)


def test_episodes_of_minari_lose_their_last_observations(monkeypatch):
    """Minari is an extra: what its two calls return is imitated."""
    episodes = [SimpleNamespace(observations={"a": np.full((n + 1, 2), n)}, actions=np.full(n, n)) for n in (2, 3)]
    dataset = SimpleNamespace(iterate_episodes=lambda: iter(episodes))
    minari = SimpleNamespace(load_dataset=lambda name, download: {"mine/data-v0": dataset}[name])
    monkeypatch.setitem(sys.modules, "minari", minari)  # type: ignore[arg-type]
    found = read_demonstrations("minari:mine/data-v0")
    assert found.observations["a"][:, 0].tolist() == found.actions.tolist() == [2, 2, 3, 3, 3]
    with pytest.raises(UserError, match="minari:other cannot be loaded"):
        read_demonstrations("minari:other")


REAL = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 8.0]), dtype=np.float64)
WHOLE = spaces.Box(np.array([-2, 5]), np.array([2, 8]), dtype=np.int64)


@pytest.mark.parametrize(
    ("head", "space"),
    [(DiagonalGaussian(2, squash=True), REAL), (DiagonalGaussian(2), REAL), (Beta(2), REAL),
     (MultiCategorical((5, 4)), WHOLE)],
)  # fmt: skip
def test_actions_are_taken_back_through_bounds_and_tanh(head, space):
    class Frozen:
        width, theta = head.network_outputs + head.constants, torch.zeros(1, dtype=torch.float64)

        def alone(self):
            return self

    policy = Policy(Frozen(), head, spaces.Box(-1, 1, (1,)), space)  # type: ignore[arg-type]
    actions = space.sample()[None].repeat(5, 0)
    drawn = _policy_actions(policy, Demonstrations(None, actions, "data"))
    assert policy._transform(drawn) == pytest.approx(actions, abs=1e-12)


@pytest.mark.parametrize(("observations", "actions", "options", "said"), [
    (np.zeros((5, 4)), np.ones(5), [], None),
    (np.zeros((5, 3)), np.ones(5), [], "its observations are not of Box"),
    (np.full((5, 4), np.nan), np.ones(5), [], "observation 0 is not finite"),
    (np.zeros((5, 4)), np.arange(5), [], "action 2 is not of Discrete"),
    (np.zeros((5, 4)), np.ones(4), [], "as many observations as actions; got 5 and 4"),
    (np.zeros((5, 4)), np.full(5, np.nan), [], "action 0 is not of Discrete(2): nan"),
    (np.zeros((5, 4)), np.full((5, 3, 2), 7.0), [], "action 0 is not of Discrete(2): [[7. 7.] [7. 7.] [7. 7.]]"),
    (np.zeros((5, 4)), np.full(5, "left"), [], "actions must be numbers, of Discrete(2); got <U4"),
    (np.zeros((5, 4)), np.float64(1), [], "as many observations as actions; got 5 and 1"),
    (np.zeros((5, 3)), np.full(5, "left"), ["env=pendulum"], "actions must be numbers, of Box"),
    (np.zeros((5, 3)), np.full((5, 1), np.nan), ["env=pendulum"], "action 0 is not of Box"),
    (np.zeros((5, 4)), np.ones(5), ["critic=shared"], "add critic=mlp"),
    (np.zeros((5, 4)), np.ones(5), ["algo=nac"], "takes its direction from rewards"),
])  # fmt: skip
def test_what_cannot_be_cloned_is_one_line(tmp_path, capsys, observations, actions, options, said):
    file = write(tmp_path / "data.npz", observations=observations, actions=actions)
    small = [x for x in SMALL if "critic" not in x or "critic=shared" not in options]
    code = main(["clone", file, "--updates", "1", *small, *options, f"run_dir={tmp_path}/run"])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlopt: ")]
    assert code == (2 if said else 0)
    assert not said or (len(errors) == 1 and said in errors[0] and not (tmp_path / "run").exists())


def test_a_forbidden_action_is_named_by_its_row(tmp_path, capsys, probe_environments):
    masks = np.ones((6, 9), np.int8)
    masks[3:, 4] = 0
    arrays = {"observations/observation": np.zeros((6, 1), np.float32), "observations/action_mask": masks}
    typed = [*SMALL, "env.id=probe/Offers-v0", "env.kwargs={count: 9, length: 7, convention: dict}", "env.num_envs=4"]
    for action, code in ((5, 0), (4, 2)):
        file = write(tmp_path / "data.npz", **arrays, actions=np.full(6, action))
        assert main(["clone", file, "--updates", "1", *typed, f"run_dir={tmp_path}/run{action}"]) == code
    said = [line for line in capsys.readouterr().err.splitlines() if "is forbidden" in line]
    assert said == [f"rlopt: {tmp_path}/data.npz: action 3, 4, is forbidden by the mask of observation 3"]


def test_a_forbidden_category_is_found():
    policy = SimpleNamespace(action_space=spaces.MultiDiscrete([2, 3]), frozen=SimpleNamespace(width=5))
    rows = torch.tensor([[0.5, 1, 1, 1, 1, 0], [0.5, 0, 1, 1, 0, 1]])  # an observation, and masks of 2 and of 3
    _check_allowed(policy, "data", rows, torch.tensor([[0, 1], [1, 2]]))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data: action 1, \[1, 1\], is forbidden by the mask of observation 1"):
        _check_allowed(policy, "data", rows, torch.tensor([[0, 1], [1, 1]]))  # type: ignore[arg-type]


def test_masks_of_infos_are_not_served_yet(tmp_path, capsys, probe_environments):
    file = write(tmp_path / "data.npz", observations=np.zeros((6, 1), np.float32), actions=np.full(6, 4))
    typed = [*SMALL, "env.id=probe/Offers-v0", "env.kwargs={count: 9, length: 7}", "env.num_envs=4"]
    assert main(["clone", file, "--updates", "1", *typed, f"run_dir={tmp_path}/run"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("rlopt: cloning reads no action masks of info") and "add env.mask=none" in said
    assert main(["clone", file, "--updates", "1", *typed, "env.mask=none", f"run_dir={tmp_path}/run"]) == 0


def test_actions_of_several_parts_cannot_be_cloned():
    several = SimpleNamespace(action_space=spaces.Dict(a=WHOLE))
    with pytest.raises(UserError, match="data: recorded actions are one array, and those of Dict"):
        _policy_actions(several, Demonstrations(None, np.zeros(3), "data"))  # type: ignore[arg-type]


def test_a_dictionary_of_observations_is_read_by_key(tmp_path):
    arrays = {"observations/a": np.zeros((3, 2)), "observations/b": np.ones(3), "actions": np.zeros(3)}
    found = read_demonstrations(write(tmp_path / "data.npz", **arrays))
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(2)})
    assert gym.vector.utils.batch_space(space, 3).spaces.keys() == found.observations.keys()
