"""The decayed average of a metric over updates, against the weighted sum of its dense matrices at each theta."""

import functools

import pytest
import torch
from torch import Tensor

from rlopt.checkpoint.format import load, write
from rlopt.core.metrics.average import Average
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.metrics.identity import Identity
from rlopt.core.network import Network
from rlopt.core.parts import BATCH, GRADIENT, ROOT
from rlopt.core.solvers.gram import Gram
from rlopt.errors import UserError
from tests.support import oracles
from tests.support.building import resolve, trainer
from tests.support.curvatures import block, blocks_of, cg, diagonal, groups, low_rank, solve
from tests.support.metrics import METRICS, OBJECTIVES, bind
from tests.support.oracles import TAPES, Case, bits, close, eye, make_case, randn
from tests.support.two_ranks import Ranks, halves

AVERAGED = {name: metric for name, metric in METRICS.items() if not name.startswith("gradient_history")}
AVERAGED["fisher_sampled"] = Fisher(2, 5)
COUNTS = (9, 4, 7, 9, 5)
DECAY = 0.6


@functools.cache
def updates(head: str = "sigma", tape: str = "mlp") -> list[Case]:
    """One policy at the thetas of five updates, each with samples of its own, some masked."""
    first = make_case(head, tape, "masked", count=3, hidden=(4,), moved=0.2)
    found = []
    for i, count in enumerate(COUNTS):
        samples = make_case(head, tape, "masked", count, seed=30 + i, hidden=(4,), moved=0.2).samples
        theta = first.theta + 0.05 * i * randn(len(first.theta), seed=i).abs()
        found.append(Case(first.module, first.network, first.head, theta, samples))
    return found


def average(of, memory: str = "batches", batches: int = 3) -> Average:
    return Average(of, DECAY, memory, batches, 100)


def follow(metric: Average, cases: list[Case], state=None) -> tuple[list, dict]:
    """The curvature of every update, and the state after the last."""
    state, found = metric.init() if state is None else state, []
    for case in cases:
        curvature, state = bind(metric, case, OBJECTIVES["surrogate"], state)
        found.append(curvature)
    return found, state


def weights(count: int) -> list[float]:
    """Of the last ``count`` updates, oldest first."""
    given = [DECAY**age for age in range(count)][::-1]
    return [weight / sum(given) for weight in given]


def definition(name: str, cases: list[Case], window: int) -> Tensor:
    """sum_i weight_i M(theta_i), every M dense and bound anew."""
    inner, state, found = AVERAGED[name], AVERAGED[name].init(), []
    for case in cases:
        curvature, state = bind(inner, case, OBJECTIVES["surrogate"], state)
        found.append(curvature.dense())
    found = found[-window:]
    return sum(weight * M for weight, M in zip(weights(len(found)), found, strict=True))


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("memory, window", [("batches", 3), ("matrix", 99)])
@pytest.mark.parametrize("name", AVERAGED)
def test_an_average_is_its_dense_definition(name, memory, window, tape):
    cases, metric = updates("sigma", tape), average(AVERAGED[name], memory)
    found, _ = follow(metric, cases)
    for T, curvature in enumerate(found, 1):
        M = definition(name, cases[:T], window)
        assert close(curvature.dense(), M, 1e-10)
        v = randn(len(M), seed=T)
        assert close(curvature.product(v), M @ v, 1e-10)
        root = getattr(curvature, "root", None)
        assert (root is not None) == (ROOT in metric.supplies)
        if root is not None:
            assert len(root()[0]) == sum(COUNTS[max(0, T - window) : T])
    others = definition(name, cases[-1:], 1)
    assert name == "mahalanobis" or not close(M, others, 1e-2)  # or the average would show nothing


def test_fisher_is_averaged_as_it_is_differentiated():
    cases = updates()
    found, _ = follow(average(Fisher(None, 0)), cases)
    M = sum(weight * oracles.fisher(case) for weight, case in zip(weights(3), cases[-3:], strict=True))
    assert close(found[-1].dense(), M, 1e-10)


@pytest.mark.parametrize("head", ["sigma", "categorical", "value"])
def test_every_solver_solves_with_the_average(head):
    cases = updates(head)
    (*_, curvature), _ = follow(average(Fisher(None, 0)), cases)
    M = definition("fisher", cases, 3)
    g, lam = randn(len(M), seed=7), 0.1
    first = cases[-1]
    exact = {"cg": cg(300, 1e-14), "gram": Gram(10_000, "network"), "low_rank": low_rank(200)}
    wanted = {name: M for name in exact}
    exact |= {"diagonal": diagonal(), "layer": block("layer"), "incoming": block("incoming")}
    wanted |= {"diagonal": M.diagonal().diag()} | {by: blocks_of(M, groups(first, by)) for by in ("layer", "incoming")}
    for name, solver in exact.items():
        x = torch.linalg.solve(wanted[name] + lam * eye(len(M)), g)
        assert close(solve(solver, curvature, g, lam).x, x, 1e-8), name
    rest = solve(low_rank(4, 200, "random", "mean"), curvature, g, lam)
    mu = torch.linalg.eigvalsh(M)
    assert close(rest.scalars["solver/remainder"], (M.trace() - mu[-4:].sum()) / (len(M) - 4), 1e-8)


@pytest.mark.parametrize("memory", ["batches", "matrix"])
@pytest.mark.parametrize("name", ["fisher_sampled", "hessian", "gradient_covariance_centred", "episode_fisher"])
def test_an_average_resumes_from_a_file_to_the_bit(name, memory, tmp_path):
    of = AVERAGED.get(name) or AVERAGED["empirical_fisher"]
    cases, metric = updates(), average(of, memory)
    _, state = follow(metric, cases[:3])
    kept = bits(state)
    write(tmp_path / "step-000000000001.safetensors", 1, {"state": state}, None)
    again = load(tmp_path / "step-000000000001.safetensors")["state"]
    here, there = follow(metric, cases[3:], state), follow(metric, cases[3:], again)
    assert bits(state) == kept and bits(here[1]) == bits(there[1])
    v = randn(here[0][-1].size)
    assert all(torch.equal(a.product(v), b.product(v)) for a, b in zip(here[0], there[0], strict=True))


def test_two_ranks_keep_the_same_matrix(monkeypatch):
    cases, metric, ranks = updates()[:3], average(Fisher(None, 0), "matrix"), Ranks()
    whole, _ = follow(metric, cases)
    monkeypatch.setattr("rlopt.core.curvature.all_sum", ranks.all_sum)
    parts = [halves(case) for case in cases]

    def one(i: int):
        own = [Case(c.module, c.network, c.head, c.theta.clone(), p[i]) for c, p in zip(cases, parts, strict=True)]
        # Network keeps the views of the theta that it saw last, and threads share it
        state, found = metric.init(), None
        for case in own:
            tape = Network(case.module, case.head.constants).tape(case.theta, case.samples.inputs)
            found, state = metric.bind(state, tape, case.head, case.samples, OBJECTIVES["surrogate"])
        return found.dense(), state

    (a, state_a), (b, state_b) = ranks.run(one)
    assert close(a, whole[-1].dense(), 1e-12) and torch.equal(a, b) and bits(state_a) == bits(state_b)


def test_what_is_kept_is_a_copy_and_no_more_than_is_read():
    cases, metric = updates(), average(Fisher(None, 0))
    case = Case(
        cases[0].module, cases[0].network, cases[0].head, cases[0].theta.clone(), cases[0].samples.map(Tensor.clone)
    )
    _, state = follow(metric, [case])
    before = bits(state)
    case.theta.zero_()
    case.samples.inputs.zero_()  # as a rollout's buffer is written again
    assert bits(state) == before
    _, state = follow(metric, cases)
    assert list(state["batches"]) == ["0", "1"]  # the third is the one to come


def test_an_average_of_one_matrix_is_that_matrix_at_once():
    for memory in ("batches", "matrix"):
        found, _ = follow(average(Fisher(None, 0), memory), [updates()[0]] * 4)
        M = oracles.fisher(updates()[0])
        assert all(close(curvature.dense(), M, 1e-12) for curvature in found)


def test_an_average_supplies_no_more_than_its_metric():
    for name, metric in AVERAGED.items():
        assert average(metric).supplies == metric.supplies - {BATCH, GRADIENT}, name
        assert average(metric, "matrix").supplies == metric.supplies - {BATCH, GRADIENT, ROOT}


@pytest.mark.parametrize(
    "options, says",
    [
        ({"of": GradientHistory(None, "full")}, "of must be a metric of samples .* got 'gradient_history'"),
        ({"of": Identity()}, "of must be a metric of samples .* got 'identity'"),
        ({"of": average(Fisher(None, 0))}, "of must be a metric of samples .* got 'average'"),
        ({"decay": 1.0}, "decay must be above 0 and below 1"),
        ({"decay": 0.0}, "decay must be above 0 and below 1"),
        ({"batches": 1}, "batches must be a whole number, 2 or above"),
        ({"memory": "all"}, "memory must be batches or matrix"),
        ({"largest": 0}, "largest must be a whole number"),
    ],
)
def test_what_cannot_be_averaged_is_refused(options, says):
    good = {"of": Fisher(None, 0), "decay": 0.5, "memory": "batches", "batches": 3, "largest": 10}
    with pytest.raises(ValueError, match=says):
        Average(**{**good, **options})


SMALL = ["algo=trpo", "env=cartpole", "batch_size=64", "env.num_envs=4", "metric=average"]
REFUSED = [
    (["solver=kfac"], "it needs a metric of one batch, since it averages over updates itself. These can: .*solver=gram"),
    (["metric.memory=matrix", "solver=gram"], "solver=gram cannot serve metric=average: .*These can: .*solver=dense"),
    (["metric.memory=matrix"], "matrix 4610 x 4610, .* type metric.memory=batches, or type metric.largest=4610"),
    (["metric.memory=matrix", "metric.batches=3"], "metric.batches has no effect with metric.memory=matrix"),
    (["metric.largest=3"], "metric.largest has no effect with metric.memory=batches"),
    (["metric.of=average"], "metric.of must be a metric of samples that has no memory of its own; got 'average'"),
    (["solver=gram", "batch_size=2048"], "20480 x 20480 products, of 2 factors for each of 10240 samples"),
    (["metric.of=fisher", "metric.of.samples=taken", "schedule.epochs=2"], "or type metric.of.samples=1"),
]  # fmt: skip


@pytest.mark.parametrize("typed, says", REFUSED)
def test_a_run_is_refused_in_one_line_before_it_starts(typed, says, tmp_path):
    with pytest.raises(UserError, match=says) as refusal:
        trainer(resolve([*SMALL, *typed, f"run_dir={tmp_path}/run"]))
    assert "\n" not in str(refusal.value)


def test_batches_are_for_one_rank_and_a_matrix_is_for_any(monkeypatch, tmp_path):
    monkeypatch.setattr("rlopt.config.compatibility.world_size", lambda: 2)
    with pytest.raises(
        UserError, match="metric=average needs all samples in one process, .* ranks: metric=empirical_fisher"
    ):
        trainer(resolve([*SMALL, f"run_dir={tmp_path}/run"]))
    trainer(resolve([*SMALL, "metric.memory=matrix", "policy.hidden=[4]", f"run_dir={tmp_path}/run"])).collector.close()


@pytest.mark.parametrize("typed", ["metric.of=ggn", "critic.metric.of=ggn"])
def test_the_metric_inside_is_typed_by_its_name(typed):
    where, _, _ = typed.rpartition("metric.of")
    critic = ["critic.metric=average", "critic.solver=cg", "critic.step=trust_region", "critic.schedule=whole_batch"]
    config = resolve([*SMALL, *critic, typed])
    assert (config["critic"] if where else config)["metric"]["of"]["curvature"] == "clipped"
    with pytest.raises(UserError, match=rf"{where}metric.of has no effect without {where}metric=average"):
        resolve(["algo=trpo", typed])
