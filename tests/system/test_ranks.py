"""Several ranks of torch.distributed: the same update as one, agreement on what fails, and runs under torchrun."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support import ranked
from tests.support.command_line import chosen
from tests.support.launching import children, ended, environment, free_port, until

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory):
    """What every case gave on each of two ranks, which run once for all of them."""
    folder = tmp_path_factory.mktemp("ranks")
    where = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.support.rank", str(folder)], cwd=folder, stderr=subprocess.PIPE,
                         env=environment(RANK=i, LOCAL_RANK=i, **where), text=True)
        for i in range(2)
    ]  # fmt: skip
    with ended(*processes):
        said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return [torch.load(folder / f"{i}.pt", weights_only=False) for i in range(2)]


@pytest.mark.parametrize("name", ranked.CASES)
def test_two_ranks_give_what_one_gives(name, two_ranks):
    alone = ranked.CASES[name]()
    tolerance = TOLERANCE[name.rpartition(" ")[2]]
    for found in (ranks[name] for ranks in two_ranks):
        assert isinstance(found, dict), found
        assert found.keys() == alone.keys()
        for key, expected in alone.items():
            expected, got = torch.as_tensor(expected), torch.as_tensor(found[key])
            torch.testing.assert_close(
                got, expected, rtol=tolerance, atol=tolerance, msg=lambda m, key=key: f"{key}: {m}", equal_nan=True
            )


@pytest.mark.parametrize("name", ranked.CASES)
def test_ranks_hold_the_same_bits(name, two_ranks):
    first, second = (ranks[name] for ranks in two_ranks)
    assert all(
        torch.equal(torch.as_tensor(first[key]).nan_to_num(7), torch.as_tensor(second[key]).nan_to_num(7))
        for key in first
    )


@pytest.fixture
def fault(two_ranks):
    def of(name):
        return [ranks[name] for ranks in two_ranks]

    return of


def test_what_is_not_finite_on_one_rank_is_skipped_on_both(fault):
    for name in ("advantage", "input"):
        assert fault(name) == [{"failure": "objective", "same": True}] * 2
    assert [f["same"] for f in fault("metric")] == [True, True]
    assert fault("metric")[1]["failure"] == "nothing" and "another rank" in fault("metric")[0]["failure"]
    assert fault("reward") == [{"failure": "reward", "same": True}] * 2
    report, nothing = fault("report")
    assert nothing is None and report["rank"] == 1 and report["quantities"]["reward"]["nan"] == 1
    assert report["first"] == {"quantity": "reward", "t": 3, "environment": 3}
    assert fault("moments") == ["FloatingPointError: an observation is not finite"] * 2


def test_a_step_out_of_one_ranks_domain_is_rejected_on_both(fault):
    found = fault("domain")
    assert sorted(found[0]["inside"]) == [False, True]
    assert [(f["accepted"], f["same"]) for f in found] == [(0.0, True)] * 2
    assert found[0]["line"] == found[1]["line"]


def test_ranks_agree(fault):
    assert fault("everywhere") == [(False, True)] * 2
    assert fault("own") == [[0, 1, 2], [3, 4, 5]]
    assert fault("rounding") == [[1.0, 1.0, 1.0]] * 2
    assert all("different updates" in said for said in fault("another update"))
    host = socket.gethostname()
    assert fault("user") == [f"UserError: rank 1 on {host}: no such thing"] * 2
    assert fault("environment") == [f"EnvironmentFault: rank 1 on {host}: it fell"] * 2
    assert fault("first") == ["rank 0"] * 2
    assert fault("tally") == [{"returns": [1.0, 2.0, 3.0, 4.0], "lengths": [10, 10, 20, 20], "ends": [4, 4, 7, 7],
                               "environments": [0, 0, 1, 1]}] * 2  # fmt: skip


def test_solvers_leave_their_loops_together(fault):
    first, second = fault("conjugate gradient")
    assert 0 < first["iterations"] == second["iterations"] < 30 and torch.equal(first["x"], second["x"])
    first, second = fault("lanczos")
    assert torch.equal(first["x"], second["x"])


def test_what_cannot_work_on_ranks_is_refused_by_name(fault):
    for name, where in (("gram", ""), ("critic's gram", "critic.")):
        for said in fault(name):
            assert said.startswith(f"UserError: {where}solver=gram needs all samples in one process")
            assert f"{where}solver=cg, " in said and said.count(f"{where}solver=gram") == 1
    assert all("all 2 ranks" in said and said.endswith("try env.num_envs=6") for said in fault("environments"))


# --- whole runs


def torchrun(*arguments: str, **options) -> subprocess.Popen:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port", str(free_port())]
    return subprocess.Popen([*start, "-m", "rlopt", "train", *arguments], env=environment(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir))
    events.Reload()
    return {
        name: [(e.step, e.value) for e in events.Scalars(name)]
        for name in events.Tags()["scalars"]
        if not name.startswith("time/")
    }


def test_a_torchrun_run_is_that_of_one_process_and_written_once(tmp_path):
    from rlopt.cli.main import main

    overrides = chosen(*ranked.SMALL, "evaluation.episodes=2")
    process = torchrun(*overrides, "run_dir=two", cwd=tmp_path)
    with ended(process):
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert said.count("trpo on CartPole") == 1 and said.count("curves:") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["two"]
    assert len(list((tmp_path / "two").glob("events*"))) == 1

    assert main(["train", *overrides, f"run_dir={tmp_path / 'one'}"]) == 0
    one, two = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one.keys() - {"steps_per_second", "wall_seconds"}:
        assert two[name] == (one[name] if isinstance(one[name], str) else pytest.approx(one[name], rel=1e-8)), name
    expected, found = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points]
        assert [v for _, v in found[name]] == pytest.approx([v for _, v in points], rel=1e-4, abs=1e-6), name


def started(cwd: Path, *arguments: str) -> list[subprocess.Popen]:
    """Two ranks of `rlopt train`, without torchrun to end one when the other does."""
    where = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        subprocess.Popen([sys.executable, "-m", "rlopt", "train", *arguments], cwd=cwd, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=environment(RANK=i, LOCAL_RANK=i, **where), text=True)
        for i in range(2)
    ]  # fmt: skip


def test_a_mistake_is_told_once_and_nothing_is_written(tmp_path):
    ranks = started(tmp_path, "algo=trppo")
    with ended(*ranks):
        said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert said[0][0] == "" and said[0][1].startswith("rlopt: algo=trppo: no such algo") and said[1] == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_dies_ends_the_run_on_the_others(tmp_path):
    ranks, table = (
        started(tmp_path, *chosen(*ranked.SMALL, "total_steps=500000", "run_dir=run")),
        tmp_path / "run/scalars.csv",
    )
    with ended(*ranks):
        assert until(lambda: table.exists() and len(table.read_text().splitlines()) > 2)  # after two updates
        ranks[1].kill()
        _, errors = ranks[0].communicate(timeout=30)
    assert ranks[0].returncode == 1 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("rlopt: another rank has ended or cannot be reached")
    assert errors.endswith("; the policy so far is saved in run\n")
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_signal_to_torchrun_ends_all_ranks_and_saves(tmp_path):
    process = torchrun(*chosen(*ranked.SMALL, "total_steps=500000", "run_dir=run"), cwd=tmp_path)
    with ended(process):
        assert until(lambda: list((tmp_path / "run").glob("events*")))
        ranks = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert len(ranks) == 2 and not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert process.returncode != 0 and errors.count("Stopped at step") == 1
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
