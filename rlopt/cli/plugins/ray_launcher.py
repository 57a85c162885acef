"""`hydra/launcher=ray`: the runs of a sweep are tasks of Ray, on this machine or on a cluster.

    rlopt train -m seed=0,1,2 sweep_dir=runs/three hydra/launcher=ray
    rlopt train -m seed=0,1,2 sweep_dir=/shared/three hydra/launcher=ray hydra.launcher.address=auto

| option              | is                                                                                  |
|---|---|
| address             | of the cluster: `auto` for one that runs; by default a cluster of this machine alone |
| num_cpus            | cores that the cluster of this machine has; by default all                          |
| num_cpus_per_run    | cores that Ray keeps for each run                                                   |
| num_gpus_per_run    | GPUs that Ray keeps for each run, also parts of one                                 |

All machines of a cluster must have rlopt, and see sweep_dir at the same path. The plugin hydra-ray-launcher, which does
the same, wants Hydra 1.4 or cloudpickle 2.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from rlopt.cli.plugins import register_plugin, set_up

_OPTIONS = {"address": None, "num_cpus": None, "num_cpus_per_run": 1, "num_gpus_per_run": 0}


class RayLauncher(Launcher):
    """Runs the jobs of a sweep as tasks of Ray; see the module for its options."""

    def __init__(self, address: str | None, num_cpus: int | None, num_cpus_per_run: float, num_gpus_per_run: float):
        self._init = {key: value for key, value in (("address", address), ("num_cpus", num_cpus)) if value is not None}
        self._each = {"num_cpus": num_cpus_per_run, "num_gpus": num_gpus_per_run}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._function, self._config = hydra_context, task_function, config
        set_up()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one job for each list of overrides; their results in the same order."""
        import ray

        setup_globals()
        if not ray.is_initialized():
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray warns of where it is not set
            try:
                ray.init(**self._init, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except Exception as error:
                raise RuntimeError(f"Ray does not start: {error}") from error
        started = ray.remote(**self._each, max_retries=0)(_run_job)
        shared = ray.put((self._context, self._config, self._function, Singleton.get_state()))
        jobs = [started.remote(shared, initial_job_idx + i, list(each)) for i, each in enumerate(job_overrides)]
        try:
            return list(ray.get(jobs))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _run_job(shared: tuple[HydraContext, DictConfig, TaskFunction, Any], index: int, overrides: list[str]) -> JobReturn:
    """One job, in a process of Ray's."""
    context, config, function, singletons = shared
    setup_globals()
    Singleton.set_state(singletons)
    own = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(own):
        own.hydra.job.id, own.hydra.job.num = f"{own.hydra.job.name}_{index}", index
    HydraConfig.instance().set_config(own)
    return run_job(
        hydra_context=context,
        config=own,
        task_function=function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def register() -> None:
    """Make `hydra/launcher=ray` known to Hydra."""
    register_plugin(RayLauncher, "hydra/launcher", "ray", _OPTIONS)
