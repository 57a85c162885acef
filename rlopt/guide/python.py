"""From Python: train, watch, load, act, export.

```python
import numpy as np, rlopt

def watch(moment, scalars):  # after every update; True ends the run
    return scalars.get("episode/return", 0) > 400

trained = rlopt.train(algo="trpo", env="cartpole", policy={"hidden": [32]}, on_update=watch)
policy = rlopt.load(trained.run_dir)
action = policy(np.zeros(4))  # or N observations at once; normalisation and bounds are inside
draws = policy.sample(np.zeros((5, 4)), np.random.default_rng(0))
rlopt.export(policy, "policy.pt2")  # by torch.export; policy.onnx by ONNX, with the extra export
```

`rlopt.train` takes what the command line takes, as text ("critic.metric=fisher") or as arguments; `env` and `policy`
may also be a class or a function (`rlopt.guide.tutorial_own`). `trained.summary` is what summary.json holds.
`rlopt.load` makes no environment, so that a policy can be loaded where that is not installed. `best=True` takes the
best checkpoint.

The action of `policy(...)` is the mode, the most probable one ("deterministic"); `policy.sample` draws.
A policy with memory is shown the observations of an episode in order (`rlopt.guide.memory`).

| | is in |
|---|---|
| every function and its errors        | `rlopt.api` |
| callbacks, and what they can change  | `rlopt.training.callbacks` |
| a policy: acting, sampling, log-probabilities | `rlopt.policy.policy` |
| metrics and solvers on any nn.Module | `rlopt.guide.tutorial_own` |
| trackers, curricula, cards, episodes | `rlopt.guide.ecosystem` |
"""
