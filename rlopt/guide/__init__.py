"""The guide: pages to read, as docstrings. `scripts/docs` makes a site of them and of all other modules' docstrings.

| page | says |
|---|---|
| `rlopt.guide.mathematics` | the one equation and its parts, with the names that the code gives them |
| `rlopt.guide.choosing`    | which metric, solver, damping and step for what |
| `rlopt.guide.extending`   | a metric, a solver and an environment of your own |
| `rlopt.guide.options`     | every option of every choice, from the yaml files |
| `rlopt.guide.comparison`  | what other trainers do, and when to take one of them |
| `rlopt.api`               | training, callbacks, acting and export from Python |
| `rlopt.loggers.logger`      | what the curves in TensorBoard are |
| `rlopt.cli.sweep.launch` | sweeps, on this machine and by SLURM |

The README has the ten-minute tour.
"""
