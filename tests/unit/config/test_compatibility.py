"""What does not go together, or has no effect, is refused; what a refusal advises goes through."""

import pytest

from rlopt.config import compatibility, read_config
from rlopt.errors import UserError
from tests.support.building import resolve, trainer

ADVISED = {  # what is refused -> what its message advises, each of which must then go through
    "algo=ppo metric=fisher solver=cg": ["step=kl_clip", "step=trust_region", "optimizer=sgd"],
    "algo=ppo metric=fisher solver=cg step=kl_line_search": ["schedule=whole_batch", "step=trust_region"],
    "schedule=minibatch": ["schedule=whole_batch", "step=trust_region"],
    "critic.metric=fisher critic.solver=cg": [
        "critic.step=kl_clip", "critic.step=trust_region", "critic.optimizer=sgd",
    ],
    "critic.metric=fisher critic.solver=cg critic.step=kl_line_search": [
        "critic.schedule=whole_batch", "critic.step=trust_region",
    ],
    "algo=ppo metric=episode_fisher solver=cg step=kl_clip": ["schedule=whole_batch"],
    "algo=ppo metric=fisher metric.samples=taken solver=kfac step=kl_clip": [
        "schedule=whole_batch schedule.epochs=1", "metric.samples=1",
    ],
    "algo=nac schedule=minibatch": ["schedule=whole_batch schedule.epochs=1"],
    "algo=nac schedule=whole_batch step=optimizer": ["step=kl_clip", "step=trust_region"],
    "algo=nac advantages.normalise=batch": ["advantages.normalise=false"],
    "batch_size=1 env.num_envs=1": ["advantages.normalise=false"],
    "algo=ppo schedule.minibatch=1 advantages.normalise=minibatch": ["advantages.normalise=false"],
    "algo=svrpg advantages.normalise=batch": ["advantages.normalise=false"],
    "algo=svrpg schedule=minibatch": ["schedule=whole_batch"],
    "algo=svrpg schedule.epochs=3": ["schedule.epochs=1", "estimator=plain"],
    "algo=svrpg critic=shared": ["critic=mlp", "estimator=plain"],
    "algo=storm_pg critic=lstd": ["critic=mlp", "estimator=plain"],
    "solver=gram damping.value=0": ["damping.value=1e-3"],
    "algo=ppo schedule.minibatch=5000": ["schedule.minibatch=null"],
    "batch_size=2049": ["batch_size=2048"],
    "env=CartPole-v1": ["env.id=CartPole-v1"],
    "metric=hessian solver=kfac": ["solver=lbfgs"],
    "metric=hessian solver.preconditioner=diagonal": ["solver.preconditioner=null", "solver.preconditioner=dense"],
    "critic.metric=identity critic.step=fixed critic.solver=cg critic.solver.preconditioner=kfac": [
        "critic.solver.preconditioner=null", "critic.solver.preconditioner=identity",
    ],
    "metric=hessian solver=spring solver.of=kfac": ["solver.of=cg", "solver.of=dense"],
    "critic.metric=hessian critic.solver=spring critic.solver.of=gram critic.step=fixed": ["critic.solver.of=lbfgs"],
    "solver=spring solver.of=kfra policy.layer_norm=true": ["solver.of=kfac", "solver.of=kaczmarz"],
    "solver=spring solver.of=gram policy.hidden=[8] solver.of.largest=100": ["solver.of.largest=4096"],
    "solver.preconditioner=gram solver.preconditioner.largest=100": ["solver.preconditioner.largest=4096"],
    "solver=spring solver.of=gram policy=gru": ["solver.of=kaczmarz"],
    "metric=hessian solver=identity": ["metric=identity"],
    "solver=kaczmarz damping.value=0": ["damping.value=1e-3"],
    "step=midpoint metric.samples=taken": ["step=kl_clip"],
    "algo=svrpg metric=fisher solver=cg step=midpoint": ["step=kl_clip"],
    "algo=nac step=midpoint": ["step=kl_clip"],
}  # fmt: skip


@pytest.mark.parametrize("typed", ["solver=spring solver.of", "solver=cg solver.preconditioner"])
def test_an_idle_option_within_a_solver_is_refused(typed):
    inner = typed.split()[1]
    with pytest.raises(UserError, match=f"^{inner}.draws has no effect with {inner}.method=exact"):
        trainer(resolve([*f"{typed}=diagonal".split(), f"{inner}.draws=3"]))
    resolve([*f"{typed}=diagonal".split(), f"{inner}.draws=3", f"{inner}.method=hutchinson"])


@pytest.mark.parametrize("typed", ADVISED)
def test_what_a_refusal_advises_goes_through(typed):
    with pytest.raises(UserError) as refused:
        trainer(resolve(typed.split()))
    for advice in ADVISED[typed]:
        assert advice in str(refused.value)
        replaced = {text.partition("=")[0].partition(".id")[0] for text in advice.split()}
        kept = [text for text in typed.split() if text.partition("=")[0] not in replaced]
        trainer(resolve([*kept, *advice.split()])).collector.close()


NO_EFFECT = {
    "updates=5": "updates follows from total_steps and batch_size",
    "observations.normalise=false observations.clip=3": "observations.clip has no effect with observations.normalise=false",
    "dtype=float64 matmul_precision=high": "matmul_precision=high has no effect with dtype=float64",
    "rewards.scale=false rewards.clip=3": "rewards.clip has no effect with rewards.scale=false",
    "averaging.decay=0.5": "averaging.decay has no effect with averaging.kind=none",
    "averaging.kind=uniform averaging.decay=0.5": "averaging.decay has no effect with averaging.kind=uniform",
    "critic.targets.decay=0.5": "critic.targets.decay has no effect with critic.targets.normalise=false",
    "critic=shared critic.targets.normalise=true": "critic.targets.normalise has no effect with critic=shared",
    "noise.block=64": "noise.block has no effect with noise.color=0",
    "env=pendulum policy.head=gsde noise.color=1": "noise.color=1 is for noise .* policy.head=gsde holds its own",
    "metric.seed=3": "metric.seed has no effect with metric.samples=null",
    "critic.metric=fisher critic.solver=cg critic.metric.seed=3": "critic.metric.seed has no effect with critic.metric.samples=",
    "solver.decay=0.5": "solver.decay has no effect with solver.start=cold",
    "solver=diagonal solver.draws=3": "solver.draws has no effect with solver.method=exact",
    "solver=diagonal solver.seed=3": "solver.seed has no effect with solver.method=exact",
    "algo=ppo critic.schedule.minibatch=4096": "critic.schedule.minibatch=4096 is more than batch_size=2048",
    "algo=ppo reuse.batches=2 schedule.minibatch=4097": "schedule.minibatch=4097 is more than batch_size=2048 times reuse.batches=2",
}  # fmt: skip


@pytest.mark.parametrize("typed", NO_EFFECT)
def test_what_has_no_effect_beside_another_value_is_refused(typed):
    with pytest.raises(UserError, match=NO_EFFECT[typed]):
        resolve(typed.split())


def test_what_has_an_effect_beside_another_value_goes_through():
    for typed in (
        "averaging.kind=ema averaging.decay=0.5", "noise.color=0.5 noise.block=64", "metric.samples=2 metric.seed=3", "solver.start=warm solver.decay=0.5",
        "solver=diagonal solver.method=hutchinson solver.draws=3 solver.seed=1", "solver=low_rank solver.seed=3",
        "algo=ppo batch_size=40", "observations.clip=3 rewards.clip=3", "algo=ppo schedule.minibatch=2048",
        "algo=ppo reuse.batches=2 schedule.minibatch=4096",
    ):  # fmt: skip
        config = resolve(typed.split())
        for option, _, value in (text.partition("=") for text in typed.split() if "." in text):
            group, name = option.split(".")
            assert str(config[group][name]) == value


@pytest.mark.parametrize("where", ["", "critic."])
@pytest.mark.parametrize(("most", "refused"), [(40, False), (39, True)])
def test_an_update_of_too_many_steps_is_refused(monkeypatch, where, most, refused):
    monkeypatch.setattr(compatibility, "MOST_STEPS", most)
    typed = ["algo=ppo", "batch_size=80", "env.num_envs=8"]
    for network in ("", "critic."):
        typed += [f"{network}schedule.epochs={8 if network == where else 1}", f"{network}schedule.minibatch=16"]
    if refused:
        with pytest.raises(
            UserError, match=f"^{where}schedule.epochs=8 .* makes 40 steps of each of 1,250 updates; 39 are"
        ):
            read_config(typed)
    else:
        read_config(typed)


def test_the_steps_of_an_update_count_those_from_earlier_batches(monkeypatch):
    monkeypatch.setattr(compatibility, "MOST_STEPS", 19)
    typed = ["algo=ppo", "batch_size=80", "env.num_envs=8", "schedule.epochs=1", "critic.schedule.epochs=1",
             "schedule.minibatch=16", "critic.schedule.minibatch=16"]  # fmt: skip
    read_config([*typed, "reuse.batches=3"])
    with pytest.raises(
        UserError, match="makes 20 steps of each .* so lower schedule.epochs, reuse.batches or batch_size"
    ):
        read_config([*typed, "reuse.batches=4"])
