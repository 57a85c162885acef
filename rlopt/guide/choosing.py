"""How to choose a metric, a solver, a damping and a step.

Start from a preset and change one part at a time. `rlopt inspect RUN_DIR` shows what each pair of metric and solver
would have done at a policy that you have trained: its angle to the exact direction, its predicted and measured
improvement at one KL divergence, and its time. Slow pairs are left out unless `--pairs all` is given.
`rlopt.guide.words` explains the words.

**Metric**

- For a policy: `fisher`. Its closed form has no sampling noise of its own and is never indefinite. With
  `metric.samples=1` it draws one action for each state, as ACKTR does; that is cheaper for K-FAC with many outputs.
  `metric.samples=taken` uses the actions of the batch, which is right only for the first step after a rollout.
- `empirical_fisher` is the cheapest metric with structure. It measures how large gradients are rather than how far the
  distribution moves. The compatible critics (`algo=nac`, `algo=enac`) are built on it.
- For a value function: `gauss_newton`. For squared error it is the Gauss-Newton matrix and the Fisher matrix in one.
- `ggn` and `hessian` depend on the objective, not only on the distribution. `hessian` is indefinite away from a
  maximum: use it with `damping=levenberg_marquardt` and a step that measures the improvement.
- `average` is the decayed average of another metric over the last updates, `metric.of=fisher` by default: less noise
  of small batches in M, but M of thetas that are past. Each batch that is kept costs one more product. `kfac`, `ekfac`
  and `kfra` average themselves, by `solver.decay`.
- `gradient_statistics` is for the solvers that learn from past gradients, `shampoo`, `soap`, `muon` and `kron`. They
  know nothing of the policy's distribution and need no products or signals, so that any network will do:
  `algo=trpo metric=gradient_statistics solver=muon`. Choose `step=kl_clip` or `step=kl_line_search`, which give their
  directions a length in nats.
- `identity` with `step=optimizer` is ordinary Adam or SGD. It has the cheapest steps, and suits PPO, which takes many.

**Solver**, by the number of parameters P, samples B and factors K of the metric for each sample

| situation | solver | reason |
|---|---|---|
| any P, one or few steps a rollout       | cg       | exact to its tolerance; 10 to 20 products, few vectors |
| P up to about 2,000, or as a reference  | dense    | exact; memory P^2, time P^3 |
| K B below P                             | gram     | exact, from inner products of samples; not on several ranks |
| samples decide, but K B is too large    | kaczmarz | gram by random blocks of samples; any network, several ranks |
| many steps a rollout, or large B        | kfac     | running means of small factors; a solve costs next to nothing |
| K-FAC is not accurate enough            | ekfac    | the best diagonal in K-FAC's eigenbasis |
| M has few large eigenvalues             | low_rank | r eigenpairs, by Lanczos |
| gradients of samples that disagree      | tonga    | their covariance, a few pairs a unit, averaged over updates |
| memory or time for almost nothing       | diagonal | ignores all couplings between parameters |
| batches of fewer samples than P         | spring   | another solver; the last direction where the batch is silent |
| statistics of gradients, a matrix each  | shampoo  | roots of two factors a matrix, from all gradients so far |
| the same, Adam within their eigenbasis  | soap     | refresh=10 for many steps a rollout |
| products of matrices alone              | muon     | no eigenvectors, one momentum to keep |
| products of matrices, a metric that fits | kron    | learns slowly, by steps of its own rate |

`tonga` is for `metric=gradient_covariance`. With `solver.remainder=diagonal`, `low_rank` adds what its pairs leave of
the diagonal of M. `solver=lbfgs solver.pairs=gradients` is for `metric=hessian`. `solver=gram solver.by=layer` has a
system for each layer and ignores couplings between layers.

CG with a small lambda takes many products. `solver.preconditioner=nystrom` makes `solver.preconditioner.rank` of them
in one block, and then takes few more; experiments/solves counts them. `kaczmarz` preconditions it too; alone, on one
core, it takes longer than CG for as near a direction. `solver=spring solver.of=gram solver.momentum=0.9` is SPRING:
`spring` goes around every solver of a system in M. Its direction can point downhill, where the one before points far
from the gradient; then it starts again from the solver's own (`solver/restarted`).

experiments/approximations measures error against cost for most of them, on two trained policies. In experiments/pairs
108 of the 109 pairs of nineteen solvers learn CartPole; at the same KL divergence of every step most of them differ
little there. On four MuJoCo tasks, with one rule for the length of a step, `kaczmarz` had the highest returns after
300,000 steps, and took 1.7 to 5 times the processor time of the quickest; in equal time `shampoo` had them, because of
Ant. Five seeds confirm the one against 8 of 14 methods and the other against 5, and that `spring` makes `kfac`, `ekfac`
and `kaczmarz` worse (experiments/geometry).

**Damping.** lambda has the units of M, so a good value for one metric says nothing about another. With a lambda below
the default of 0.1, x follows M into directions that the batch hardly determines. With a very large lambda, x turns
into the gradient. Watch `solver/residual` (a value near 1 means that the system is not solved) and `step/backtracks`.

**Step**

- `kl_line_search` where a bad step is expensive. It alone measures the KL divergence and the improvement, on the whole
  batch, and so does not work with minibatches.
- `trust_region` takes a step of the same length without measuring; `kl_clip` does so with momentum.
- `midpoint` solves once more halfway, so that steps depend less on how the policy is parametrised. It measures nothing.
- `radius` is in nats for `kl_line_search` and `kl_clip`, and in the metric's own units for `trust_region`.
- `scheduler=kl_adaptive` lowers a learning rate, or a step's rate and radius, after an epoch that moved the policy by
  more than twice `scheduler.target` nats, and raises it after one that moved it by less than half of that.
- Adaptive optimizers (Adam, RMSprop) are refused with any metric but the identity, because they undo its geometry.

**More from the same samples**

- `reuse.batches=4` makes every update of both networks from the last four batches (GePPO, GeTRPO: Queeney, Paschalidis
  and Cassandras 2021, 2022), with any metric, solver and step but those that need the policy's own actions. Smaller
  batches then make for more updates. With four batches the paper divides the clip by 2.5, and the radius by its square:
  `batch_size=1024 objective.clip=0.08`, or `batch_size=1024 step.radius=0.0016`. Look at `reuse/effective_share`: far
  below 1, earlier batches say little of the policy of now.
- `critic.hidden=[256,256]`: a critic wider than the policy (Andrychowicz et al. 2021, What matters in on-policy
  reinforcement learning?).
- In long runs `policy.layer_norm=true critic.layer_norm=true`, and equal betas of Adam, `optimizer.betas=[0.99,0.99]`,
  are meant against policies that get worse again (Moalla et al. 2024; Dohare, Lan and Mahmood 2023).

**Distribution over actions**, for those that are real numbers (`policy.head`); categories and bits have their own

- `gaussian`, the default: independent numbers. `policy.scale=log_sigma` is one scale for all states; with
  `policy.scale=network`, or `network_softplus`, the network computes one for every state. `policy.squash=true` sends
  actions through tanh rather than clipping them at their bounds.
- `beta`: for actions with two finite bounds. None is clipped, so that no probability lies on a bound; it starts with
  `policy.initial_sigma`, which must be below 0.577, the standard deviation of a uniform distribution.
- `full_gaussian`: one covariance matrix for all states, for at most 8 numbers that should be explored together.
- `gsde`: noise that is a function of the state and stays so for `policy.noise_hold` steps, so that exploration is
  smooth (Raffin, Kober and Stulp 2021, who made it for robots). It is made of `policy.noise_features` linear features
  of the network's last hidden layer.

`noise.color=0.5` correlates the noise of any of them over time, while actions are collected: exploration is smoother
(Hollenstein, Martius and Piater 2024). Each action alone has the policy's distribution, and its log-probability is
that of independent steps: what the correlation adds is left out. Evaluations are without it. `rlopt.rollout.noise` has
the filter.

An action of a Dict or a Tuple is drawn part by part, each from its own distribution; the Fisher matrix in output space
has a block for each. A Box of whole numbers is drawn as categories, one for each value, of at most 256 each; nothing
tells a category that its neighbour is alike, so a range of many values is better a Box of real numbers that the
environment rounds.

**If it does not learn**

- `critic/explained_variance` is near 0 or below: improve the critic first, by more epochs, another learning rate, or
  `critic.metric=gauss_newton critic.solver=kfac critic.step=kl_clip`.
- Returns grow tenfold or more as the policy learns: `rewards.scale=true`, the default, divides rewards by the running
  deviation of the discounted return. `critic.targets.normalise=true` moreover gives what the critic learns mean 0 and
  deviation 1, and leaves its values as they are (PopArt, van Hasselt et al. 2016).
- Some observations are almost always 0: normalised, they are large when they are not. Leave them out if the
  environment can: without the contact forces of Ant-v5 each of four settings ended higher, by 63 to 2,366, and with
  them PPO did by 396 with `observations.clip=3` (one seed each; experiments/mujoco).
- Actions have no bounds: set `policy.initial_sigma` to about the size of useful actions, since KL divergence measures a
  step in sigmas. The default is 0.5 in the action's own unit.
- `step/accepted` is 0: change the radius or the damping.
- `step/waste` is near 1: what the policy moves is hardly along the natural gradient. `record.waste_every=25` records it
  for any algorithm (`rlopt.core.waste`). Another solver lowers it, and ten epochs of PPO had a little less than one
  (experiments/waste).
- `policy/entropy` falls at once: `objective.entropy=0.01`, or a smaller radius.
- `update/skipped` rises: numbers overflow; nan_report.json in the run's folder names the first.
"""
