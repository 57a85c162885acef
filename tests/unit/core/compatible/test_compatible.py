"""Compatible critics against the textbook's sums over time, in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlopt.core.checks import NumericalFailure
from rlopt.core.compatible.critic import Experience, monomials, state_features
from rlopt.core.compatible.episodic import Episodic
from rlopt.core.compatible.lstd import LSTD
from rlopt.core.network import Network
from rlopt.core.requirements import Incompatible, Remedy
from tests.support.experiences import GAMMA, E, N, T, made, scores
from tests.support.oracles import Case, close, mlp, seeded


def lstd_by_sums(case: Case, e: Experience, trace: float, ridge: float) -> np.ndarray:
    """(v, w) from A = sum z (phi^ - gamma phi~)^T and b = sum z r, one step after another."""
    psi = scores(case).reshape(T, E, -1)
    P = psi.shape[2]
    phi, following = e.features.view(T, E, N).numpy(), e.following.view(T, E, N).numpy()
    share = (e.samples.weight / e.samples.weight.sum()).view(T, E).numpy()
    A, b = np.zeros((N + P, N + P)), np.zeros(N + P)
    for i in range(E):
        z = np.zeros(N + P)
        for t in range(T):
            here = np.concatenate([phi[t, i], psi[t, i]])
            there = np.concatenate([following[t, i], np.zeros(P)])
            z = GAMMA * trace * z + share[t, i] * here
            A += np.outer(z, here - GAMMA * there)
            b += z * float(e.rewards[t, i])
            if e.done[t, i]:
                z = np.zeros(N + P)
    F = np.einsum("ti,tip,tiq->pq", share, psi, psi)
    A[N:, N:] += ridge * F.trace() * (share**2).sum() * np.eye(P)
    return np.linalg.solve(A, b)


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["more samples", "more parameters"])
@pytest.mark.parametrize(("head", "tape"), [("log_sigma", "mlp"), ("categorical", "autograd"), ("sigma", "autograd")])
def test_lstd_solves_the_sums_over_time(head, tape, hidden, trace):
    case, e = made(head, tape, hidden)
    found = LSTD(None, trace, 0.01).estimate(e, GAMMA)
    truth = torch.from_numpy(lstd_by_sums(case, e, trace, 0.01)[N:])
    assert close(found.natural, truth, 1e-9)
    assert close(found.samples.advantages, torch.from_numpy(scores(case)) @ truth, 1e-9)


def test_lstd_in_float32_is_that_of_float64_to_rounding():
    case, e = made(hidden=(6, 5))
    single = [getattr(e, name).float() for name in ("rewards", "features", "following")]
    network = Network(case.module.float(), case.head.constants)
    s = e.samples.replacing(
        inputs=e.samples.inputs.float(), actions=e.samples.actions.float(), weight=e.samples.weight.float()
    )
    tape = network.tape(case.theta.float(), s.inputs)
    found = LSTD(None, 0.7, 0.01).estimate(Experience(tape, e.head, s, single[0], e.done, *single[1:]), GAMMA)
    assert found.natural.dtype == torch.float32
    case, e = made(hidden=(6, 5))
    assert close(found.natural.double(), LSTD(None, 0.7, 0.01).estimate(e, GAMMA).natural, 1e-3)


@pytest.mark.parametrize("weights", ["discounted", "uniform"])
def test_without_a_trace_w_is_the_dense_empirical_fisher_solve(weights):
    """For any features and rewards, with V the critic's own; with a trace it is so only on average."""
    case, e = made(weights=weights)
    share = (e.samples.weight / e.samples.weight.sum()).numpy()
    psi = scores(case)
    F = psi.T @ (share[:, None] * psi)

    def by_fisher(trace: float) -> np.ndarray:
        v = lstd_by_sums(case, e, trace, 0.0)[:N]
        delta = e.rewards.flatten().numpy() + GAMMA * e.following.numpy() @ v - e.features.numpy() @ v
        return np.linalg.solve(F, psi.T @ (share * delta))

    assert close(LSTD(None, 0.0, 0.0).estimate(e, GAMMA).natural, torch.from_numpy(by_fisher(0.0)), 1e-8)
    assert not close(LSTD(None, 0.9, 0.0).estimate(e, GAMMA).natural, torch.from_numpy(by_fisher(0.9)), 1e-2)


def episodes_by_hand(case: Case, e: Experience) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Psi (episodes, P), phi(s_0) and returns of those that begin and end."""
    psi, weight = scores(case).reshape(T, E, -1), e.samples.weight.view(T, E).numpy()
    phi = e.features.view(T, E, N).numpy()
    spans = [(0, 0, 2), (0, 3, 6), (1, 0, 4), (1, 5, 8)]
    rows = [sum(weight[t, i] * psi[t, i] for t in range(a, b + 1)) for i, a, b in spans]
    returns = [sum(weight[t, i] * float(e.rewards[t, i]) for t in range(a, b + 1)) for i, a, b in spans]
    return np.array(rows), np.array([phi[a, i] for i, a, _ in spans]), np.array(returns)


@pytest.mark.parametrize("weights", ["discounted", "uniform"])
@pytest.mark.parametrize("head", ["log_sigma", "categorical"])
@pytest.mark.parametrize("features", [1, 2])
def test_the_episodic_critic_regresses_returns_on_summed_scores(head, features, weights):
    case, e = made(head, weights=weights)
    e = Experience(e.tape, e.head, e.samples, e.rewards, e.done, e.features[:, :features], e.following[:, :features])
    psi, phi, returns = episodes_by_hand(case, e) if features == N else episodes_by_hand(*made(head, weights=weights))
    phi = phi[:, :features]
    P, total = psi.shape[1], 3 + 4 + 5 + 4
    if weights == "discounted":
        total = sum(GAMMA**t for length in (3, 4, 5, 4) for t in range(length))
    X = np.hstack([phi, psi])
    ridge = np.diag([0.0] * features + [0.02 * (psi**2).sum() / total / len(psi)] * P)
    truth = np.linalg.solve(X.T @ X / total + ridge, X.T @ returns / total)[features:]
    found = Episodic(None, 0.02).estimate(e, GAMMA)
    assert close(found.natural, torch.from_numpy(truth), 1e-9)
    assert float(found.scalars["critic/episodes"]) == 4
    assert found.samples.weight.view(T, E)[9, :2].tolist() == [0, 0]  # begun, not ended
    assert found.samples.weight.view(T, E)[:, 2].sum() == 0
    fitted = found.samples.advantages.view(T, E)
    assert close(fitted[[0, 3, 0, 5], [0, 0, 1, 1]], torch.from_numpy(psi @ truth), 1e-9)


def test_an_episode_under_way_when_the_batch_begins_is_left_out():
    _, e = made()
    later = e.samples.replacing(time=e.samples.time + 5 * (e.samples.episode == 1))
    found = Episodic(None, 0.1).estimate(
        Experience(e.tape, e.head, later, e.rewards, e.done, e.features, e.following), GAMMA
    )
    assert float(found.scalars["critic/episodes"]) == 3


def test_an_episode_starts_at_its_first_row_that_is_not_masked():
    """Where an environment was only reset a row is masked, and its time is 0, as that of the first step is."""
    case, e = made(weights="uniform")
    weight, time = e.samples.weight.view(T, E).clone(), e.samples.time.view(T, E).clone()
    weight[4, 0] = time[4, 0] = 0  # the later of the two, so that it shows wherever the last to be written stays
    time[5:7, 0] -= 1
    e = replace(e, samples=e.samples.replacing(weight=weight.flatten(), time=time.flatten()))
    psi, phi, returns = episodes_by_hand(case, e)
    X = np.hstack([phi[:, :2], psi])
    ridge = np.diag([0.0] * 2 + [0.02 * (psi**2).sum() / 15 / len(psi)] * psi.shape[1])
    truth = np.linalg.solve(X.T @ X / 15 + ridge, X.T @ returns / 15)[2:]
    e = replace(e, features=e.features[:, :2])
    assert close(Episodic(None, 0.02).estimate(e, GAMMA).natural, torch.from_numpy(truth), 1e-9)


def test_a_batch_without_a_whole_episode_is_refused():
    _, e = made()
    never = Experience(e.tape, e.head, e.samples, e.rewards, torch.zeros_like(e.done), e.features, e.following)
    with pytest.raises(Incompatible, match="no episode begins and ends within the 10 steps") as refused:
        Episodic((0,), 0.1).estimate(never, GAMMA)
    assert refused.value.remedy is Remedy.LONGER_ROLLOUT


def test_without_a_ridge_the_shortest_solution_is_taken():
    """Logits that all move by one constant are the same policy: the Fisher matrix is singular, as is that of episodes."""
    case, e = made("categorical")
    psi, phi, returns = episodes_by_hand(case, e)
    centre = np.eye(4) - phi[:, :1] @ np.linalg.pinv(phi[:, :1])
    shortest = np.linalg.pinv(centre @ psi) @ centre @ returns
    constant = Experience(e.tape, e.head, e.samples, e.rewards, e.done, e.features[:, :1], e.following[:, :1])
    assert close(Episodic(None, 0.0).estimate(constant, GAMMA).natural, torch.from_numpy(shortest), 1e-7)
    w = LSTD(None, 0.5, 0.0).estimate(e, GAMMA).natural
    null = torch.zeros_like(w)
    null[-3:] = 1  # the logits' biases, all alike
    assert abs(float(w @ null)) < 1e-8 * float(w.norm())
    assert close(w, LSTD(None, 0.5, 1e-9).estimate(e, GAMMA).natural, 1e-3)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("critic", [LSTD, Episodic])
def test_what_is_not_finite_is_a_numerical_failure(critic, ridge):
    _, e = made()
    options = (0.5, ridge) if critic is LSTD else (ridge,)
    for name in ("rewards", "features"):
        bad = {"rewards": e.rewards, "features": e.features} | {name: getattr(e, name).clone().fill_(torch.nan)}
        with pytest.raises(NumericalFailure, match="finite"):
            critic(None, *options).estimate(
                Experience(e.tape, e.head, e.samples, bad["rewards"], e.done, bad["features"], e.following), GAMMA
            )


def test_features_that_repeat_one_another_change_nothing():
    _, e = made()
    twice = Experience(e.tape, e.head, e.samples, e.rewards, e.done, e.features.repeat(1, 2), e.following.repeat(1, 2))
    for critic in (LSTD(None, 0.7, 0.01), Episodic(None, 0.01)):
        assert close(critic.estimate(twice, GAMMA).natural, critic.estimate(e, GAMMA).natural, 1e-8)


def test_monomials_are_all_products_of_each_degree():
    x = torch.tensor([[2.0, 3.0]])
    assert monomials(x, (0, 2)).tolist() == [[1, 4, 6, 9]]
    assert monomials(x, (1, 3)).tolist() == [[2, 3, 8, 12, 18, 27]]


@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_the_last_hidden_layer_and_a_constant_are_features(hidden):
    module = mlp((3, *hidden, 1))
    network = Network(module)
    inputs = torch.randn(7, 3, generator=seeded(1), dtype=torch.float64)
    found = state_features(None, network, network.layout.flatten(module), inputs)
    with torch.no_grad():
        expected = torch.cat([module[:-1](inputs), torch.ones(7, 1)], 1)
    assert close(found, expected.to(found), 1e-12)
    assert close(state_features((0,), network, network.layout.flatten(module), inputs), torch.ones(7, 1).to(found), 0)


@pytest.mark.parametrize("degrees", [(), (-1,), (1, 1)])
def test_degrees_are_different_whole_numbers(degrees):
    for make in (lambda d: LSTD(d, 0.5, 0.1), lambda d: Episodic(d, 0.1)):
        with pytest.raises(ValueError, match="degrees"):
            make(degrees)
