"""rlopt export: the graph gives the policy's actions; what cannot be written is told."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rlopt
from tests.support.command_line import SHORT, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.filterwarnings("ignore")
def test_the_graph_acts_as_the_policy_does(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    code, out, _ = run("export", "here", "--out", "policy.pt2")
    assert code == 0 and "policy.pt2" in out
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    action, _ = torch.export.load("policy.pt2").module()(torch.from_numpy(observations))
    assert np.array_equal(action.numpy(), rlopt.load("here")(observations))


def test_another_ending_is_refused(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    code, _, err = run("export", "here", "--out", "policy.pkl")
    assert code == 2 and "exported to .onnx or to .pt2" in one_line(err)
    assert not Path("policy.pkl").exists()
    assert run("export", "nowhere")[0] == 2
