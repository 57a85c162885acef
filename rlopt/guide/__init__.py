"""The guide: pages to read, as docstrings. `scripts/docs` makes a site of them and of all other modules' docstrings.

rlopt/guide/README.md is a table of questions with a link to each answer.

| page | explains |
|---|---|
| `rlopt.guide.tutorial_train`    | first tutorial: train from the command line, watch, evaluate, go on |
| `rlopt.guide.tutorial_own`      | second tutorial: an environment, a network and a solver of your own |
| `rlopt.guide.tutorial_research` | third tutorial: compare geometries, with intervals |
| `rlopt.guide.running`     | installing, stopping and resuming, exit codes, files, GPUs, sweeps, ranks |
| `rlopt.guide.choices`     | what can be chosen, how choices go together, spaces, masks, wrappers |
| `rlopt.guide.presets`     | the algorithms: equation, source, deviations, parts, one page each |
| `rlopt.guide.words`       | the words that are used here in a special sense: metric, head, tape, nats, recipe, ... |
| `rlopt.guide.mathematics` | the one equation and its parts, with the names that the code gives them |
| `rlopt.guide.choosing`    | which metric, solver, damping and step suit which problem |
| `rlopt.guide.memory`      | policies and critics with memory: GRU, LSTM, sequences, and what solvers make of them |
| `rlopt.guide.agents`      | games of several agents that share one policy (PettingZoo), and self-play |
| `rlopt.guide.asymmetric`  | a critic that sees what the policy does not: keys of Dict observations |
| `rlopt.guide.exploring`   | rewards for what is new, where the environment's are rare |
| `rlopt.guide.serving`     | a policy on a server |
| `rlopt.guide.extending`   | a metric, a network and an environment of your own |
| `rlopt.guide.ecosystem`   | environments, scalars, trackers, callbacks and curricula, cards, recorded episodes |
| `rlopt.guide.python`      | training, loading and acting from Python |
| `rlopt.guide.installing`  | names, extras, torch without CUDA, what is tested on which system, studies |
| `rlopt.guide.options`     | every option of every choice, from the yaml files |
| `rlopt.guide.comparison`  | other trainers, and when to use one of them |
| `rlopt.guide.design`      | how it works, and where to start reading |
| `rlopt.api`               | the functions of the library |
| `rlopt.loggers.logger`    | the curves in TensorBoard |
| `rlopt.cli.sweep`         | sweeps, on this machine and by SLURM |
"""
