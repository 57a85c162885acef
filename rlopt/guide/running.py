r"""Running: install, watch, stop and resume, what a run leaves behind, GPUs, several processes and machines.

## Install

`scripts/train` is `rlopt train` in a .venv that it brings up to date first; it begins with what training needs alone,
and `scripts/bootstrap` adds extras:

```shell
scripts/bootstrap video mujoco plot
. .venv/bin/activate
```

The scripts install with uv where it can be had, else with pip, from the index that pip is set to. Into an environment
of your own: `pip install '.[mujoco,box2d]'` in a clone. `rlopt.guide.installing` has names, torch without CUDA, systems
and an image.

| extra | for |
|---|---|
| mujoco, box2d, envpool, atari, minatar, pettingzoo, warp | environments |
| video, plot | `rlopt eval --video`; `rlopt plot`, `rlopt report` |
| sweep, ray, optuna | Hydra's launchers, and a sweeper by Optuna |
| wandb, mlflow, trackio | `record.tracker` |
| export, minari | `rlopt export` to .onnx; datasets of `rlopt clone` |

## Stop and resume

Ctrl-C, SIGTERM, SIGUSR1 and a terminal that is closed (SIGHUP, if `nohup` does not ignore it) save the run and print
the command that resumes it: `rlopt resume RUN_DIR`. A sweep passes them on to its processes. A resumed run is to the
bit the run that was never stopped, in the middle of episodes, with workers and ranks too (same machine, same
versions).

```shell
rlopt train algo=trpo env=cartpole total_steps=20480 run_dir=runs/longer
rlopt resume runs/longer total_steps=40960
```

A run that has ended goes on in the same way, with more steps, except where its learning rate falls with the length of
the run, as that of `ppo` and `a2c` does.

`scripts/torture` kills runs with SIGKILL, while they save as well, and compares what they end with to a run that was
left alone. Environments that are random by more than their `np_random`, or in which something outlives an episode,
may not be put back so: a trial before the run says it, and `state()` and `restore(state)` of their own help
(`rlopt.envs.replay`). One that may end its process in a step is named if it is in a worker, `workers=2`; an attribute
of its class that a callback changes reaches it with `workers=1` alone.

## Why a run stops

| exit code | is |
|---|---|
| 0 | done, or a callback ended it |
| 1 | another rank was lost |
| 2 | a mistake on the command line, or an environment that failed |
| 3 | numbers were not finite, `max_bad_updates` times in a row |
| 128 + n | signal n; the last line printed is the command that resumes the run |

An update with a number that is not finite is skipped, and `max_bad_updates` in a row end the run (10; 1 stops at the
first, null goes on); nan_report.json says what was bad, and where it began.

## What a run leaves behind

A run directory holds config.yaml, TensorBoard events, scalars.csv, summary.json and checkpoints/ (safetensors and
JSON; nothing that is loaded can run code: .github/SECURITY.md). `rlopt.loggers.logger` lists the names of all
scalars.

The newest `checkpoint.keep` checkpoints stay, and the best: `evaluation.every_updates=20` measures the policy on the
way, and `rlopt eval RUN_DIR --best`, or `rlopt.load(RUN_DIR, best=True)`, takes that one.

## A GPU

`device=cuda` has networks, updates and, with `env.backend=tensor`, environments on the GPU; `env.graph=true` launches
the steps of a rollout as one CUDA graph, which tests replay by a stand-in on a processor and no GPU has run yet.
`matmul_precision=high` lets float32 products round to TF32, and `medium` to bfloat16: with operands rounded so on a
processor, K-FAC's step hardly changes, and one by conjugate gradient more (experiments/precision). Speed on a GPU has
not been measured yet: `scripts/bench --only device` does.

## Sweeps

```shell
rlopt train -m algo=trpo,ppo env=cartpole,acrobot seed=0,1,2 total_steps=30000 sweep_dir=runs/four
```

One run for every combination of values. The same command again skips the runs in `sweep_dir` that are done and
resumes the others. Runs are one after the other, or by a launcher of Hydra's (extra `sweep`) on cores or by SLURM.
Six runs of 20 seconds took 125 s on one core and 64 s on two:

```shell
rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=joblib hydra.launcher.n_jobs=2
rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=submitit_slurm hydra.launcher.partition=P
```

`rlopt.cli.sweep` says more, and how Optuna draws the values. `rlopt.guide.tutorial_research` compares the runs.

## Several processes and machines

Ranks are processes, on one machine or many, that train one policy together under PyTorch's `torchrun`. Two on this
one:

```shell
torchrun --nproc-per-node=2 -m rlopt train env=halfcheetah
```

One on each of two hosts, of which the first, here at 10.77.0.1, writes the run directory; `--node-rank=1` on the
second:

```shell
torchrun --nnodes=2 --node-rank=0 --nproc-per-node=1 --master-addr=10.77.0.1 --master-port=29533 \
    -m rlopt train dtype=float64 total_steps=8192 evaluation.episodes=5
```

Each rank has its part of the environments, every mean over samples goes over all ranks, and so does the partition
into minibatches: `env.num_envs`, `batch_size` and `schedule.minibatch` are totals, and the run is that of one process
but for rounding: the second command, with two network namespaces for hosts, gave the returns of one process to the
last digit. `workers` are each rank's own. With `device=cuda` every rank takes the GPU of its number on its host. A
rank that ends or is killed ends the run on all, and the policy so far is saved. `solver=gram` is for one process; so
is `rlopt train -m`.

On one machine `workers=2`, which steps environments in processes, is quicker than ranks: experiments/speed has both.

## What is promised, and tested

- The KL divergence of an accepted `kl_line_search` step, measured on the whole batch, is within the radius.
- A rejected or non-finite step leaves parameters and every state as they were, to the bit.
- The same command twice gives the same bits.
- Truncated episodes bootstrap from the value of their last observation, terminated ones do not.
"""
