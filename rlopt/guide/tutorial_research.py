"""Third tutorial: compare geometries, with intervals. One hour, most of it waiting.

The question here: TRPO takes the direction (F + lambda I)^-1 g by conjugate gradient. What do cheaper approximations
of F cost in learning?

## Change one thing

Compare what differs in one choice, on the same seeds, fixed before any of them is run:

```shell
rlopt train -m algo=trpo env=cartpole solver=cg,kfac,diagonal seed=0,1,2,3,4 total_steps=30000 sweep_dir=runs/solvers
```

Fifteen runs, a minute of processor time in all. Stopped, the same command goes on where it was. Everything but the
solver is alike: the objective, the metric, the damping, and the step rule, which gives every direction the same
length in nats (the unit of KL divergence). With `step=fixed` the lengths would differ too, and the comparison would
be one of step sizes.

## Read the report

```shell
rlopt report runs/solvers
rlopt plot runs/solvers --out curves.png
```

runs/solvers/report.html holds curves by steps and by seconds, returns with every run beside the average, performance
profiles and probabilities of improvement (Agarwal et al. 2021), and the settings; the tables are also on the terminal
and in report.md. Runs that differ in nothing but the seed are averaged; the others are told apart by the few options
that differ, which are found by themselves. Runs that are broken or not at their end are named and left out. `rlopt
plot` draws the curves alone: `--axis seconds|both`, `--centre iqm`, `--interval bootstrap`. Both need the extra
`plot`.

The table of these fifteen runs, made with the commands above:

| method | seeds | mean (95% t interval) | lowest | mean in training |
|---|---|---|---|---|
| solver=cg       | 5 | 500.0 (500.0 to 500.0) | 500.0 | 286.4 |
| solver=diagonal | 5 | 500.0 (500.0 to 500.0) | 500.0 | 248.5 |
| solver=kfac     | 5 | 500.0 (500.0 to 500.0) | 500.0 | 302.6 |

All of them end at the highest return that there is, so that the final return tells nothing: only how fast they got
there may differ. An environment that is solved by everything decides nothing. Shorten the runs, or take a harder one:

```shell
rlopt train -m algo=trpo env=acrobot metric=fisher,gauss_newton seed=0,1,2,3,4 total_steps=40000 sweep_dir=runs/metrics
```

## How many seeds

An interval that misses the truth more often than it says is worse than none. Of ten normal scores a 95% t interval
holds the mean 95 times in 100, a bootstrap interval 90 times, but of three runs 74 times (experiments/intervals). The
report has both. The *IQM*, the mean of the middle half of the runs, is not moved by one lucky seed. Two equal methods
with three runs each do not overlap once in ten times.

Choose settings on other seeds than those that you report.

## Look at the directions

A sweep says which method learns. `rlopt inspect` says why, at one policy and on one batch:

```shell
rlopt inspect runs/solvers/seed=0,solver=cg --metric fisher,gauss_newton,empirical_fisher --solver cg,kfac,diagonal
```

For each pair: the cosine to the gradient and to the exact direction, gain and KL divergence as predicted and as
measured at the same radius, time and memory. Rows with a cosine to the exact direction near 1 are good solvers of
their metric, which does not make the metric a good one: that is the sweep's question.

## Go further

- experiments/lqr, on Peters and Schaal's example, has every quantity in closed form: why the vanilla gradient stops
  exploring before it has learned, and the natural gradient does not. `scripts/reproduce lqr` makes its data and
  figures.
- experiments/geometry compares K-FAC, Shampoo, SOAP, Muon and others as the policy's update, by steps and by
  seconds.
- experiments/README.md lists all of them, a command for every method, and the claims of five lecture notes with the
  figure that shows or refutes each.
- `rlopt.guide.mathematics` is the theory on one page, `rlopt.guide.choosing` the advice.
- `rlopt.guide.running` has launchers for cores and SLURM, `rlopt.cli.sweep` Optuna.

To cite: name rlopt, the version that `rlopt --version` prints and, for a method, the paper on its preset's page
(`rlopt.guide.presets`). A run's config.yaml holds every setting of it.
"""
