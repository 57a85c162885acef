"""A learner: its schedule of minibatches, what it counts, and that it continues to the bit from a copied state."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from rlopt.core.learner import Learner, Schedule, TrainingResult, host
from rlopt.core.samples import Samples
from rlopt.core.update import Report
from tests.support import densities, oracles
from tests.support.oracles import POLICIES, bits, make_case, randn, seeded
from tests.support.updates import Watching, every_preset, make_preset, poisoned, used


@pytest.mark.parametrize(("count", "size"), [(40, 8), (41, 8), (47, 8), (17, 5), (9, 4), (5, 5), (5, 7), (5, None)])
def test_minibatches_hold_every_sample_once_the_last_the_rest(count, size):
    ids = torch.arange(count, dtype=torch.float64)
    samples = Samples(inputs=ids[:, None], actions=ids, weight=torch.ones_like(ids), advantages=-ids)
    batches = list(samples.minibatches(size, seeded(0)))
    assert sorted(torch.cat([b.actions for b in batches]).tolist()) == ids.tolist()
    sizes = [len(b) for b in batches]
    if size is None or size >= count:
        assert sizes == [count] and torch.equal(batches[0].actions, ids)
    else:
        assert sizes == [size] * (count // size - 1) + [size + count % size]
        assert not torch.equal(torch.cat([b.actions for b in batches]), ids)
    for b in batches:
        assert torch.equal(b.inputs[:, 0], b.actions) and torch.equal(b.advantages, -b.actions)
        assert b.old_outputs is None and float(b.share.sum()) == pytest.approx(1)


def test_every_epoch_shuffles_anew_and_a_seed_repeats_it():
    ids = torch.arange(20, dtype=torch.float64)
    samples = Samples(inputs=ids[:, None], actions=ids, weight=torch.ones_like(ids))

    def epochs(seed: int) -> list[list[float]]:
        generator = seeded(seed)
        return [torch.cat([b.actions for b in samples.minibatches(5, generator)]).tolist() for _ in range(2)]

    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0) == epochs(0) != epochs(1)


def test_advantages_of_each_minibatch_can_be_normalised():
    case = make_case("log_sigma", count=20)
    update, generator, expected = make_preset(case, "ppo"), seeded(1), case.theta.clone()
    expected_state = update.init(expected)
    for batch in case.samples.minibatches(5, generator):
        a = batch.advantages - batch.mean(batch.advantages)
        a = a / batch.mean(a**2).sqrt()
        expected, expected_state, _ = update(expected, expected_state, batch.replacing(advantages=a))
    learner = Learner(make_preset(case, "ppo"), Schedule(1, 5, None), normalise=True)
    theta, _, _ = learner.run(case.theta.clone(), learner.init(case.theta), case.samples, seeded(1), epochs=1)
    torch.testing.assert_close(theta, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("preset", ["vpg", "ppo", "npg", "npg_dense"])
def test_a_learner_updates_on_every_minibatch_of_every_epoch(preset):
    case = make_case("log_sigma", weights="masked", count=23)
    update = make_preset(case, preset)
    learner = Learner(update, Schedule(epochs=3, minibatch=5, target_kl=None))
    theta = case.theta.clone()
    theta, state, outcome = learner.run(theta, learner.init(theta), case.samples, seeded(1), epochs=3)
    assert outcome.steps == 3 * 4 and outcome.skipped == 0 and outcome.failure is None

    update, generator, expected = make_preset(case, preset), seeded(1), case.theta.clone()
    expected_state = update.init(expected)
    for _ in range(3):
        for batch in case.samples.minibatches(5, generator):
            expected, expected_state, report = update(expected, expected_state, batch)
    assert bits((theta, state)) == bits((expected, expected_state))
    assert bits(dict(outcome.last.scalars)) == bits(dict(report.scalars))


@every_preset
def test_training_twice_gives_the_same_bits(preset):
    def train():
        case = make_case("sigma", weights="masked", count=40)
        learner = Learner(
            make_preset(case, preset), Schedule(epochs=2, minibatch=None if preset == "trpo" else 8, target_kl=None)
        )
        theta, generator = case.theta.clone(), seeded(3)
        state = learner.init(theta)
        for _ in range(3):
            theta, state, _ = learner.run(theta, state, case.samples, generator, epochs=2)
            state = learner.advance(state)
        return bits((theta, state)), bits(learner.measure(theta, state, case.samples))

    assert train() == train()


@every_preset
def test_training_from_a_copied_state_gives_the_same_bits(preset):
    case = make_case("log_sigma", weights="masked", count=40)

    def learner() -> Learner:
        return Learner(
            make_preset(case, preset), Schedule(epochs=1, minibatch=None if preset == "trpo" else 8, target_kl=None)
        )

    def train(learner, theta, state, seeds):
        for seed in seeds:
            theta, state, _ = learner.run(theta, state, case.samples, seeded(seed), epochs=1)
            state = learner.advance(state)
        return theta, state

    first, theta = learner(), case.theta.clone()
    theta, state = train(first, theta, first.init(theta), range(3))
    copied = theta.clone(), copy.deepcopy(state)
    assert bits(train(first, theta, state, range(3, 6))) == bits(train(learner(), *copied, range(3, 6)))


def test_a_learner_counts_skipped_steps_and_trains_on_the_others():
    case = make_case("log_sigma", count=20)
    bad = poisoned(case, "advantages", math.nan).samples
    learner = Learner(make_preset(case, "ppo"), Schedule(epochs=1, minibatch=4, target_kl=None))
    theta = case.theta.clone()
    theta, state, outcome = learner.run(theta, learner.init(theta), bad, seeded(0), epochs=2)
    assert (outcome.steps, outcome.skipped, outcome.failure) == (10, 2, "objective")
    assert theta.isfinite().all() and used(state) == (8, 8, 8)


class Scripted:
    """An update that gives these reports in turn."""

    step = Watching()
    network = SimpleNamespace(sequence=1)

    def __init__(self, *reports: Report):
        self.reports = iter(reports)

    def takes_arrays(self, theta, samples, count):
        return False

    def __call__(self, theta, state, samples):
        return theta, state, next(self.reports)


def test_a_result_names_the_first_failure_and_last_good_report():
    good = [Report(scalars={"step/size": float(i)}) for i in range(3)]
    samples, theta = make_case("categorical").samples, torch.zeros(1)

    def outcome(*reports: Report) -> TrainingResult:
        learner = Learner(Scripted(*reports), Schedule(epochs=1, minibatch=None, target_kl=None))
        return learner.run(theta, {}, samples, seeded(0), epochs=len(reports))[2]

    first = outcome(good[0], Report("objective"), good[1], Report("gradient"))
    assert (first.steps, first.skipped, first.failure) == (4, 2, "objective") and first.last is good[1]
    fine, none = outcome(good[2]), outcome(Report("direction"))
    assert fine.failure is None and fine.last is good[2]
    assert (first + fine).last is good[2] and (fine + none).last is good[2]
    assert (first + none).failure == "objective" and (fine + none).failure == "direction"
    assert ((first + fine).steps, (first + none).skipped) == (5, 3)


def test_kl_line_search_refuses_minibatches():
    case = make_case("categorical")
    update = make_preset(case, "trpo")
    with pytest.raises(ValueError, match="KLLineSearch needs the whole batch, and no minibatches of 64"):
        Learner(update, Schedule(epochs=1, minibatch=64, target_kl=None))
    Learner(update, Schedule(epochs=2, minibatch=None, target_kl=None))


@pytest.mark.parametrize(("epochs", "minibatch"), [(0, None), (1, 0), (-1, 8)])
def test_a_schedule_refuses_what_is_no_count(epochs, minibatch):
    with pytest.raises(ValueError, match="must be a whole number, 1 or above"):
        Schedule(epochs, minibatch, None)


@pytest.mark.parametrize("head", POLICIES)
def test_a_learner_measures_the_whole_batch_against_its_start(head):
    case = make_case(head, weights="masked", moved=0.1)
    learner = Learner(make_preset(case, "trpo"), Schedule(epochs=1, minibatch=None, target_kl=None))
    theta = case.theta + 0.05 * randn(len(case.theta), seed=20)
    measured = learner.measure(theta, learner.init(theta), case.samples)
    z, share = oracles.outputs(case.module, theta, case.samples.inputs), oracles.share(case.samples)
    old = case.samples.old_outputs
    assert float(measured["step/kl"]) == pytest.approx(float(share @ densities.kl(case.head, old, z)), rel=1e-9)
    improvement = oracles.objective(case, "surrogate", theta) - share @ case.samples.advantages
    assert float(measured["step/improvement"]) == pytest.approx(float(improvement), rel=1e-9)
    policy = getattr(case.head, "policy", case.head)  # of a joint head its own, behind the value
    own = z[:, z.shape[1] - policy.network_outputs - policy.constants :]
    entropy = share @ densities.distribution(policy, own).entropy()
    assert float(measured["policy/entropy"]) == pytest.approx(float(entropy), rel=1e-9)
    assert ("policy/kl" in measured) == (policy is not case.head)
    if policy is not case.head:
        kl = share @ densities.kl(policy, old[:, 1:], own)
        assert float(measured["policy/kl"]) == pytest.approx(float(kl), rel=1e-9)


def test_scalars_come_to_the_host_as_numbers_under_their_names():
    scalars = {"a": torch.tensor(1.5), "b": 2.0, "c": torch.tensor(True), "d": torch.tensor([3], dtype=torch.float64)}
    assert host(scalars) == {"a": 1.5, "b": 2.0, "c": 1.0, "d": 3.0}
    assert host({}) == {}
