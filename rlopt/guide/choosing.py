"""How to choose a metric, a solver and a step.

Start from a preset and change one part at a time; `rlopt inspect RUN_DIR` then shows, at a policy of your own, what
each pair would have done: its angle to the exact direction, its predicted and real gain at one KL, its time.

**Metric**

- A policy: `fisher`. In closed form it has no sampling noise of its own and is never indefinite. `fisher` with
  `metric.samples=1` is ACKTR's, cheaper for K-FAC with many outputs; `samples=taken` reuses the batch's actions, which
  is right for the first step after a rollout only.
- `empirical_fisher` costs least of those with structure but measures gradients' size rather than the distribution's
  movement; it is what the compatible critics (`algo=nac`, `algo=enac`) stand on.
- A value function: `gauss_newton`, which for squared error is both the Fisher matrix and a Gauss-Newton method.
- `ggn` and `hessian` know the objective, not only the distribution. `hessian` is indefinite away from a maximum: use it
  with `damping=levenberg_marquardt` and a step that measures.
- `identity` with `step=optimizer` is ordinary Adam or SGD: cheapest by update, and what PPO's many small steps want.

**Solver**, by the number of parameters P and samples B

| | take | because |
|---|---|---|
| any P, one or few steps a rollout     | cg       | exact to its tolerance, no memory; 10 to 20 products a solve |
| small P (about 2,000), or a reference | dense    | exact; P^2 memory, P^3 time |
| K B below P                           | gram     | exact, from inner products of samples; not on several ranks |
| many steps a rollout, or large B      | kfac     | a running mean of small factors; a solve costs next to nothing |
| a better basis for the same factors   | ekfac    | nearest diagonal in K-FAC's eigenbasis |
| curvature in few directions           | low_rank | r eigenpairs by Lanczos |
| hardly any memory or time             | diagonal | and then it is worth as much as a diagonal is: see the experiment |

experiments/approximations measures error against cost for all of them on two trained policies; in
experiments/pairs all 71 pairs learn CartPole, and with the KL of a step held equal they differ little there.

**Damping.** In units of M, so a good value for one metric says nothing about another. Below the default, 0.1, x
follows M further into directions that the batch hardly determines; far above it, x turns into the gradient. Watch
`solver/residual` (near 1: the system is not solved) and `step/backtracks`.

**Step**

- `kl_line_search` where a bad step is dear: it alone measures, on the whole batch, and so takes no minibatches.
- `trust_region` is the same length without the check, `kl_clip` without it and with momentum.
- `radius` is in nats for those named `kl_...`, and in the metric's own units for `trust_region`.
- An adaptive optimizer (Adam, RMSprop) on any metric but the identity undoes the geometry, and is refused.

**When it does not learn.** `critic/explained_variance` near 0 or below: the critic first (more epochs, another
learning rate, `critic.metric=gauss_newton critic.solver=kfac critic.step=kl_clip`). `step/accepted` 0: radius or
damping. `policy/entropy` falling at once: `objective.entropy=0.01`, or a smaller radius. `update/skipped` rising:
numbers overflow.
"""
