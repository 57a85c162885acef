"""The trainer from Python: train, callbacks, load, and what is exported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import load_file

import rlopt
from rlopt.cli import main as cli
from rlopt.config.overrides import to_overrides
from rlopt.errors import UserError
from rlopt.policy.policy import Policy
from rlopt.rollout.seeding import Purpose, integer, sequence
from rlopt.training.callbacks import RunContext
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")
SMALL: dict[str, Any] = {
    "batch_size": 80, "total_steps": 240, "policy": {"hidden": [8]}, "critic": {"hidden": [8]},
    "evaluation": {"episodes": 3},
}  # fmt: skip
CNN = [f"{net}.{name}=[{value}]" for net in ("policy", "critic") for name, value in
       (("channels", 4), ("kernels", 3), ("strides", 2))]  # fmt: skip
EVERY = {  # head or observation -> the run
    "Categorical": ["env=cartpole"],
    "Joint": ["env=cartpole", "critic=shared"],
    "MultiCategorical": ["env.id=probe/MultiDiscrete-v0"],
    "Bernoulli, Tuple": ["env.id=probe/Tuple-v0"],
    "DiagonalGaussian": ["env=pendulum"],
    "squashed, in sigma": ["env=pendulum", "policy.squash=true", "policy.scale=sigma"],
    "Dict": ["env.id=probe/Dict-v0"],
    "Discrete": ["env.id=probe/Discrete-v0"],
    "MultiBinary": ["env.id=probe/MultiBinary-v0"],
    "image": ["env.id=probe/Image-v0", "policy=nature_cnn", "critic=nature_cnn", *CNN],
}
HEADS = [
    "Categorical",
    "Joint",
    "MultiCategorical",
    "Bernoulli, Tuple",
    "DiagonalGaussian",
    "squashed, in sigma",
    "image",
]


def moved(*overrides: str) -> Policy:
    """A policy after one update, so that its normaliser has moved."""
    run = make_trainer("batch_size=160", "policy.last_gain=1.0", *overrides)
    try:
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, lesson = run.agent.learn(run.state, batch, run.minibatches)
    finally:
        run.collector.close()
    assert lesson.failure is None
    return Policy(run.agent.evaluated_policy(run.state), run.agent.head, *run.config.env.spaces())


def seen(policy: Policy, count: int) -> list[Any]:
    """Observations of its space; numbers without bounds are drawn from a normal distribution."""
    space = policy.observation_space
    space.seed(0)
    if isinstance(space, gym.spaces.Box) and space.dtype != np.uint8:
        return list(3 * np.random.default_rng(0).standard_normal((count, *space.shape)).astype(np.float32))
    return [space.sample() for _ in range(count)]


# --- training


def test_import_is_light():
    code = "import rlopt, sys; assert not {'torch', 'numpy', 'hydra', 'gymnasium'} & set(sys.modules); rlopt.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'rlopt' has no attribute 'nothing'"


def test_a_run_is_that_of_the_command_line():
    trained = rlopt.train("algo=ppo", seed=3, run_dir="a", **SMALL)
    assert trained.run_dir == Path("a")
    typed = ["algo=ppo", "seed=3", "run_dir=b", "batch_size=80", "total_steps=240", "policy.hidden=[8]",
             "critic.hidden=[8]", "evaluation.episodes=3"]  # fmt: skip
    assert cli.main(["train", *typed]) == 0
    a, b = (load_file(next(Path(run).glob("checkpoints/*240.safetensors"))) for run in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


VALUES: list[Any] = [
    1, -2, 0.5, 1e-7, float("inf"), True, False, None, "adam", "a/b-c.d", "two words", "it's", "", "true", "1e-3", "a,b",
    "back\\slash", "end\\", "[x]", "a=b", "ü", [64, 64], [], (1, 2.5), ["a", "b c"], Path("x y"), np.float64(0.25), {},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_reach_hydra_as_they_are(value):
    (text,) = to_overrides({"key": value})
    got = OverridesParser.create().parse_override(text).value()
    plain = [getattr(v, "text", v) for v in got] if isinstance(got, list) else getattr(got, "text", got)
    wanted = {type(Path()): str, tuple: list, np.float64: float}.get(type(value), lambda same: same)(value)
    assert plain == wanted and type(plain) is type(wanted)


def test_options_within_options_are_spelled_with_dots():
    options = {"seed": 1, "critic": {"step": {"radius": 0.1}, "hidden": [4]}, "step": "kl_clip"}
    assert to_overrides(options) == ["seed=1", "critic.step.radius=0.1", "critic.hidden=[4]", "step=kl_clip"]


def test_mistakes_are_user_errors_and_write_nothing():
    with pytest.raises(UserError, match="did you mean trpo"):
        rlopt.train(algo="tpro")
    with pytest.raises(UserError, match="policy.squash has no effect"):
        rlopt.train(policy={"squash": True})
    with pytest.raises(UserError, match="nowhere is not the folder of a run"):
        rlopt.load("nowhere")
    assert list(Path.cwd().iterdir()) == []


def test_callbacks_are_called_in_order_with_what_is_documented():
    calls: list[tuple[str, RunContext, Any]] = []
    policies = []

    def on(name: str):
        def call(moment: RunContext, about: Any) -> None:
            calls.append((name, moment, about))
            if name == "update":
                policies.append(moment.policy().outputs(np.ones(4)))

        return call

    trained = rlopt.train(on_begin=on("begin"), on_rollout=on("rollout"), on_update=on("update"),
                          on_checkpoint=on("checkpoint"), on_end=on("end"), run_dir="here", checkpoint={"every_updates": 2}, **SMALL)  # fmt: skip
    names = [(name, moment.steps, moment.updates) for name, moment, _ in calls]
    assert names == [
        ("begin", 0, 0), ("rollout", 0, 0), ("update", 80, 1), ("rollout", 80, 1), ("update", 160, 2),
        ("checkpoint", 160, 2), ("rollout", 160, 2), ("update", 240, 3), ("checkpoint", 240, 3), ("end", 240, 3),
    ]  # fmt: skip
    about = {name: thing for name, _, thing in calls}
    assert about["begin"]["algo"] == "trpo" and about["begin"]["batch_size"] == 80
    assert about["rollout"].steps == 80
    assert about["update"]["update/skipped"] == 0
    assert about["checkpoint"].is_file() and about["checkpoint"].name == "step-000000000240.safetensors"
    assert about["end"] == trained.summary
    assert np.array_equal(policies[-1], rlopt.load("here").outputs(np.ones(4)))
    assert not np.array_equal(policies[0], policies[-1])


def test_a_callback_can_end_the_run_and_only_by_true():
    trained = rlopt.train(on_update=lambda moment, _: np.equal(moment.updates, 2), run_dir="here", **SMALL)
    assert trained.summary["steps"] == 160 and "evaluation_return" in trained.summary
    assert rlopt.train(on_update=lambda moment, _: 1, **SMALL).summary["steps"] == 240


def test_what_a_callback_raises_ends_the_run_with_a_checkpoint():
    def fail(moment: RunContext, _: Any) -> None:
        if moment.updates == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rlopt.train(on_update=fail, run_dir="here", **SMALL)
    assert [p.name for p in Path("here/checkpoints").iterdir()] == ["step-000000000160.safetensors"]


# --- acting


@pytest.mark.parametrize("env", ["env=cartpole", "env=pendulum"])
def test_a_loaded_policy_plays_the_episodes_of_the_summary(env):
    trained = rlopt.train(env, run_dir="here", seed=2, **SMALL)
    policy = rlopt.load("here")
    mode, sampled = [], []
    for episode in range(3):
        generator = np.random.default_rng(sequence(2, Purpose.EVALUATION_ACTION, episode))
        for returns, act in ((mode, policy), (sampled, lambda o, g=generator: policy.sample(o, g))):
            game = gym.make(trained.summary["env"])
            observation, _ = game.reset(seed=integer(2, Purpose.EVALUATION_ENVIRONMENT, episode))
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = game.step(act(observation))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
    assert np.mean(mode) == trained.summary["evaluation_return"]
    assert np.mean(sampled) == trained.summary["sampled_evaluation_return"]


@pytest.mark.parametrize("kind", EVERY)
def test_one_observation_or_many_of_every_space(kind):
    policy = moved(*EVERY[kind])
    space, actions = policy.observation_space, policy.action_space
    each = seen(policy, 5)
    many = concatenate(space, each, create_empty_array(space, 5)) if not isinstance(space, gym.spaces.Box) else each
    taken = policy(many)
    assert taken.shape == (5, *actions.shape) and taken.dtype == actions.dtype
    assert all(np.array_equal(policy(one), row) for one, row in zip(each, taken, strict=True))
    assert actions.contains(policy(each[0]))
    assert batch_space(actions, 5).contains(policy.sample(many, np.random.default_rng(0)))
    a, b, c = (policy.sample(many, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert kind == "Joint" or not np.array_equal(a, c) or len(np.unique(a)) <= 4
    assert policy.outputs(many).shape == (5, policy.frozen.width)


def test_observations_of_another_shape_are_refused():
    policy = moved("env=cartpole")
    for wrong in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 1, 4)), 1.0):
        with pytest.raises(ValueError, match=r"an observation has shape \(4,\)"):
            policy(wrong)


# --- export


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
        with pytest.raises(UserError, match=r"pip install 'rlopt\[export\]'"):
            rlopt.export(policy, "policy.onnx")
