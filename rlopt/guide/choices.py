"""Groups and choices: what can be chosen, how choices go together, and what environments may look like."""

from __future__ import annotations

from rlopt.config.choices import groups, is_variant

QUESTIONS = {
    "algo": "which preset? `rlopt.guide.presets` has a page for each",
    "env": "which environment? or any other by `env.id=...`",
    "objective": "what is g the gradient of?",
    "estimator": "how is g estimated, of the policy?",
    "metric": "what does distance between two parameter vectors mean?",
    "solver": "how is the linear system solved, with which structure?",
    "damping": "what is lambda?",
    "step": "how far, and whether at all?",
    "schedule": "epochs and minibatches",
    "optimizer": "for `step=optimizer`",
    "scheduler": "of the learning rate, or a step's rate and radius",
    "exploration": "are there rewards for what is new?",
    "policy": "which network? or any nn.Module of yours",
    "critic": "which network, and what is it for?",
}
WHOLE = ("env", "policy", "critic")  # groups whose variants are shown too


def table() -> str:
    """Every group with its choices; variants, which are another choice with values of its own, are left out."""
    rows = []
    for group, names in groups().items():
        if group in QUESTIONS:
            found = [f"`{name}`" for name in names if group in WHOLE or not is_variant(group, name)]
            rows.append(f"| `{group}` | {QUESTIONS[group]} | {' '.join(found)} |")
    return "\n".join(["| group | question | choices |", "|---|---|---|", *rows])


__doc__ = f"""Groups and choices: what can be chosen, how choices go together, and what environments may look like.

{table()}

The update's groups exist for the critic too: `critic.metric=fisher`, `critic.step.radius=0.1`. Every choice is one
yaml file under conf, with its options and what they mean; `rlopt.guide.options` has all of them on one page, and
`rlopt train --help solver=cg` those of one. Some files are variants: the same part with other values, such as
`solver=acktr`, which is `kfac` as ACKTR has it.

A *preset* (`algo=trpo`) chooses files. A *recipe* (conf/recipe/ALGO-ENV.yaml) is a list of overrides for one
algorithm on one environment; it is used when both are chosen, a run's first line names it, and `recipe=null` leaves
it out. `rlopt train --help` lists them.

**What is typed wins**: an option by its value, and a choice other than the preset's by all the values of its file
(`algo=ppo optimizer=sgd` has SGD's own `lr`). A combination that cannot work is refused before anything is created,
with the choices that can: `metric=fisher solver=identity` names `cg` and `dense`.

```shell
rlopt train algo=npg solver=dense damping.value=0.01 policy.hidden=[16]
rlopt train critic.metric=fisher critic.solver=cg critic.step=trust_region critic.schedule=whole_batch
rlopt train algo=trpo metric=ggn solver=kfac
rlopt train --cfg algo=ppo
```

The first has other parts in a preset: `dense` factorises the whole matrix, and is for small networks. The second
trains the critic by natural gradients. The third is TRPO's step on another geometry. The last prints the resolved
configuration and trains nothing.

**Spaces.** Actions and observations may be Discrete, MultiDiscrete, MultiBinary, a Box, or Dict and Tuple of these,
nested too. `policy.head` names the distribution over real numbers (`rlopt.guide.choosing`). Observations are
flattened, but:

- `policy=nature_cnn critic=nature_cnn` sees bytes in two or three dimensions as images, `small_cnn` small ones too.
- `policy=multi_input critic=multi_input` has an encoder for each key of a Dict, with convolutions for images of any
  size.
- `policy=gru critic=gru` remembers what observations do not show (`rlopt.guide.memory`).

**Actions that are not allowed.** An environment may say which of its Discrete or MultiDiscrete actions are allowed:
in `info["action_mask"]`, or in observations of `Dict({{"observation", "action_mask"}})`. Then no other is ever taken,
by any algorithm, in training, evaluation or from Python: `policy(observation, action_mask=...)`. `env.mask=none`
leaves the mask out. `rlopt.envs.masks` has the details.

**Wrappers.** `env.wrappers=[frame_stack:4,grayscale,resize:84]` puts Gymnasium's wrappers around an environment, the
first outermost, or your own: `rlopt.envs.named_wrappers` lists them. A run records them and every command uses them.
`env=atari env.id=ALE/Pong-v5 policy=nature_cnn critic=nature_cnn` is an Atari game with the usual frames (extra
`atari`), and `env=minatar env.id=MinAtar/Breakout-v1 policy=small_cnn critic=small_cnn` a small one (extra `minatar`).

**How environments are stepped.** Gymnasium's MuJoCo tasks of version 5 are stepped as arrays, with the bits of
Gymnasium's own environments, and their next rollout is collected while the critic learns (`env.backend=auto`; `sync`
is one environment after another). `env.backend=tensor` steps thousands of environments as tensors, on the processor
or on the GPU that learns: classic control, the LQR, and your own (`rlopt.guide.extending`). `env.backend=warp` does
so with MuJoCo's tasks and models of your own, by MuJoCo Warp (extra `warp`; `rlopt.envs.warp`). `env.stagger=true`
cuts off their first episodes at random times, so that episodes of one length do not go on in step. `workers=K`
collects in K processes and does not change the data; `workers=auto`, the default, takes one for every core and four
of these environments, and none for others.

**More choices of a run.** With `reuse.batches=4` updates are made from the last four batches within one trust region
(GePPO, GeTRPO), and with `noise.color=0.5` action noise is correlated over time; `critic.targets.normalise=true` is
PopArt. Each goes with every preset but where it is refused with the reason (`rlopt.guide.choosing`).

**Where a run starts from.** `init.from=RUN_DIR` is another run's policy, of which `init.freeze=[0.*]` keeps the first
layer as it is. `rlopt clone data.npz env=hopper algo=ppo` imitates recorded actions by any metric, solver and step,
and `rlopt resume` then learns on from rewards. data.npz holds the arrays `observations` and `actions`; `minari:NAME`
is a dataset of Minari's (extra `minari`). Actions of a Dict or Tuple, masks in infos and policies with memory are not
for it.
"""
