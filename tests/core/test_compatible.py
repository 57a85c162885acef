"""Compatible critics against the textbook's sums over time, in numpy, and against the closed forms of the LQR."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlopt.core.compatible.critic import Experience
from rlopt.core.compatible.episodic import Episodic
from rlopt.core.compatible.features import monomials, state_features
from rlopt.core.compatible.lstd import LSTD
from rlopt.core.damping.constant import Constant
from rlopt.core.failure import NumericalFailure
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.episode_fisher import EpisodeFisher
from rlopt.core.network import Network
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.compatible import Compatible, handed
from rlopt.core.solvers.dense import Dense
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from rlopt.errors import UserError
from rlopt.tasks.lqr import LQR
from tests.oracles import TAPES, Case, close, jacobian, log_prob, make_case, mlp, outputs, randn, seeded

T, E, N = 10, 3, 4
GAMMA = 0.9
ENDS = {(2, 0): "terminated", (6, 0): "truncated", (4, 1): "truncated", (8, 1): "terminated"}  # environment 2 goes on


def scores(case: Case) -> np.ndarray:
    """(B, P) of log p in theta, by autograd."""
    z = outputs(case.module, case.theta, case.samples.inputs).detach().requires_grad_()
    (s,) = torch.autograd.grad(log_prob(case.head, z, case.samples.actions).sum(), z)
    return torch.einsum("bo,bop->bp", s, jacobian(case)).numpy()


def made(
    head: str = "log_sigma", tape: str = "mlp", hidden: tuple[int, ...] = (), weights: str = "discounted"
) -> tuple[Case, Experience]:
    """Episodes of several lengths in three environments; (3 + 1) 2 + 2 = 10 parameters without hidden layers."""
    case = make_case(head, tape, count=T * E, hidden=hidden)
    terminated, done = torch.zeros(T, E, dtype=torch.bool), torch.zeros(T, E, dtype=torch.bool)
    time, episode = torch.zeros(T, E, dtype=torch.long), torch.zeros(T, E, dtype=torch.long)
    for e in range(E):
        t0, name = 0, e
        for t in range(T):
            time[t, e], episode[t, e] = t - t0, name
            if (t, e) in ENDS:
                done[t, e], terminated[t, e] = True, ENDS[t, e] == "terminated"
                t0, name = t + 1, name + E
    weight = GAMMA ** time.flatten().double() if weights == "discounted" else torch.ones(T * E).double()
    samples = Samples(
        inputs=case.samples.inputs,
        actions=case.samples.actions,
        weight=weight,
        old_outputs=case.tape.outputs,
        time=time.flatten(),
        episode=episode.flatten(),
    )
    phi, following = randn(T, E, N, seed=20), randn(T, E, N, seed=21)
    phi[..., 0] = 1
    following = following * ~terminated[..., None]
    experience = Experience(
        case.tape, case.head, samples, randn(T, E, seed=22), done, phi.view(-1, N), following.view(-1, N)
    )
    return case, experience


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
    A[N:, N:] += ridge * np.eye(P)
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
def test_without_a_trace_w_is_the_dense_empirical_fisher_solve_at_one_step_advantages(weights):
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
def test_the_episodic_critic_is_ridge_regression_of_returns_on_summed_scores(head, features, weights):
    case, e = made(head, weights=weights)
    e = Experience(e.tape, e.head, e.samples, e.rewards, e.done, e.features[:, :features], e.following[:, :features])
    psi, phi, returns = episodes_by_hand(case, e) if features == N else episodes_by_hand(*made(head, weights=weights))
    phi = phi[:, :features]
    P, total = psi.shape[1], 3 + 4 + 5 + 4
    if weights == "discounted":
        total = sum(GAMMA**t for length in (3, 4, 5, 4) for t in range(length))
    X = np.hstack([phi, psi])
    ridge = np.diag([0.0] * features + [0.02] * P)
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


def test_a_batch_without_a_whole_episode_is_refused():
    _, e = made()
    never = Experience(e.tape, e.head, e.samples, e.rewards, torch.zeros_like(e.done), e.features, e.following)
    with pytest.raises(UserError, match="no episode begins and ends within the 10 steps.*raise batch_size, or lower"):
        Episodic((0,), 0.1).estimate(never, GAMMA)


def test_without_a_ridge_singular_equations_have_their_shortest_solution():
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


UPDATES = {"lstd": (LSTD(None, 0.7, 1e-3), EmpiricalFisher()), "episodic": (Episodic(None, 1e-3), EpisodeFisher())}


@pytest.mark.parametrize("critic", UPDATES)
def test_the_gradient_of_compatible_advantages_is_the_critics_metric_times_w(critic):
    estimator, metric = UPDATES[critic]
    case, e = made(weights="uniform" if critic == "lstd" else "discounted")
    found = estimator.estimate(e, GAMMA)
    update = Update(case.network, case.head, LogProb(0.0), metric, Compatible(), Constant(0.0), Fixed(0.5))
    state = update.init(case.theta)
    state["solver"] = handed(state["solver"], found.natural)
    moved, new, report = update(case.theta, state, found.samples)
    assert report.read()["solver/residual"] < 1e-12
    assert close(moved, case.theta + 0.5 * found.natural, 1e-12)
    assert new["solver"]["w"] is found.natural


@pytest.mark.parametrize("solver", [Dense("refuse"), CG(200, 0.0, None, "cold", 0.0)], ids=["dense", "cg"])
def test_any_other_solver_finds_w_again(solver):
    """NAC's w is the empirical Fisher solve on the same data, whatever its trace and features."""
    case, e = made()
    found = LSTD(None, 0.7, 1e-3).estimate(e, GAMMA)
    update = Update(case.network, case.head, LogProb(0.0), EmpiricalFisher(), solver, Constant(0.0), Fixed(1.0))
    moved, _, _ = update(case.theta, update.init(case.theta), found.samples)
    assert close(moved - case.theta, found.natural, 1e-8)


def test_the_compatible_solver_alone_has_no_direction():
    with pytest.raises(UserError, match="critic=lstd or critic=episodic"):
        Compatible().prepare({}, None, 0.0)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("weights", ["discounted", "uniform"])
def test_the_episode_fisher_is_that_of_summed_scores(tape, weights):
    case, e = made("categorical", tape, (4,), weights)
    M = EpisodeFisher().bind({}, case.tape, case.head, e.samples, LogProb(0.0))[0].dense()
    psi, weight = scores(case), e.samples.weight.numpy()
    truth = np.zeros(M.shape)
    for name in e.samples.episode.unique().tolist():
        row = (weight[:, None] * psi)[(e.samples.episode == name).numpy()].sum(0)
        truth += np.outer(row, row) / weight.sum()
    assert close(M, torch.from_numpy(truth), 1e-12)


def test_the_episode_fisher_of_one_step_episodes_is_the_empirical_fisher():
    case, e = made()
    ones = e.samples.replacing(episode=torch.arange(T * E), weight=torch.ones(T * E).double())
    assert close(
        EpisodeFisher().bind({}, case.tape, case.head, ones, LogProb(0.0))[0].dense(),
        EmpiricalFisher().bind({}, case.tape, case.head, ones, LogProb(0.0))[0].dense(),
        1e-12,
    )


@pytest.mark.parametrize("critic", [LSTD(None, 0.7, 0.01), Episodic(None, 0.01)], ids=["lstd", "episodic"])
@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["more samples", "more parameters"])
def test_two_ranks_find_what_one_finds(critic, hidden, monkeypatch):
    """One rank has environment 0, the other the rest."""
    case, e = made(hidden=hidden)
    whole = critic.estimate(e, GAMMA).natural
    barrier, brought, results = threading.Barrier(2, timeout=5), {}, {}

    def all_sum(x: Tensor) -> Tensor:
        brought[threading.current_thread().name] = x.clone()
        barrier.wait()
        total = brought["0"] + brought["1"]
        barrier.wait()
        return x.copy_(total)

    share = property(lambda samples: samples.weight / all_sum(samples.weight.sum()))  # the cached one locks threads
    monkeypatch.setattr(Samples, "share", share)
    for module in ("compatible.regression", "compatible.episodic"):
        monkeypatch.setattr(f"rlopt.core.{module}.all_sum", all_sum)
    monkeypatch.setattr("rlopt.core.compatible.regression.ranks", lambda: 2)

    def one(i: int) -> None:
        mine = slice(0, 1) if i == 0 else slice(1, E)
        index = torch.arange(T * E).view(T, E)[:, mine].flatten()
        samples = e.samples.take(index)
        tape = Network(case.module, case.head.constants).tape(case.theta.clone(), samples.inputs)
        with torch.no_grad():
            results[i] = critic.estimate(
                Experience(
                    tape, e.head, samples, e.rewards[:, mine], e.done[:, mine], e.features[index], e.following[index]
                ),
                GAMMA,
            ).natural

    threads = [threading.Thread(target=one, args=(i,), name=str(i)) for i in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert close(results[0], whole, 1e-8) and close(results[1], whole, 1e-8)


def lqr(system: LQR, k: float, sigma: float, count: int, degrees: tuple[int, ...], seed: int = 0) -> Experience:
    """``count`` episodes of 200 steps of the scalar system, simulated here; discounted weights."""
    steps, rng = 200, np.random.default_rng(seed)
    s = np.sqrt(system.start_variance) * rng.standard_normal(count)
    states, actions = [s], []
    for _ in range(steps):
        actions.append(k * s + sigma * rng.standard_normal(count))
        s = system.A * s + system.B * actions[-1] + system.noise_std * rng.standard_normal(count)
        states.append(s)
    S, A = torch.from_numpy(np.array(states)), torch.from_numpy(np.array(actions))
    head = DiagonalGaussian(1, scale="sigma")
    network = Network(nn.Sequential(nn.Linear(1, 1, bias=False, dtype=torch.float64)), 1)
    time = torch.arange(steps).repeat_interleave(count)
    samples = Samples(
        inputs=S[:-1].reshape(-1, 1),
        actions=A.reshape(-1, 1),
        weight=system.gamma ** time.double(),
        time=time,
        episode=torch.arange(count).repeat(steps),
    )
    done = torch.zeros(steps, count, dtype=torch.bool)
    done[-1] = True
    tape = network.tape(torch.tensor([k, sigma], dtype=torch.float64), samples.inputs)
    phi = monomials(S.reshape(-1, 1), degrees)
    rewards = -(system.Q * S[:-1] ** 2 + system.R * A**2)
    return Experience(tape, head, samples, rewards, done, phi[:-count], phi[count:])


def errors(critic, degrees, count, seeds, noise=0.3, k=-0.3, sigma=0.5) -> np.ndarray:
    """Relative errors of w to the closed form's natural gradient."""
    system = LQR(start_variance=0.5, noise_std=noise)
    true = system.natural_gradient(k, sigma)
    found = [critic.estimate(lqr(system, k, sigma, count, degrees, s), system.gamma).natural.numpy() for s in seeds]
    return np.linalg.norm(found - true, axis=1) / np.linalg.norm(true)


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
def test_where_nothing_but_actions_is_random_a_few_episodes_give_the_closed_form(trace):
    """Q is in the span of (1, s^2) and the scores, so that every residual can be 0."""
    assert errors(LSTD(None, trace, 0.0), (0, 2), 3, range(1), noise=0.0) < 1e-9
    assert errors(LSTD(None, trace, 0.0), (0, 1), 30, range(1), noise=0.0) > 0.05  # V is not in the span of (1, s)


def test_episodes_give_the_closed_form_but_for_what_lies_beyond_the_horizon():
    """Of the order of gamma^200 = 3.5e-5."""
    assert errors(Episodic(None, 0.0), (0, 2), 20, range(1), noise=0.0) < 1e-4


@pytest.mark.parametrize("critic", [LSTD(None, 0.0, 0.0), LSTD(None, 0.9, 0.0), Episodic(None, 0.0)])
def test_the_error_falls_as_one_over_the_root_of_the_samples(critic):
    few, many = (np.sqrt((errors(critic, (0, 2), count, range(12)) ** 2).mean()) for count in (16, 256))
    assert 2 < few / many < 8  # 4 on average
    assert many < 0.08


def test_lqr_rewards_are_those_of_the_task():
    """The simulation above is the system whose closed forms it is compared with."""
    system = LQR(start_variance=0.5, noise_std=0.3)
    e = lqr(system, -0.3, 0.5, 400, (0, 2))
    returns = (e.rewards * system.gamma ** torch.arange(200)[:, None]).sum(0)
    assert abs(float(returns.mean()) - system.J(-0.3, 0.5)) < 4 * float(returns.std()) / 20


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
