"""A stand-in with the conventions of Isaac Lab and ManiSkill, which cannot be installed here."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rlopt.envs.observations import InvalidOutput
from rlopt.envs.tensor.adapter import VectorEnvTensors
from rlopt.envs.tensor.protocol import saves
from rlopt.errors import UserError
from tests.support.tensors import CPU, Simulator


def played(steps: int = 7, **options):
    envs = VectorEnvTensors(Simulator(**options), CPU)
    observations, found = [envs.reset(1).clone()], []
    for _ in range(steps):
        found.append(envs.step(torch.ones(4, 1, dtype=torch.float64)))
        observations.append(found[-1].observation.clone())
    return envs, observations, found


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("final", ["final_obs", "final_observation"])
def test_last_observations_come_from_the_info(nested, final):
    envs, _, found = played(nested=nested, final=final)
    assert envs.observation_space.shape == (2,) and envs.action_space.shape == (1,)
    assert [step.last[:, 1].tolist() for step in found] == [[t] * 4 for t in (1, 2, 3, 1, 2, 3, 1)]
    assert [step.observation[0, 0].item() == 0.5 for step in found] == [False] * 2 + [False] * 4 + [False]
    assert found[2].terminated.tolist() == [True, False, False, False]
    assert found[2].truncated.tolist() == [False, True, True, True]


def test_without_them_the_one_acted_on_stands_for_it():
    _, observations, found = played(final=None)
    for t, step in enumerate(found):
        over = step.terminated | step.truncated
        assert torch.equal(step.last[over], observations[t][over])
        assert torch.equal(step.last[~over], observations[t + 1][~over])
    assert sum(bool(step.truncated.any()) for step in found) == 2


def test_seeds_follow_the_number_of_the_first():
    envs = VectorEnvTensors(Simulator(), CPU)
    a, b, c = (envs.reset(*given).clone() for given in ((1, 0), (1, 4), (5, 0)))
    assert torch.equal(b, c) and not torch.equal(a, b)


def test_state_and_restore_are_the_simulators():
    assert not saves(VectorEnvTensors(Simulator(), CPU))
    envs, _, _ = played(saves=True)
    assert saves(envs) and set(envs.state()) == {"x", "time", "acted_on"}
    envs.close()
    assert envs._env.closed


def test_what_is_no_tensor_is_refused():
    sim = Simulator()
    sim.reset = lambda seed: (np.zeros((4, 2)), {})
    with pytest.raises(InvalidOutput, match=r"observations that are a numpy.ndarray, where tensors are wanted"):
        VectorEnvTensors(sim, CPU).reset(0)


def test_a_reset_in_the_next_step_is_refused():
    sim = Simulator()
    sim.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    with pytest.raises(UserError, match=r"autoreset_mode=.*NEXT_STEP; give AutoresetMode.SAME_STEP"):
        VectorEnvTensors(sim, CPU)


def test_a_dict_without_a_part_for_policies_stays():
    sim = Simulator()
    sim.single_observation_space = gym.spaces.Dict(a=gym.spaces.Discrete(2))
    assert isinstance(VectorEnvTensors(sim, CPU).observation_space, gym.spaces.Dict)


def test_rows_of_running_episodes_are_not_read_from_the_info():
    sim = Simulator()
    step = sim.step

    def partly(actions):
        found, reward, terminated, truncated, info = step(actions)
        over = (terminated | truncated)[:, None]
        return found, reward, terminated, truncated, {"final_obs": torch.where(over, info["final_obs"], torch.nan)}

    sim.step = partly
    envs = VectorEnvTensors(sim, CPU)
    envs.reset(1)
    found = [envs.step(torch.ones(4, 1)) for _ in range(4)]
    assert [step.last[:, 1].tolist() for step in found] == [[t] * 4 for t in (1, 2, 3, 1)]


def test_first_observations_outlive_memory_that_is_used_again():
    sim = Simulator(final=None)
    envs = VectorEnvTensors(sim, CPU)
    first = envs.reset(1)
    kept = first.clone()
    sim._time += 2  # so that the first step ends the episode
    assert torch.equal(envs.step(torch.ones(4, 1)).last, kept) and torch.equal(first, kept)


def test_a_restored_one_knows_what_was_acted_on():
    envs = VectorEnvTensors(Simulator(final=None, saves=True), CPU)
    envs.reset(1)
    for _ in range(2):
        envs.step(torch.ones(4, 1))
    state = {name: x.clone() for name, x in envs.state().items()}
    again = VectorEnvTensors(Simulator(final=None, saves=True), CPU)
    again.reset(1)
    again.restore(state)
    expected, found = (made.step(torch.ones(4, 1)) for made in (envs, again))
    assert expected.truncated.any() and all(map(torch.equal, found, expected))
