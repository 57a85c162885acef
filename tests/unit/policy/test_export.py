"""Exported policies: they agree with the policy, and known formats alone are written."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector.utils import concatenate, create_empty_array

import rlopt
from rlopt.errors import UserError
from tests.support.acting import EVERY, moved, seen

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")


HEADS = [
    "Categorical",
    "Joint",
    "MultiCategorical",
    "Bernoulli, Tuple",
    "DiagonalGaussian",
    "squashed, in sigma",
    "image",
    "several inputs",
]


@pytest.mark.parametrize("kind", HEADS)
def test_exported_policies_agree_on_a_thousand_observations(kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = moved(*EVERY[kind])
    each = seen(policy, 1000)
    space = policy.observation_space
    plain = isinstance(space, gym.spaces.Box)
    many = np.array(each) if plain else concatenate(space, each, create_empty_array(space, 1000))
    rows = many if plain else np.array([gym.spaces.flatten(space, one) for one in each], np.float32)
    action, z = policy(many), policy.outputs(many)
    assert len(np.unique(action)) > 1

    program = torch.export.load(rlopt.export(policy, "policy.pt2")).module()
    session = onnxruntime.InferenceSession(rlopt.export(policy, "folder/policy.onnx"))
    for got in ([x.numpy() for x in program(torch.from_numpy(rows))], session.run(None, {"observation": rows})):
        assert got[0].dtype == action.dtype and got[0].shape == action.shape
        np.testing.assert_allclose(got[1], z, rtol=1e-6, atol=1e-6)
        if action.dtype == np.float32:
            np.testing.assert_allclose(got[0], action, rtol=1e-6, atol=1e-6)
        else:
            assert np.mean(got[0] == action) >= 0.998  # two outputs may be equal but for rounding


def test_a_policy_is_exported_to_known_formats_only():
    policy = moved("env=cartpole")
    with pytest.raises(UserError, match="policy.zip: a policy is exported to .onnx or to .pt2"):
        rlopt.export(policy, "policy.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"pip install '\.\[export\]'"):
            rlopt.export(policy, "policy.onnx")
