r"""The mathematics on one page, with the code's own names.

Everything that is trained, policy or value function, is trained by one update (`rlopt.core.update`):

    theta  <-  theta + alpha (M(theta) + lambda I)^-1 g

**Outputs.** A network maps theta (P,) and an observation to outputs z (O,). A *head* makes a distribution p(a | z) of
them: a category from logits, a Gaussian from mean and scale, a value (`rlopt.core.heads`). J_b = dz_b / dtheta is the
Jacobian at sample b. A *tape* records one forward pass on B samples and gives the products `jvp`, v -> J v, and `vjp`,
u -> J^T u (`rlopt.core.tapes.tape`). All means are weighted: mean_b f_b = sum_b w_b f_b / sum_b w_b
(`rlopt.core.samples`).

**Objective.** It is the mean over samples of a value l_b, and g = mean_b J_b^T (dl_b / dz_b):

| `objective` | l_b, with advantage A and ratio r = p(a \| z) / p_old(a) |
|---|---|
| log_prob   | log p(a \| z) A: the policy gradient theorem |
| surrogate  | r A: the same gradient at the old policy, and the correct one away from it |
| clipped    | min(r A, clip(r, 1 - e, 1 + e) A): PPO |
| spo        | r A - \|A\| (r - 1)^2 / (2 e): a penalty that leads back beyond PPO's bounds |
| kl_penalty | r A minus a multiple of the KL divergence from the old policy |
| value      | log N(target; z, variance): the squared error of a critic |

A policy's objectives also add `entropy` times the entropy of p. Advantages come from `rlopt.rollout.advantages.gae`:
sums over k of (gamma `gae_lambda`)^k delta_{t+k}, where delta_t = r_t + gamma V(s_{t+1}) - V(s_t). A truncated
episode bootstraps from the value of its last observation, a terminated one does not.

**Estimator.** A policy's g may be more than the gradient of one batch. With the importance weights w of
`rlopt.core.importance`, g_w(theta') is the gradient at another theta' from the samples of theta:

| `estimator` | the g that the solver gets |
|---|---|
| plain     | g(theta) |
| svrpg     | mu + g(theta) - g_w(theta_s), mu the mean of g(theta_s) over several batches at a snapshot |
| recursive | v = g(theta) + (1 - a) (v_before - g_w(theta_before)): STORM-PG; SRVR-PG with a = 0 |

With `reuse.batches` above 1 the batches before the newest are samples too, with advantages times the ratio of the
policy of now and the one that acted (`rlopt.training.reuse`).

**Metric.** A small step d has the squared length d^T M d. Nearly all metrics are a matrix C_b (O, O) in the space of
outputs, pulled back to theta: M = mean_b J_b^T C_b J_b. So M v costs one jvp and one vjp (`rlopt.core.curvature`).

| `metric` | C_b, or M where it is not pulled back |
|---|---|
| identity            | M = I: length is the change of theta |
| gauss_newton        | I: length is the change of the outputs |
| fisher              | E[s s^T], s = d log p(a \| z) / dz, exact or over drawn actions: change of the distribution |
| empirical_fisher    | s s^T at the action that was taken |
| episode_fisher      | (sum of scores over an episode)(the same)^T: eNAC |
| gradient_covariance | (dl / dz)(dl / dz)^T, about the mean if `centred` |
| ggn                 | minus the Hessian of the objective in z |
| hessian             | M = minus the Hessian of the objective in theta |
| gradient_history    | M = sum or running mean of g g^T over updates: AdaGrad |
| gradient_statistics | M = what the solver learns from the gradients of all updates |
| mahalanobis         | M = A, a given matrix |

For the Fisher matrix F, 1/2 d^T F d is the KL divergence of the step to second order. F^-1 g is the natural gradient,
which does not depend on how the policy is parametrised (Amari 1998; Kakade 2001).

**Solver.** It finds x with (M + lambda I) x = g. Some use products M v alone: `cg`, `lbfgs`, `low_rank`, `nystrom`, and
`dense`, which builds the whole matrix for small P. Others write C as a sum of K squares and send each factor back
through the layers as a signal d_k, beside the layer's input a: `diagonal`, `block`, `kfac` (mean a a^T kron mean d
d^T), `ekfac`, `kfra`, `gram` (a system of size K B in place of P). `kaczmarz` solves that system block after block of
samples, by products with the samples' own rows. `compatible` solves no system: with the features J_b^T s_b, the weights
of a critic's least-squares fit are F^-1 g (Sutton et al. 2000; Peters and Schaal 2008). `power`, for
`gradient_history`, gives x = (M + lambda I)^-1/2 g or another power. `spring` has mu d_before + (M + lambda I)^-1 (g -
mu M d_before), with another solver for the system.

Four solvers are for `gradient_statistics`. They take theta matrix by matrix, G being a matrix's part of g, and keep
what they learn from one update to the next:

| `solver` | direction of a matrix, with means over updates | of a vector |
|---|---|---|
| shampoo | L^-1/4 G R^-1/4, L and R the means of G G^T and G^T G | the same with one side, L^-1/2 g |
| soap    | Adam's in the eigenvectors of L and R | Adam's |
| muon    | the mean of G with all singular values brought near 1 | Adam's |
| kron    | P G, with P = Q^T Q fitted so that P has G G^T whitened, Q = Q_L (x) Q_R | the same, Q diagonal |

These are no approximation of another metric: what they learn *is* the metric. That of `muon` is no quadratic form at
all, but the largest singular value. `step=kl_clip` and `step=kl_line_search` measure their directions by KL divergence,
as all others; `step=optimizer` with Adam is refused, since it would rescale them again.

**Damping.** lambda > 0 bounds x where M is small or known badly. It is `constant`, or `levenberg_marquardt` raises it
after a step that a quadratic model predicted badly and lowers it after one that the model predicted well. The model
is that of the objective, g^T d - 1/2 d^T M d, for ggn and hessian, and of the KL divergence, 1/2 d^T F d, for fisher.

**Step.** theta changes by d = alpha x:

| `step` | alpha |
|---|---|
| fixed          | `rate` |
| optimizer      | that of a torch.optim class, which takes -x for the gradient |
| trust_region   | such that 1/2 d^T M d = `radius`: NPG |
| kl_clip        | `rate`, or less so that 1/2 d^T F d <= `radius`; then momentum: ACKTR |
| kl_line_search | from 1/2 d^T F d = `radius`, reduced until the measured KL fits and the objective rises: TRPO |
| armijo         | `rate`, reduced until the objective rises by a share of alpha g^T x |
| midpoint       | as kl_clip's, along the x that is found at theta + alpha x / 2 |

**Presets.** An algorithm is one choice of each: `algo=trpo` is surrogate, fisher, cg, kl_line_search; `algo=ppo` is
clipped, identity, identity, optimizer, in epochs of minibatches; `algo=acktr` is log_prob, fisher with one drawn
action, kfac, kl_clip. Each file in conf/algo names its paper and every deviation from it.
"""
