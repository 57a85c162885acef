"""Runs as tasks of Ray are the runs that joblib makes, to the bit."""

from pathlib import Path

import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from tests.support.command_line import SHORT

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.learning]


@pytest.mark.filterwarnings("ignore")  # of Ray's own processes
def test_ray_trains_what_joblib_trains(monkeypatch):
    ray = pytest.importorskip("ray", reason="wants the extra ray")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="wants the extra sweep")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "300000")  # on a machine with other work
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    typed = ["train", "-m", "algo=ppo,trpo", "seed=0,1,2", *SHORT]
    assert cli.main([*typed, "sweep_dir=joblib", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 0
    try:
        assert cli.main([*typed, "sweep_dir=ray", "hydra/launcher=ray", "hydra.launcher.num_cpus=2"]) == 0
    finally:
        ray.shutdown()
    names = {path.parent.name for path in Path("joblib").glob("*/summary.json")}
    assert len(names) == 6 and {path.parent.name for path in Path("ray").glob("*/summary.json")} == names
    for name in names:
        agents = [checkpoint.load_newest(Path(folder) / name)[1]["agent"] for folder in ("joblib", "ray")]
        for network in ("actor", "critic"):
            assert torch.equal(agents[0][network]["theta"], agents[1][network]["theta"])
