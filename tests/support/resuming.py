"""Small runs, left as a crash would leave them, and taken up again."""

import shutil
from pathlib import Path

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from tests.support.command_line import chosen as chosen

SMALL = ["policy.hidden=[8]", "evaluation.episodes=2", "checkpoint.every_updates=1",
         "checkpoint.every_seconds=null", "checkpoint.keep=99"]  # fmt: skip
CASES = {
    "cartpole trpo": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "pendulum acktr": ("env=pendulum", "algo=acktr", "env.num_envs=2", "batch_size=60", "total_steps=300"),
    "halfcheetah ppo": ("env=halfcheetah", "algo=ppo", "env.num_envs=2", "batch_size=60", "total_steps=300", "schedule.epochs=2"),
    "lqr vpg, float64": ("env=lqr", "algo=vpg", "env.num_envs=2", "batch_size=40", "total_steps=200", "dtype=float64"),
    "lunar lander ppo": ("env=lunar_lander", "algo=ppo", "env.num_envs=3", "batch_size=60", "total_steps=300", "schedule.epochs=2"),
    "two workers": ("env=pendulum", "algo=ppo", "env.num_envs=4", "batch_size=80", "total_steps=320", "workers=2"),
    "averages and draws": ("env.id=probe/Seeded-v0", "algo=acktr", "env.num_envs=3", "batch_size=30", "total_steps=150", "averaging.kind=ema", "step.momentum=0.9"),
    "state of its own": ("env.id=probe/Saved-v0", "env.kwargs={every: 3}", "algo=ppo", "env.num_envs=2", "batch_size=40", "total_steps=200"),
    "state of its own, two workers": ("env.id=probe/Saved-v0", "env.kwargs={every: 3}", "algo=ppo", "env.num_envs=2", "batch_size=40", "total_steps=200", "workers=2"),
    "average of a metric": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200", "metric=average", "metric.of.samples=2", "metric.batches=3"),
    "averages of blocks, pairs of gradients": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200", "metric=gradient_covariance", "solver=tonga", "critic.metric=hessian", "critic.solver=lbfgs", "critic.solver.pairs=gradients", "critic.step=trust_region", "critic.schedule=whole_batch"),
    "kaczmarz with memory of directions, midpoints": ("env=cartpole", "algo=trpo", "solver=spring", "solver.of=kaczmarz", "solver.of.block=7", "step=midpoint", "critic.metric=gauss_newton", "critic.solver=cg", "critic.solver.preconditioner=nystrom", "critic.step=trust_region", "critic.schedule=whole_batch", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "shampoo and muon": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200", "metric=gradient_statistics", "solver=shampoo", "solver.refresh=2", "critic.metric=gradient_statistics", "critic.solver=muon", "critic.step=kl_clip"),
    "soap and kron": ("env=pendulum", "algo=ppo", "env.num_envs=2", "batch_size=60", "total_steps=300", "schedule.epochs=2", "schedule.minibatch=30", "step=kl_clip", "metric=gradient_statistics", "solver=soap", "solver.refresh=3", "critic.metric=gradient_statistics", "critic.solver=kron", "critic.step=fixed", "record.waste_every=2"),
    "cartpole svrpg": ("env=cartpole", "algo=svrpg", "env.num_envs=4", "batch_size=40", "total_steps=400", "estimator.period=3"),
    "pendulum storm": ("env=pendulum", "algo=storm_pg", "env.num_envs=2", "batch_size=60", "total_steps=300"),
    "schedules and history": ("env=cartpole", "algo=trpo", "step=kl_clip", "scheduler=cosine", "critic.optimizer=history", "critic.scheduler=linear", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "reused batches": ("env=pendulum", "algo=ppo", "reuse.batches=3", "env.num_envs=4", "batch_size=80", "total_steps=400", "workers=2"),
    "normalised targets": ("env=cartpole", "algo=ppo", "critic.targets.normalise=true", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "rates by KL": ("env=cartpole", "algo=ppo", "scheduler=kl_adaptive", "critic.step=kl_clip", "critic.scheduler=kl_adaptive", "critic.schedule=whole_batch", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "masks in infos": ("env.id=probe/Offers-v0", "env.kwargs={count: 9, length: 7}", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "masks in dictionaries, two workers": ("env.id=probe/Offers-v0", "env.kwargs={count: 9, length: 7, convention: dict}", "algo=ppo", "critic=shared", "advantages.recompute=false", "env.num_envs=4", "batch_size=40", "total_steps=200", "workers=2"),
    "wrappers": ("env=cartpole", "env.wrappers=[frame_stack:2,sticky:0.3,time_limit:30]", "algo=ppo", "schedule.epochs=2", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "mixed actions, two workers": ("env.id=probe/Seeded-v0", "env.kwargs={mixed: true}", "algo=ppo", "env.num_envs=4", "batch_size=40", "total_steps=200", "workers=2"),
    "gsde": ("env=pendulum", "algo=trpo", "policy.head=gsde", "policy.noise_hold=7", "policy.noise_features=4", "env.num_envs=4", "batch_size=120", "total_steps=480", "workers=2"),
    "correlated noise": ("env=pendulum", "algo=ppo", "noise.color=0.5", "noise.block=16", "env.num_envs=4", "batch_size=80", "total_steps=320", "workers=2"),
    "beta": ("env=pendulum", "algo=trpo", "policy.head=beta", "env.num_envs=2", "batch_size=60", "total_steps=300"),
    "memory": ("env=pendulum", "algo=ppo", "policy=lstm", "critic=gru", "policy.size=4", "critic.size=4", "env.num_envs=4", "batch_size=80", "total_steps=320", "workers=2", "schedule.sequence=5", "schedule.minibatch=20", "critic.schedule.sequence=5", "critic.schedule.minibatch=20"),
    "memory of policy and value": ("env=cartpole", "algo=acktr", "policy=gru", "policy.size=4", "critic=shared", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "tensors": ("env=cartpole", "env.backend=tensor", "algo=trpo", "env.num_envs=16", "batch_size=320", "total_steps=1600"),
    "tensors that draw noise": ("env=lqr", "env.backend=tensor", "env.kwargs={noise_std: 0.1, horizon: 7}", "algo=acktr", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "tensors, gsde, float64": ("env=pendulum", "env.backend=tensor", "algo=ppo", "policy.head=gsde", "policy.noise_hold=7", "policy.noise_features=4", "env.num_envs=4", "batch_size=120", "total_steps=480", "dtype=float64"),
    "critic sees more": ("env.id=probe/Drift-v0", "algo=ppo", "policy.keys=[position]", "policy=gru", "policy.size=4", "critic.keys=[position,robot.velocity]", "schedule.minibatch=20", "schedule.sequence=5", "env.num_envs=4", "batch_size=80", "total_steps=320", "workers=2"),
    "critic sees more, no memory": ("env.id=probe/Drift-v0", "algo=acktr", "policy.keys=[position]", "critic.keys=[robot]", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "exploration": ("env=cartpole", "algo=ppo", "exploration=rnd", "exploration.features=4", "env.num_envs=4", "batch_size=40", "total_steps=200", "schedule.epochs=2"),
    "exploration, trpo, two workers": ("env.id=probe/Seeded-v0", "algo=trpo", "exploration=rnd", "exploration.features=4", "env.num_envs=4", "batch_size=40", "total_steps=200", "workers=2"),
    "shared": ("env=cartpole", "algo=ppo", "critic=shared", "env.num_envs=4", "batch_size=40", "total_steps=200", "advantages.recompute=false"),
}  # fmt: skip


def cut(source: Path, target: Path, keep: int) -> None:
    """The folder as a crash would leave it when ``keep`` checkpoints had been written, curves going on for a while."""
    shutil.copytree(source, target)
    (target / "summary.json").unlink(missing_ok=True)
    for place in checkpoint.list_checkpoints(target / "checkpoints")[keep:]:
        place.unlink()


def resume(run_dir: Path, *overrides: str) -> int:
    return cli.main(["resume", str(run_dir), *overrides])
