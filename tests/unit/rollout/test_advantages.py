import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlopt.rollout.advantages import gae

GOES_ON, TERMINATES, TRUNCATES, BOTH = range(4)


def n_step_advantage(r: list[float], v: list[float], v_next: list[float], gamma: float, t: int, n: int) -> float:
    """sum_i gamma^i r_{t+i} + gamma^n V(where step t + n - 1 led) - V(s_t)"""
    return sum(gamma**i * r[t + i] for i in range(n)) + gamma**n * v_next[t + n - 1] - v[t]


def naive_gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, ends: list[list[int]], gamma: float, lambda_: float
) -> Tensor:
    """The lambda-weighted mean of n-step advantages, episode by episode."""
    steps, envs = rewards.shape
    out = torch.empty_like(rewards)
    for e in range(envs):
        r, v = rewards[:, e].tolist(), values[:, e].tolist()
        v_next = [0.0 if ends[t][e] in (TERMINATES, BOTH) else float(next_values[t, e]) for t in range(steps)]
        for t in range(steps):
            last = next((u for u in range(t, steps) if ends[u][e] != GOES_ON), steps - 1)
            longest = last - t + 1
            advantage = lambda_ ** (longest - 1) * n_step_advantage(r, v, v_next, gamma, t, longest)
            for n in range(1, longest):
                advantage += (1 - lambda_) * lambda_ ** (n - 1) * n_step_advantage(r, v, v_next, gamma, t, n)
            out[t, e] = advantage
    return out


@st.composite
def endings(draw: st.DrawFn) -> list[list[int]]:
    steps, envs = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    row = st.lists(st.sampled_from([GOES_ON, GOES_ON, TERMINATES, TRUNCATES, BOTH]), min_size=envs, max_size=envs)
    return draw(st.lists(row, min_size=steps, max_size=steps))


def rollout(ends: list[list[int]], seed: int = 0) -> tuple[Tensor, ...]:
    """rewards, values, next_values, terminated, done; the last observation of an episode has a value of its own"""
    generator = torch.Generator().manual_seed(seed)
    code = torch.tensor(ends)
    rewards, values, next_values = torch.randn(3, *code.shape, generator=generator, dtype=torch.float64)
    next_values[:-1] = torch.where(code[:-1] == GOES_ON, values[1:], next_values[:-1])
    return rewards, values, next_values, (code == TERMINATES) | (code == BOTH), code != GOES_ON


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    endings(),
    st.one_of(st.sampled_from([0.0, 1.0, 0.99]), st.floats(0, 1)),
    st.one_of(st.sampled_from([0.0, 1.0, 0.95]), st.floats(0, 1)),
    st.integers(0, 1000),
)
def test_gae_is_the_weighted_mean_of_n_step_advantages(ends, gamma, lambda_, seed):
    rewards, values, next_values, terminated, done = rollout(ends, seed)
    advantages, targets = gae(rewards, values, next_values, terminated, done, gamma, lambda_)
    expected = naive_gae(rewards, values, next_values, ends, gamma, lambda_)
    torch.testing.assert_close(advantages, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(targets, expected + values, rtol=1e-12, atol=1e-12)


def test_a_truncated_episode_bootstraps_a_terminated_does_not():
    one = torch.ones(1, 2, dtype=torch.float64)
    terminated = torch.tensor([[False, True]])
    done = torch.tensor([[True, True]])
    advantages, targets = gae(one, 5 * one, 7 * one, terminated, done, gamma=0.5, lambda_=0.9)
    assert advantages.tolist() == [[1 + 0.5 * 7 - 5, 1 - 5]]
    assert targets.tolist() == [[1 + 0.5 * 7, 1]]


def test_nothing_leaks_from_one_episode_into_the_one_before():
    ends = [[GOES_ON], [TRUNCATES], [GOES_ON], [TERMINATES]]
    rewards, values, next_values, terminated, done = rollout(ends)
    before, _ = gae(rewards, values, next_values, terminated, done, 1.0, 1.0)
    rewards[2:] += 100
    values[2:] += 100
    after, _ = gae(rewards, values, next_values, terminated, done, 1.0, 1.0)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2:], after[2:])


def test_gae_changes_none_of_its_arguments():
    arguments = rollout([[GOES_ON, TRUNCATES], [TERMINATES, GOES_ON]])
    copies = [x.clone() for x in arguments]
    gae(*arguments, gamma=0.9, lambda_=0.8)
    assert all(torch.equal(x, copy) for x, copy in zip(arguments, copies, strict=True))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(endings(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_corrected_targets_are_the_sum_of_its_definition(ends, gamma, lambda_, seed):
    """Espeholt et al. 2018, eq. 1: v_s = V + sum_t gamma^(t - s) (prod_{i < t} c_i) rho_t delta_t, c = lambda rho."""
    rewards, values, next_values, terminated, done = rollout(ends, seed)
    rho = torch.rand(rewards.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    advantages, targets = gae(rewards, values, next_values, terminated, done, gamma, lambda_, rho)
    delta = rewards + gamma * next_values * ~terminated - values
    steps, envs = rewards.shape
    for e in range(envs):
        for s in range(steps):
            v, factor = float(values[s, e]), 1.0
            for t in range(s, steps):
                v += factor * float(rho[t, e] * delta[t, e])
                if done[t, e]:
                    break
                factor *= gamma * lambda_ * float(rho[t, e])
            torch.testing.assert_close(float(targets[s, e]), v, rtol=1e-10, atol=1e-10)
    ahead = torch.zeros_like(values)
    ahead[:-1] = torch.where(done[:-1], 0.0, (targets - values)[1:])
    torch.testing.assert_close(advantages, delta + gamma * lambda_ * ahead, rtol=1e-10, atol=1e-10)


def test_corrected_on_the_policys_own_actions_is_gae():
    case = rollout([[GOES_ON, TERMINATES], [TRUNCATES, GOES_ON], [GOES_ON, GOES_ON]])
    found = gae(*case, 0.9, 0.8, torch.ones_like(case[0]))
    assert all(torch.equal(a, b) for a, b in zip(found, gae(*case, 0.9, 0.8), strict=True))
