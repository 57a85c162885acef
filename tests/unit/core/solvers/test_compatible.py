"""What a compatible critic gives an update: its metric times w is the gradient, on one rank and on two."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from rlopt.core.compatible.critic import Experience
from rlopt.core.compatible.episodic import Episodic
from rlopt.core.compatible.lstd import LSTD
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.episode_fisher import EpisodeFisher
from rlopt.core.network import Network
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.compatible import Compatible, with_direction
from rlopt.core.solvers.dense import Dense
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support.experiences import GAMMA, E, T, made, scores
from tests.support.oracles import TAPES, close

UPDATES = {"lstd": (LSTD(None, 0.7, 1e-3), EmpiricalFisher()), "episodic": (Episodic(None, 1e-3), EpisodeFisher())}


@pytest.mark.parametrize("critic", UPDATES)
def test_the_gradient_is_the_critics_metric_times_w(critic):
    estimator, metric = UPDATES[critic]
    case, e = made(weights="uniform" if critic == "lstd" else "discounted")
    found = estimator.estimate(e, GAMMA)
    update = Update(case.network, case.head, LogProb(0.0), metric, Compatible(), Constant(0.0), Fixed(0.5))
    state = update.init(case.theta)
    state["solver"] = with_direction(state["solver"], found.natural)
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
    with pytest.raises(Incompatible, match="no compatible critic") as refused:
        Compatible().prepare({}, None, 0.0)
    assert refused.value.remedy is Remedy.COMPATIBLE_CRITIC


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


def test_episode_fisher_of_one_step_episodes_is_empirical_fisher():
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
    monkeypatch.setattr("rlopt.core.compatible.regression.world_size", lambda: 2)

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
