"""rlopt zoo: the policies that are there, and their figures."""

import json

import rlopt
from rlopt.checkpoint import zoo
from tests.support.command_line import SHORT


def test_the_list_names_policies_and_returns(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "zoo_dir", lambda: tmp_path / "zoo")
    done = rlopt.train(*SHORT, "run_dir=here")
    zoo.keep(done.run_dir, tmp_path / "zoo/trpo-cartpole", chosen_of={"seeds": 5, "mean": 12.5})
    zoo.keep(done.run_dir, tmp_path / "zoo/ppo-cartpole")
    code, out, _ = run("zoo")
    mean, std = (done.summary[f"evaluation_{name}"] for name in ("return", "std"))
    header, ppo, trpo = out.splitlines()
    assert code == 0 and header.split()[:2] == ["name", "environment"]
    assert trpo.startswith("zoo:trpo-cartpole") and f"{mean:.1f} +- {std:.1f}" in trpo and trpo.endswith("12.5 of 5")
    assert ppo.startswith("zoo:ppo-cartpole") and ppo.endswith("-")
    code, out, _ = run("zoo", "--json")
    assert code == 0 and json.loads(out)["trpo-cartpole"]["evaluation_return"] == mean
