"""Exported policies: they agree with the policy, and known formats alone are written."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector.utils import concatenate, create_empty_array

import rlopt
from rlopt.errors import UserError
from tests.support.acting import EVERY, leaves, moved, seen

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")


HEADS = [
    "Categorical",
    "Joint",
    "MultiCategorical",
    "Bernoulli, Tuple",
    "DiagonalGaussian",
    "squashed, in sigma",
    "Beta",
    "FullGaussian",
    "GSDE",
    "Product",
    "Product, Beta",
    "whole numbers",
    "image",
    "several inputs",
]


LONGER = {
    "MultiCategorical",
    "Bernoulli, Tuple",
    "squashed, in sigma",
    "Product, Beta",
    "whole numbers",
}  # for the fast run


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.learning) if k in LONGER else k for k in HEADS])
def test_exported_policies_agree_on_a_thousand_observations(kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = moved(*EVERY[kind])
    each = seen(policy, 1000)
    space = policy.observation_space
    plain = isinstance(space, gym.spaces.Box)
    many = np.array(each) if plain else concatenate(space, each, create_empty_array(space, 1000))
    rows = many if plain else np.array([gym.spaces.flatten(space, one) for one in each], np.float32)
    actions, z = leaves(policy(many)), policy.outputs(many)
    assert all(len(np.unique(action)) > 1 for action in actions)

    program = torch.export.load(rlopt.export(policy, "policy.pt2")).module()
    session = onnxruntime.InferenceSession(rlopt.export(policy, "folder/policy.onnx"))
    for got in ([x.numpy() for x in leaves(program(torch.from_numpy(rows)))], session.run(None, {"observation": rows})):
        np.testing.assert_allclose(got[-1], z, rtol=1e-6, atol=1e-6)
        for found, action in zip(got[:-1], actions, strict=True):
            assert found.dtype == action.dtype and found.shape == action.shape
            if action.dtype.kind == "f":
                np.testing.assert_allclose(found, action, rtol=1e-6, atol=1e-6 * max(1, np.abs(action).max()))
            else:
                assert np.mean(found == action) >= 0.998  # two outputs may be equal but for rounding


def test_the_parts_of_an_action_are_outputs_of_their_own_name():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(rlopt.export(moved(*EVERY["Product"]), "policy.onnx"))
    names = ["action.0", "action.1.free", "action.1.many", "action.1.whole", "outputs"]
    assert [output.name for output in session.get_outputs()] == names


def test_a_policy_is_exported_to_known_formats_only():
    policy = moved("env=cartpole")
    with pytest.raises(UserError, match="policy.zip: a policy is exported to .onnx or to .pt2"):
        rlopt.export(policy, "policy.zip")
    with pytest.raises(UserError, match=r"as rlopt.load\(RUN_DIR\) returns it; got 'runs/first'"):
        rlopt.export("runs/first", "policy.onnx")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"pip install 'rlopt-geometry\[export\]'"):
            rlopt.export(policy, "policy.onnx")
