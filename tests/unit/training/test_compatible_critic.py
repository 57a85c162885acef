"""NAC and eNAC from the command line's options: which go together, what is refused, what the run does."""

import pytest
import torch

import rlopt
from rlopt.cli.main import main
from rlopt.errors import UserError
from tests.support.building import resolve, trainer

SMALL = ["env=cartpole", "env.num_envs=2", "batch_size=1200", "policy.hidden=[4]", "critic.hidden=[4]", "dtype=float64",
         "critic.schedule.epochs=1", "total_steps=2400", "evaluation.episodes=0"]  # fmt: skip


def run(tmp_path, *overrides):
    made = trainer(resolve([*SMALL, *overrides, f"run_dir={tmp_path}/run"]))
    made.run()
    return made


@pytest.mark.parametrize("degrees", ["null", "[0,1,2]"])
@pytest.mark.parametrize("policy", ["mlp", "linear"])
@pytest.mark.parametrize("algo", ["nac", "enac"])
def test_linear_and_neural_policies_train_on_both_features(tmp_path, algo, policy, degrees):
    overrides = [f"algo={algo}", f"policy={policy}", f"critic.compatible.degrees={degrees}"]
    made = run(tmp_path, *(["policy.hidden=[]"] if policy == "linear" else []), *overrides)
    assert made.skipped == 0
    assert made.state["actor"]["theta"].isfinite().all()
    assert made.state["actor"]["parts"]["solver"]["w"].shape == made.state["actor"]["theta"].shape


@pytest.mark.parametrize("algo", ["nac", "enac"])
@pytest.mark.parametrize(
    "solver", [["solver=dense"], ["solver=cg", "solver.iterations=500", "solver.tolerance=0"]], ids=["dense", "cg"]
)
def test_the_presets_direction_is_any_solvers(tmp_path, algo, solver):
    """On one rollout: solver=compatible, and the critic's metric solved for the gradient of the critic's advantages."""
    moved = []
    for chosen in ([], [*solver, "damping.value=1e-10"]):
        run = trainer(
            resolve([*SMALL, f"algo={algo}", "env=pendulum", "step=fixed", "step.rate=0.01", "critic.compatible.ridge=0.1", *chosen,
                     f"run_dir={tmp_path}/run"])
        )  # fmt: skip
        try:
            batch = run.collector.collect(run.agent.policy(run.state))
            state, lesson = run.agent.learn(run.state, batch, run.minibatches)
        finally:
            run.collector.close()
        assert lesson.failure is None
        if not chosen:
            assert lesson.scalars["solver/residual"] < 1e-10
        moved.append(state["actor"]["theta"] - run.state["actor"]["theta"])
    update, theta, samples = (
        run.agent.actor.update,
        run.state["actor"]["theta"],
        run.agent.actor_samples(run.state, batch),
    )
    tape = update.network.tape(theta, samples.inputs)
    M, _ = update.metric.bind({}, tape, update.head, samples, update.objective)
    lost = moved[0] - moved[1]  # what M does not see cannot be found again, and is no change of the policy
    assert torch.dot(lost, M.product(lost)) < 1e-10 * torch.dot(moved[0], M.product(moved[0]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=npg", "solver=compatible"],
         "solver=compatible cannot serve metric=fisher: it needs the direction that critic=episodic or critic=lstd gives"),
        (["algo=nac", "critic=mlp"], "These can: .*solver=cg"),
        (["algo=nac", "critic.solver=compatible"], "critic.solver=compatible cannot serve critic.metric=identity"),
        (["algo=nac", "advantages.normalise=batch"], "critic=lstd makes.*add advantages.normalise=false"),
        (["algo=enac", "advantages.recompute=true"], "critic=episodic makes.*add advantages.recompute=false"),
        (["algo=nac", "schedule.epochs=2"], "one direction a rollout; add schedule=whole_batch schedule.epochs=1"),
        (["algo=nac", "schedule=minibatch", "schedule.epochs=1"], "one direction a rollout; add schedule=whole_batch"),
        (["algo=enac", "solver=cg", "schedule=minibatch"], "metric=episode_fisher needs the whole batch .*; add schedule="),
        (["algo=nac", "objective.entropy=0.01"], "objective.entropy has no effect with solver=compatible"),
        (["algo=nac", "metric=identity", "step=optimizer"], "undoes metric=identity with solver=compatible"),
        (["algo=enac", "batch_size=800"], "up to 500 steps, and .* is 400 .*raise batch_size, or lower env.num_envs"),
        (["algo=nac", "critic.compatible.trace=2"], "critic.compatible.trace must be between 0 and 1; got 2"),
        (["algo=nac", "critic.compatible.degrees=[-1]"], "critic.compatible.degrees must be null or a list"),
        (["algo=nac", "critic.compatible.ridge=-1"], "critic.compatible.ridge must be a finite number, 0 or above"),
    ],
)  # fmt: skip
def test_what_cannot_go_together_is_refused_in_one_line(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as refusal:
        trainer(resolve([*SMALL, *overrides, f"run_dir={tmp_path}/run"]))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_batch_without_a_whole_episode_ends_with_advice(tmp_path):
    """An environment that does not say how long its episodes are: the LQR's last 200 steps."""
    made = trainer(
        resolve(
            [
                "experiment=lqr",
                "algo=enac",
                "batch_size=320",
                "critic.compatible.degrees=[0,2]",
                f"run_dir={tmp_path}/r",
            ]
        )
    )
    with pytest.raises(UserError, match="no episode begins and ends within the 20 steps") as refused:
        made.run()
    assert str(refused.value).endswith("; raise batch_size, or lower env.num_envs")


def test_the_advice_is_told_by_the_command_line_and_from_python(capsys, tmp_path, elsewhere):
    typed = ["experiment=lqr", "algo=enac", "batch_size=320", "critic.compatible.degrees=[0,2]"]
    code, err = main(["train", *typed, f"run_dir={tmp_path}/a"]), capsys.readouterr().err
    assert code == 2 and "within the 20 steps" in err and err.endswith("raise batch_size, or lower env.num_envs\n")
    with pytest.raises(UserError, match="within the 20 steps.*raise batch_size, or lower env.num_envs"):
        rlopt.train(*typed, run_dir=tmp_path / "b")


def test_the_lqr_has_the_features_that_its_value_function_needs():
    for algo in ("nac", "enac"):
        found = resolve(["experiment=lqr", f"algo={algo}"])["critic"]["compatible"]
        assert (found["degrees"], found["ridge"]) == ([0, 2], 0.0)
    assert resolve(["env=lqr", "algo=nac", "critic=mlp", "solver=cg"])["critic"]["compatible"] is None
    assert resolve(["env=lqr", "algo=nac"])["critic"]["compatible"]["trace"] == 0.95


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env=lqr", "algo=nac", "critic=mlp", "solver=cg", "critic.compatible.ridge=1"],
         "critic.compatible.ridge has no effect here; it is an option of critic=episodic and critic=lstd"),
        (["algo=nac", "damping.value=1"], "damping.value has no effect: solver=compatible takes no damping"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_an_error(overrides, message):
    with pytest.raises(UserError, match=message):
        resolve(overrides)


def test_other_algorithms_may_have_a_compatible_critic(tmp_path):
    assert run(tmp_path, "algo=trpo", "critic=lstd", "advantages.normalise=false").skipped == 0
