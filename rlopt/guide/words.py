"""The words of the README and of all other pages, in the order in which they build on one another.

**The update**

- *theta*: all parameters of one network as one vector, of length P.
- *geometry of an update*: the notion of distance between two values of theta. The gradient points to the steepest
  ascent per unit of distance, so another notion of distance gives another direction.
- *metric M*: a symmetric matrix (P, P) that defines this distance: a small step d has the length sqrt(d^T M d). With
  M = I it is the ordinary length. With the Fisher matrix it says how much the policy's action probabilities change.
- *natural gradient*: F^-1 g, the direction of steepest ascent where the distance is that of the Fisher matrix F. It
  does not depend on how the policy is parametrised.
- *solver*: the method that finds x in (M + lambda I) x = g. It does not store M if it can do without.
- *lambda*, or *damping*: a number, 0 or above, that is added to the diagonal of M. It keeps x short where M is small or
  known badly. It has the units of M.
- *step*: the rule that turns x into the change of theta, alpha x. A *radius* bounds its length.
- *KL divergence*: how much one probability distribution differs from another. Here it is the mean, over the states of a
  batch, of KL(old policy || new policy).
- *nats*: the unit of KL divergence and entropy with natural logarithms. A step of .01 nats hardly changes the policy;
  one of 1 nat changes it a lot.
- *schedule*: how often a rollout is used: once as a whole, or in several epochs of minibatches.

**The policy**

- *policy*: what acts: the actor network, its head and the normaliser of observations.
- *actor network*, *critic network*: the network of the policy, and the network that estimates values.
- *outputs z*: what a network computes from one observation, O numbers.
- *head*: the probability distribution that is made of the outputs: a category, a Gaussian, a value.
- *mode*: the most probable action; for a Gaussian its mean. `rlopt eval` reports the return with the mode
  ("deterministic") and with actions that are drawn ("sampled").
- *normaliser*: subtracts the running mean of observations and divides by their running standard deviation.
- *tape*: the record of one forward pass over a batch. It multiplies by the Jacobian J = dz / dtheta and by its
  transpose, so that products M v need neither M nor another forward pass.

**The critic**

- *advantage*: how much better an action was than the policy's average in that state, as estimated with the critic.
- *compatible critic*: a critic whose features are the score, d log p(a | s) / dtheta. The weights of its least-squares
  fit are an estimate of the natural gradient, so that no system has to be solved (`algo=nac`, `algo=enac`).

**A run**

- *step of the environment*, *transition*: one action and its consequence, counted over all environments.
- *rollout*: the transitions that one update learns from, `batch_size` of them.
- *update*: all steps that actor and critic take after one rollout.
- *worker*: a process that steps environments, on the same machine. *Rank*: one of several processes that train the same
  policy together, perhaps on several machines. Neither changes the results, but for rounding between ranks.
- *preset*: a file in conf/algo that chooses a part for each question and thereby makes an algorithm, such as TRPO.
- *recipe*: a file in conf/recipe with the settings that one algorithm needs on one environment. `algo=trpo env=hopper`
  uses conf/recipe/trpo-hopper.yaml without being asked to; what is typed wins over it.
- *choice*, *option*: `solver=cg` is a choice, and `solver.iterations=20` sets one of its options.

**Comparing runs**

- *IQM*, interquartile mean: the mean of the middle half of the values. One very good or very bad run does not move it.
- *95% interval*: computed by a method whose intervals contain the true mean in 95 of 100 repetitions. *t* assumes
  that the values are roughly normal; *bootstrap* draws again from the values, and is too narrow with few of them.
- *performance profile*: the share of runs whose return is above a threshold, for every threshold.
- *probability of improvement*: how probable it is that a run of one method has a higher return than a run of another.
"""
