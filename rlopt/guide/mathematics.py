r"""The mathematics on one page, with the code's own names.

Everything that is trained, policy or value function, is trained by one update (`rlopt.core.update`):

    theta  <-  theta + alpha (M(theta) + lambda I)^-1 g

**Outputs.** A network maps theta (P,) and an input to outputs z (O,), and a *head* makes a distribution p(a | z) of
them: logits of a category, mean and scale of a Gaussian, a value (`rlopt.core.heads`). J_b = dz_b / dtheta is the
Jacobian at sample b. A *tape* records one forward pass on B samples and gives `jvp` v -> J v and `vjp` u -> J^T u
(`rlopt.core.tapes.tape`). All means are weighted: mean_b f_b = sum_b w_b f_b / sum_b w_b (`rlopt.core.samples`).

**Objective.** g = mean_b J_b^T l_b, where l_b is the gradient in z of what sample b is worth:

| `objective` | worth of a sample, with advantage A and ratio r = p(a \| z) / p_old(a) |
|---|---|
| log_prob   | log p(a \| z) A: the policy gradient theorem |
| surrogate  | r A: the same gradient at the old policy, and right away from it |
| clipped    | min(r A, clip(r, 1 - e, 1 + e) A): PPO |
| kl_penalty | r A less a multiple of the KL divergence from the old policy |
| value      | log N(target; z, variance): squared error of a critic |

each with `entropy` times the entropy added where it is a policy's. Advantages are those of
`rlopt.rollout.advantages.gae`: sums of (gamma `gae_lambda`)^k delta_{t+k}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t),
where a truncated episode bootstraps from the value of its last observation and a terminated one does not.

**Metric.** The length of a small step d is d^T M d. Nearly all metrics are a matrix C_b (O, O) pulled back from the
space of outputs, M = mean_b J_b^T C_b J_b, so that M v costs one jvp and one vjp (`rlopt.core.curvature`):

| `metric` | C_b, or M where it is no pull-back |
|---|---|
| identity            | M = I: steps are as long as theta moves |
| gauss_newton        | I: as the outputs move |
| fisher              | E[s s^T], s = d log p(a \| z) / dz, exact or over drawn actions: as the distribution moves |
| empirical_fisher    | s s^T at the action that was taken |
| episode_fisher      | (sum of scores over an episode)(the same)^T: eNAC's |
| gradient_covariance | l l^T, about the mean where `centred` |
| ggn                 | minus the Hessian of the objective in z |
| hessian             | M = minus the Hessian of the objective in theta |
| gradient_history    | M = sum or running mean of g g^T over updates: AdaGrad's |
| mahalanobis         | M = A, given |

For the Fisher matrix F, 1/2 d^T F d is the KL divergence of the step to second order, and F^-1 g, the natural gradient,
does not depend on how the policy is parametrised (Amari 1998; Kakade 2001).

**Solver.** x with (M + lambda I) x = g. From products alone: `cg`, `lbfgs`, `low_rank`, `dense` (the whole matrix, for
small P). From the factors of C, sent back through the layers as signals d_k beside the layers' inputs a: `diagonal`,
`block`, `kfac` (mean a a^T kron mean d d^T), `ekfac`, `kfra`, `gram` (a system of size K B in place of P). `compatible`
solves nothing: with features J_b^T s_b, the weights of a critic's least squares fit *are* F^-1 g (Sutton et al. 2000;
Peters and Schaal 2008).

**Damping.** lambda > 0 bounds x where M is small or badly known. `constant`, or `levenberg_marquardt`: up where a
quadratic model failed, down where it held; of the objective, g^T d - 1/2 d^T M d, for ggn and hessian, of the KL
divergence, 1/2 d^T F d, for fisher.

**Step.** d = alpha x:

| `step` | alpha |
|---|---|
| fixed          | `rate` |
| optimizer      | a torch.optim class, given -x as the gradient |
| trust_region   | with 1/2 d^T M d = `radius`: NPG |
| kl_clip        | min(`rate`, 1/2 d^T F d = `radius`), then momentum: ACKTR |
| kl_line_search | the same start, shrunk until measured KL is within `radius` and the objective rises: TRPO |
| armijo         | `rate`, shrunk until the objective rises by a share of alpha g^T x |

**Presets.** An algorithm is a choice of these: `algo=trpo` is surrogate, fisher, cg, kl_line_search; `algo=ppo` is
clipped, identity, identity, optimizer, in epochs of minibatches; `algo=acktr` is log_prob, fisher by one draw, kfac,
kl_clip. conf/algo holds them, each with its paper and every deviation from it.
"""
