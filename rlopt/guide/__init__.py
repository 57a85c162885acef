"""The guide: pages to read, as docstrings. `scripts/docs` makes a site of them and of all other modules' docstrings.

| page | explains |
|---|---|
| `rlopt.guide.words`       | the words that are used here in a special sense: metric, head, tape, nats, recipe, ... |
| `rlopt.guide.mathematics` | the one equation and its parts, with the names that the code gives them |
| `rlopt.guide.choosing`    | which metric, solver, damping and step suit which problem |
| `rlopt.guide.memory`      | policies and critics with memory: GRU, LSTM, sequences, and what solvers make of them |
| `rlopt.guide.extending`   | a metric, a network and an environment of your own |
| `rlopt.guide.ecosystem`   | environments, scalars, trackers, callbacks and curricula, cards, recorded episodes |
| `rlopt.guide.installing`  | names, extras, torch without CUDA, what is tested on which system, studies |
| `rlopt.guide.options`     | every option of every choice, from the yaml files |
| `rlopt.guide.comparison`  | other trainers, and when to use one of them |
| `rlopt.api`               | training, callbacks, acting and export from Python |
| `rlopt.loggers.logger`    | the curves in TensorBoard |
| `rlopt.cli.sweep`         | sweeps, on this machine and by SLURM |

The README has a tour of ten minutes.
"""
