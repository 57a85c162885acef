"""First tutorial: train from the command line, watch it, evaluate it. Ten minutes.

## Train

On a fresh clone, with Python 3.11 or later and nothing else:

```shell
scripts/train run_dir=runs/first
```

This makes .venv, once, and then trains TRPO on CartPole for 100,000 steps: ten seconds on two cores. The first line
says which algorithm, environment, recipe and seed, and in which folder. Then comes a line for each update: the mean
return of the episodes that ended in it, and the KL divergence between the policy before and after. The last lines are
the returns of 100 episodes with the mode (the most probable action; others say "deterministic") and of 100 with
sampled actions, and the commands to type next.

Once `.venv/bin/activate` is sourced the command is `rlopt`. What the rest of this page needs is added by:

```shell
scripts/bootstrap video plot
. .venv/bin/activate
```

## Watch

```shell
tensorboard --logdir runs/first
```

It serves the curves at http://localhost:6006. The first screen says whether a run learns and, if not, why not:
return, KL divergence of the update, entropy, what the critic explains, improvement, accepted steps, the gradient's
norm, skipped steps, every run in every chart. Custom Scalars has the other curves by question, predicted beside
measured; Histograms actions, advantages, returns and, where asked for, the metric's spectrum; HParams the final
returns. experiments/tensorboard reads each on three runs, one of which fails; options are under `record` in
`rlopt.guide.options`.

The same numbers are in runs/first/scalars.csv. `record.tracker=wandb`, `mlflow` or `trackio` sends them there too, and
`record.info=[is_success]` adds your environment's own (`rlopt.guide.ecosystem`).

## Change something

Any option is NAME=VALUE, and any part of the update is GROUP=CHOICE:

```shell
rlopt train algo=ppo env=cartpole optimizer.lr=1e-3 seed=1
rlopt train env.id=Acrobot-v1 total_steps=50000 step.radius=0.02 seed=3
rlopt train --help solver=cg
```

The first is PPO with another learning rate. The second is TRPO, the default, on any registered environment by its id,
with steps of at most 0.02 nats (units of KL divergence; 0.01 hardly changes a policy). The third lists the options of
a choice and trains nothing. A name that does not exist is answered by the nearest one that does.

## Evaluate

```shell
rlopt eval runs/first --video
```

100 episodes with the mode and 100 sampled, and runs/first/video.mp4. `--best` takes the best checkpoint, where
`evaluation.every_updates` was set.

## Go on

```shell
rlopt resume runs/first total_steps=150000
```

It goes on from the last step, to the bit as if it had never stopped. After Ctrl-C the same command without
`total_steps` does the rest. `rlopt.guide.running` has more.

## Look at the geometry

```shell
rlopt inspect runs/first
```

At the trained policy and on a fresh batch it compares the direction of every metric with every solver: its angle to
the gradient and to the exact solution, its predicted and real improvement and KL at a common radius, its time and
memory, and each metric's spectrum. Pairs that would take more than half a second a solve are left out and named. Of
processor time it takes 25 s on CartPole.

Next: `rlopt.guide.tutorial_own` for an environment of your own, `rlopt.guide.choosing` for the parts of the update.
"""
