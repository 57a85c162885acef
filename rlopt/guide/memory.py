"""Policies and critics with memory, for observations that do not show all that matters.

```shell
rlopt train env=cartpole_positions algo=ppo policy=gru critic=gru schedule.minibatch=256 critic.schedule.minibatch=256
rlopt train env=pendulum_position algo=acktr policy=lstm critic=lstm
```

`policy=gru` and `policy=lstm` are hidden layers, then units that remember, then a layer to the outputs;
`rlopt.policy.recurrent` has the equations. The critic's network is chosen by itself: `critic=gru`, `critic=mlp` (which
remembers nothing), or `critic=shared`, one more output of the policy's. All presets but `nac` and `enac` have memory.
Memory and action masks do not go together yet, and `rlopt clone` does not train a policy with memory.

**What is remembered.** A policy's memory is 0 where an episode begins, goes on from one rollout to the next, and is in
checkpoints, so that a resumed run is the same to the bit. The critic's is worked out by the learner, over each rollout,
from what it was at the rollout's start.

**How far back it learns.** A rollout is cut into sequences of `schedule.sequence` steps (16; null: the whole rollout).
Gradients do not go back beyond the start of a sequence (truncated backpropagation through time). What the network
remembers there is what it remembered when it acted. It learns to remember an observation for a later action only where
both lie in one sequence: never if they are `schedule.sequence` steps apart or more, and seldom if they are nearly so
far apart. So take a sequence longer than what must be remembered, better several times as long: the default is
too short for `env=t_maze`, whose signal must be remembered for 20 steps, and experiments/memory takes 64 there.
Sequences must divide `batch_size / env.num_envs` and `schedule.minibatch`, because minibatches are made of whole ones.
The critic has its own, `critic.schedule.sequence`.

`policy.horizon` is how long the slowest units remember at first; raise it with the sequence for long delays.

**Metrics and solvers.** Products with the Fisher matrix and all others go exactly through time, so that `cg`, `dense`,
`kaczmarz`, `lbfgs`, `nystrom`, and `low_rank` without a remainder, are what they are for any network. `kfac`, `ekfac`
and `block` read what each layer saw and was sent at every step. With memory an output depends on a layer's applications
at many steps, and what all outputs of a sequence send back arrives as one sum. Random signs make the products between
different outputs vanish in expectation, so that blocks and E-KFAC's scales are unbiased estimates. K-FAC moreover takes
times for positions, as the "expand" convention does for a convolution: A is the mean over samples and times of a a^T, G
the sum over times of d d^T. That neglects how the contributions of different times to one gradient are correlated. It
is the simplest of the approximations of Martens, Ba and Johnson (2018, Kronecker-factored curvature approximations for
recurrent neural networks), and the one that leaves every solver, damping and running mean as it is; their others model
the correlation by a linear Gaussian chain, with two further factors for each layer. `gram`, `kfra`, `diagonal` by its
exact methods, `low_rank` with a remainder, and blocks about a mean need each sample's own records and are refused.

**A network of one's own** gets a memory by its yaml; what is left out is as in policy/gru.yaml. Its `build` is then
asked for an encoder, of as many features as there are units:

```yaml
memory:
  kind: gru        # gru | lstm
  size: 64
```

A function gets one by `rlopt.train("policy.memory.size=64", policy=function)`.

**To act** with a policy that remembers, show it every observation of an episode once, in order:

```python
policy = rlopt.load("runs/my-run")
policy.reset()                   # an episode begins; policy.reset(ended) forgets those of several that have ended
action = policy(observation)     # policy.state is its memory, (N, M)
```

An exported policy takes its memory as a second input and returns it as its last output.
"""
