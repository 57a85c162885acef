"""Solvers from their yaml: nested preconditioners, and what is refused before a run starts."""

from typing import Any

import pytest

from rlopt.config import choices as catalogue
from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.errors import UserError
from tests.support.building import resolve, trainer

STRUCTURED = [
    "block", "cg", "dense", "diagonal", "gram", "kaczmarz", "kron", "lbfgs", "low_rank", "nystrom", "power", "shampoo", "soap",
]  # fmt: skip
DIAGONAL = {"_target_": "rlopt.core.solvers.diagonal.Diagonal", "method": "exact", "draws": 1, "seed": 0, "chunk": 8}
AS_TYPED = "{_target_: rlopt.core.solvers.diagonal.Diagonal, method: exact, draws: 1, seed: 0, chunk: 8}"


def solver(name: str, **options: Any) -> dict[str, Any]:
    return {**read_choice("solver", name), **options}


@pytest.mark.parametrize("name", STRUCTURED)
def test_every_option_has_a_comment(name):
    first, target, *options = (catalogue.conf_dir() / "solver" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ") and target.startswith("_target_") and options
    assert all("   # " in line for line in options)


def test_a_preconditioner_is_a_solver_with_options_of_its_own():
    made = construct_part(solver("cg", preconditioner=DIAGONAL), "solver")
    assert isinstance(made, CG) and made.preconditioner == Diagonal("exact", 1, 0, 8)
    assert construct_part(solver("cg"), "solver").preconditioner is None


@pytest.mark.parametrize("where", ["", "critic."])
def test_a_preconditioner_can_be_typed(where):
    chosen = [f"{where}{choice}" for choice in ("metric=fisher", "solver=cg", "step=trust_region")]
    config = resolve([*chosen, f"{where}solver.preconditioner={AS_TYPED}", f"{where}schedule=whole_batch"])
    assert (config["critic"] if where else config)["solver"]["preconditioner"] == DIAGONAL
    run = trainer(config)
    run.collector.close()
    update = run.agent.critic.update if where else run.agent.actor.update
    assert update.solver.preconditioner == Diagonal("exact", 1, 0, 8)


@pytest.mark.parametrize("where", ["", "critic."])
def test_a_preconditioner_can_be_typed_by_its_name(where):
    chosen = [f"{where}{choice}" for choice in ("metric=fisher", "solver=cg", "step=trust_region")]
    config = resolve([*chosen, f"{where}solver.preconditioner=diagonal", f"{where}solver.preconditioner.chunk=3"])
    found = (config["critic"] if where else config)["solver"]
    assert found == solver("cg", preconditioner=solver("diagonal", chunk=3))


@pytest.mark.parametrize("name", ["none", "null"])
def test_no_preconditioner_can_be_typed(name):
    assert resolve([f"solver.preconditioner={name}"]) == resolve([])


@pytest.mark.parametrize(
    "preconditioner, says",
    [
        ("diagonal", r"solver\.preconditioner must be null or a solver, a mapping with _target_; got 'diagonal'"),
        (
            {**DIAGONAL, "method": "exactly"},
            r"solver\.preconditioner\.method must be one of exact, hutchinson, .*exactly",
        ),
        ({**DIAGONAL, "chunk": 0}, r"solver\.preconditioner\.chunk must be a whole number"),
        ({**DIAGONAL, "rate": 1}, r"solver\.preconditioner\.rate is no option"),
        ({"_target_": DIAGONAL["_target_"]}, r"solver\.preconditioner\.method is missing"),
        ({"_target_": "rlopt.core.metrics.identity.Identity"}, r"solver\.preconditioner\._target_ must name a solver"),
        ({"_target_": "os.system"}, r"solver\.preconditioner\._target_ must name a class within rlopt.core"),
        (solver("cg"), r"solver\.preconditioner must be null or a solver that is linear"),
    ],
)
def test_a_wrong_preconditioner_is_refused_by_its_place(preconditioner, says):
    with pytest.raises(UserError, match=says):
        construct_part(solver("cg", preconditioner=preconditioner), "solver")


def test_a_preconditioner_asks_of_the_metric_what_it_needs():
    typed = ["metric=hessian", "solver=cg", f"solver.preconditioner={AS_TYPED}", "step=trust_region"]
    with pytest.raises(UserError, match="^solver.preconditioner=[a-z]* cannot serve metric=hessian: it needs root"):
        resolve(typed)


@pytest.mark.parametrize("where", ["", "critic."])
def test_gram_without_damping_is_refused_before_the_run(where):
    chosen = [f"{where}{choice}" for choice in ("metric=fisher", "solver=gram", "step=trust_region")]
    trainer(resolve(chosen)).collector.close()
    with pytest.raises(UserError, match=rf"{where}solver=gram needs damping above 0; set {where}damping.value"):
        trainer(resolve([*chosen, f"{where}damping.value=0"]))


@pytest.mark.parametrize(
    "name, option, value",
    [
        ("low_rank", "rank", 0),
        ("low_rank", "products", 9),  # below rank
        ("low_rank", "seed", -1),
        ("lbfgs", "memory", 0),
        ("lbfgs", "curvature", 0.0),
        ("gram", "largest", 0),
        ("gram", "by", "unit"),
        ("kaczmarz", "block", 0),
        ("kaczmarz", "sweeps", 0),
        ("nystrom", "rank", 0),
        ("spring", "momentum", 1.0),
        ("block", "by", "unit"),
        ("block", "chunk", 0),
        ("diagonal", "draws", 0),
        ("diagonal", "seed", -1),
        ("dense", "indefinite", "ignore"),
        ("power", "exponent", 0.5),
        ("cg", "start", "hot"),
        ("cg", "decay", 1.5),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_name(name, option, value):
    with pytest.raises(UserError, match=rf"^solver\.{option} must be"):
        construct_part(solver(name, **{option: value}), "solver")


@pytest.mark.parametrize("where", ["", "critic."])
def test_what_spring_is_of_can_be_typed_by_its_name(where):
    chosen = [f"{where}{choice}" for choice in ("metric=fisher", "solver=spring", "step=trust_region")]
    config = resolve([*chosen, f"{where}solver.of=gram", f"{where}solver.of.by=layer", f"{where}solver.momentum=0.5"])
    found = (config["critic"] if where else config)["solver"]
    assert found == solver("spring", of=solver("gram", by="layer"), momentum=0.5)
    with pytest.raises(UserError, match=rf"{where}solver.of has no effect without {where}solver=spring"):
        resolve([f"{where}metric=fisher", f"{where}solver=cg", f"{where}step=trust_region", f"{where}solver.of=gram"])


@pytest.mark.parametrize("of", ["identity", "power", "compatible", "shampoo", "spring"])
def test_spring_of_what_solves_no_system_is_refused(of):
    with pytest.raises(UserError, match=r"solver.of must be a solver of \(M \+ lambda I\) x = g; got"):
        trainer(resolve(["algo=npg", "solver=spring", f"solver.of={of}"]))


def test_a_solver_by_the_root_alone_serves_any_network():
    """K-FAC needs layer statistics, which this network with memory has of whole sequences alone."""
    for name in ("kaczmarz", "spring"):
        typed = ["algo=npg", "policy=gru", f"solver={name}", "batch_size=64", "env.num_envs=4"]
        run = trainer(resolve([*typed, *(["solver.of=kaczmarz"] if name == "spring" else [])]))
        before = run.state["actor"]["theta"].clone()
        state, result = run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
        run.collector.close()
        assert result.failure is None and not state["actor"]["theta"].equal(before)


@pytest.mark.parametrize("where", ["", "critic."])
def test_the_preconditioner_of_springs_solver_can_be_typed(where):
    chosen = [f"{where}{choice}" for choice in ("metric=fisher", "solver=spring", "step=trust_region")]
    of = f"{where}solver.of"
    config = resolve([*chosen, f"{of}.preconditioner=nystrom", f"{of}.preconditioner.rank=7"])
    found = (config["critic"] if where else config)["solver"]
    assert found == solver("spring", of=solver("cg", preconditioner=solver("nystrom", rank=7)))
    assert resolve([*chosen, f"{of}.preconditioner=null"]) == resolve(chosen)
    for others in ([chosen[1], f"{of}=dense"], [f"{where}solver=cg"]):
        with pytest.raises(UserError, match=rf"^{where}solver\.of\.preconditioner has no effect here"):
            resolve([chosen[0], chosen[2], *others, f"{of}.preconditioner=nystrom"])
