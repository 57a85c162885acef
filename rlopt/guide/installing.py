"""Installing rlopt: names, extras, torch without CUDA, systems, an image, and studies and clusters that extras bring.

**Names.** The import, the command and the repository are rlopt. The distribution is rlopt-geometry, for rlopt on the
public package index is another project. Once it is installed, from a clone too, `pip install 'rlopt-geometry[plot]'`
adds what an extra needs, and `scripts/bootstrap plot` does so in the `.venv` of a clone, with pinned versions. The
extra `all` has everything but the tools of development.

**torch without CUDA.** On Linux, PyPI's torch brings CUDA, several GB: where there is no GPU, first install PyTorch's
CPU build, by the command that PyTorch's own page shows for it.

**Versions.** `scripts/test --lowest` runs fast tests on the lowest versions that pyproject.toml allows, `scripts/test
--python 3.13` on another Python. Where no index has a CPU build of the lowest torch, the pinned one takes its place.
The workflow in .github runs all tests on Python 3.11 to 3.14. For 3.14 it was tried that an index has a wheel for Linux
of every pinned version that the tests install, but for box2d-py and antlr4-python3-runtime, which are built from their
sources; of the extra ray, the pinned 2.49.2 has none. No test has run on 3.14 yet, and nothing was installed there.

**Systems.** All tests run on Linux. `tests/system/test_platforms.py` takes away what macOS and Windows lack (fork,
signals, fcntl, folders that can be opened), imports every module, and trains, resumes and sweeps. Nothing was tried on
a real macOS or Windows.

| what                        | Linux      | macOS        | Windows                                         |
|---|---|---|---|
| workers                     | are forked | are spawned  | are spawned                                     |
| two runs in one folder      | refused    | refused      | not noticed: folders have no lock               |
| Ctrl-C, SIGTERM             | save       | save         | Ctrl-C saves; a process that is ended does not  |
| env.timeout without workers | works      | works        | does not: there is no such timer; use workers=1 |
| a constructor that ends the process | is named | ends the run | ends the run                              |

The lock is the system's own, on the folder, so it leaves no file, and it is freed when the process dies. The package
filelock, which torch installs, would leave a file in every run's folder.

**An image.** `.github/Dockerfile` runs `rlopt` as a user without rights; `--build-arg TORCH_INDEX=URL` names the index
of PyTorch's CPU builds:

    docker build -f .github/Dockerfile -t rlopt .
    docker run --rm -v "$PWD/runs:/work/runs" rlopt train algo=ppo env=hopper

Its lines are checked by `tests/system/test_packaging.py`; it has not been built.

**Studies.** With the extra `optuna` options are drawn so that the return becomes high, bad runs are ended early, and
the same command goes on with a study that was stopped (`rlopt.cli.plugins.optuna_sweeper`). `rlopt report` then shows
which options matter, where the best values lie, and what to type for the best trial:

    rlopt train -m algo=ppo 'optimizer.lr=tag(log,interval(1e-4,1e-2))' hydra/sweeper=optuna sweep_dir=runs/study
    rlopt report runs/study

**Clusters.** `hydra/launcher=ray` (extra `ray`) and `submitit_slurm` (extra `sweep`) spread the runs of a sweep:
`rlopt.cli.plugins.ray_launcher` and `rlopt.cli.sweep`. Ray 2.60 gives its own helpers 15 seconds to start; on a machine
that is busy it may end with "Ray does not start", where Ray 2.49 waited.

**EnvPool.** `env.backend=envpool` (extra `envpool`) steps EnvPool's own ids too, Atari's games among them, as
`env.id=Pong-v5`: `rlopt.envs.pool`.
"""
