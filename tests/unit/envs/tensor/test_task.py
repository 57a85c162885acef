import pytest
import torch

from tests.support.tensors import CPU, Course, Drift, NoWaiting, course


def played(envs, steps: int, seed: int = 3, first: int = 0):
    observations, found = [envs.reset(seed, first)], []
    for _ in range(steps):
        found.append(envs.step(torch.zeros(envs.num_envs, 1)))
        observations.append(found[-1].observation)
    return torch.stack(observations), found


def test_an_episode_ends_and_the_next_begins_in_the_same_step():
    observations, found = played(course(50), 60)
    ends = 0
    for before, step, after in zip(observations, found, observations[1:], strict=False):
        assert torch.equal(step.last, before + torch.tensor([1.0, 0.0]))
        assert torch.equal(step.terminated, step.last[:, 0] >= step.last[:, 1])
        assert torch.equal(step.truncated, step.last[:, 0] >= 4)
        over = step.terminated | step.truncated
        assert torch.equal(after[~over], step.last[~over]) and (after[over, 0] == 0).all()
        ends += int(over.sum())
    assert ends > 500 and set(observations[:, :, 1].flatten().tolist()) == {2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize("task", [Course, Drift])
def test_an_environment_ignores_how_many_there_are(task):
    """Also where their noise is drawn for other numbers of steps at once."""
    whole, _ = played(task.envs(6000, CPU, torch.float64), 9)
    part, _ = played(task.envs(5, CPU, torch.float64), 9, first=700)
    assert torch.equal(part, whole[:, 700:705])


def test_another_seed_gives_other_episodes():
    a, b = (played(Drift.envs(4, CPU, torch.float64), 3, seed)[0] for seed in (0, 1))
    assert not (a == b).any()


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_restored_state_goes_on_to_the_bit(rows):
    envs, other = (Drift.envs(6, CPU, torch.float32, max_episode_steps=5) for _ in range(2))
    envs._rows = 4
    other._rows = rows
    played(envs, 13)
    state = {name: x.clone() for name, x in envs.state().items()}
    assert all(len(x) == 6 for x in state.values())
    other.reset(3)
    other.restore(state)
    for _ in range(20):
        a, b = (e.step(torch.ones(6, 1)) for e in (envs, other))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_step_does_not_wait_for_the_device():
    envs = Drift.envs(6, CPU, torch.float32, max_episode_steps=5)
    envs.reset(0)
    with NoWaiting() as counted:
        for _ in range(30):
            envs.step(torch.zeros(6, 1))
    assert counted.count > 300


def test_states_have_the_type_that_was_asked_for():
    for dtype in (torch.float32, torch.float64):
        envs = Drift.envs(3, CPU, dtype)
        assert envs.reset(0).dtype == dtype
        assert envs.step(torch.zeros(3, 1, dtype=torch.float64)).observation.dtype == dtype
