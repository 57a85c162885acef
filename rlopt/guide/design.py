"""How rlopt works: what runs in an update, and where to start reading.

A policy network maps theta and an observation to outputs z, and a head maps z to a distribution. The metric is a
small matrix C in the space of z, pulled back through the network: M v = mean_b J_b^T C_b J_b v. A *tape* records one
forward pass and gives products with J and J^T; for multilayer perceptrons these are written out layer by layer,
without autograd. `rlopt.guide.mathematics` has the equations.

These four files hold the mathematics of a TRPO update:

1. `rlopt.core.update`: objective, gradient, solve, step, report
2. `rlopt.core.metrics.fisher`: C and its root, from the head
3. `rlopt.core.solvers.cg`: conjugate gradient from products
4. `rlopt.core.steps.kl_line_search`: measured KL and improvement, or no step

The README says how many files and lines run in one update with the tape, the head and the objective that they call.
`scripts/paths` counts them, and those from the command line to the first step of an environment.

A run is made in four steps: `compose` puts the files and what was typed together, `RunConfig.parse` checks every type
and range, `check` refuses what does not go together, `build` makes the trainer. `rlopt.config` and
`rlopt.training.trainer` are the places to start reading. .github/CONTRIBUTING.md says how a part becomes one of
rlopt's own.

| folder | holds |
|---|---|
| core | the update: metrics, solvers, damping, steps, heads, tapes; knows neither environments nor configurations |
| config | from what is typed to checked options |
| envs, policy, rollout | environments, networks, collecting |
| training, checkpoint, loggers, parallel | the loop, what it saves and records, processes |
| evaluation, inspection, report | what is done with a run afterwards |
| cli, guide | the commands, these pages |
"""
