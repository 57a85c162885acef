"""Exploring where rewards are rare: a reward for what is new.

A policy gradient needs rewards to follow. Where random actions hardly ever meet one, `exploration=rnd` adds a reward
for observations that have not been seen much: random network distillation (`rlopt.exploration.rnd` has the equations
and the source). It goes with every preset but `nac` and `enac`, and with any metric, solver and step, but not
with a critic with memory, `critic=shared`, `reuse.batches` or several agents:

```shell
rlopt train env.id=MountainCar-v0 algo=ppo exploration=rnd run_dir=runs/explore
rlopt train env.id=MountainCar-v0 algo=trpo exploration=rnd exploration.coefficient=1.0 run_dir=runs/explore-trpo
```

The intrinsic rewards have a critic of their own, with the network and the update of `critic`, and a discount of their
own; `rlopt.training.exploring` says how the advantages are added. Returns in the run's record are the environment's.

- `exploration.coefficient` weighs the intrinsic advantages against the environment's. Both are in standard deviations
  of returns. Lower it where the policy goes on looking for what is new when it could collect rewards.
- `exploration.lr`, `exploration.share` and `exploration.epochs` say how fast what was seen stops being new. If
  `exploration/error` falls to near 0 before a reward was met, novelty has worn off too soon: lower them.
- `policy/entropy` should not fall before the first reward; `objective.entropy=0.01` holds it up.

It sees the whole observation as numbers, whatever `policy.keys` and `critic.keys` are; images by themselves are
refused. experiments/exploration has a grid that PPO and TRPO solve with it.
"""
