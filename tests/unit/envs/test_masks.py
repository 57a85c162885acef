"""Action masks from the environment to the action, in every form in which they come; and masks that are refused."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces

import rlopt
from rlopt.envs.observations import MaskedBox, image, unmasked
from rlopt.errors import EnvironmentFault, UserError
from tests.support.acting import moved
from tests.support.masked import Offers
from tests.support.probes import make_trainer
from tests.support.traces import same

pytestmark = pytest.mark.usefixtures("probe_environments", "elsewhere")
OFFERS = ("env.id=probe/Offers-v0", "env.kwargs={count: 9, length: 7}", "env.num_envs=5", "batch_size=160")
IN_DICT = (OFFERS[0], "env.kwargs={count: 9, length: 7, convention: dict}", *OFFERS[2:])
CNN = [f"{n}.{k}" for n in ("policy", "critic") for k in ("channels=[4]", "kernels=[3]", "strides=[2]", "hidden=[]")]
HALVES = ("env.id=probe/Halves-v0", "env.num_envs=5", "batch_size=160")
IMAGES = (*HALVES, "env.kwargs={image: true}", "policy=nature_cnn", "critic=nature_cnn", *CNN)
KWARGS = {
    "info": {"count": 9, "length": 7},
    "Dict": {"count": 9, "length": 7, "convention": "dict"},
    "MultiDiscrete": {},
    "image": {"image": True},
}
KINDS = {"info": OFFERS, "Dict": IN_DICT, "MultiDiscrete": HALVES, "image": IMAGES}


class Given(gym.Env):
    """Three actions, and the masks that it was given, one after another."""

    observation_space, action_space = spaces.Box(0, 1, (2,), np.float32), spaces.Discrete(3)

    def __init__(self, masks: list[Any], actions: gym.Space | None = None, render_mode: str | None = None):
        self.masks, self.action_space = masks, actions or self.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {"action_mask": self.masks[0]}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        mask = self.masks[self.t % len(self.masks)]
        return np.zeros(2, np.float32), 0.0, False, False, {} if mask is None else {"action_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_no_action_is_taken_that_is_forbidden(kind):
    """These environments raise where one is: in this process and in workers, which collect and learn the same."""
    runs = [make_trainer(*KINDS[kind], "algo=ppo", f"workers={k}", "total_steps=320", f"run_dir={kind}{k}", "evaluation.episodes=3")
            for k in (1, 2)]  # fmt: skip
    for run in runs:
        assert run.run()["steps"] == 320
    assert same(runs[0].state, runs[1].state)
    space = runs[0].config.env.make().observation_space
    assert isinstance(space, MaskedBox) and (image(space) is not None) == (kind == "image")
    assert space.dtype == unmasked(space).dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_takes_a_mask_beside_the_observation(kind):
    policy, kwargs = moved(*KINDS[kind], "policy.last_gain=3.0"), KWARGS[kind]
    env, rng = gym.make(KINDS[kind][0].removeprefix("env.id="), **kwargs), np.random.default_rng(0)
    observation, info = env.reset(seed=1)
    for _ in range(6):
        given = {} if kind == "Dict" else {"action_mask": info["action_mask"]}
        mask = observation["action_mask"] if kind == "Dict" else info["action_mask"]
        masks = mask if isinstance(mask, tuple) else (mask,)  # one for each category
        drawn = {tuple(np.atleast_1d(policy.sample(observation, rng, **given))) for _ in range(200)}
        assert len(drawn) > 1 and all(mask[a] for action in drawn for mask, a in zip(masks, action, strict=True))
        best = policy(observation, **given)
        assert tuple(np.atleast_1d(best)) in drawn
        observation, _, _, _, info = env.step(best)


def test_masks_of_several_observations_and_none_at_all():
    policy, of_dict = moved(*OFFERS), moved(*IN_DICT)
    many, masks = np.zeros((2, 1), np.float32), np.eye(9, dtype=np.int8)[[4, 7]]
    assert policy(many, masks).tolist() == [4, 7] and policy(many[0], masks[1]) == 7
    assert of_dict({"observation": many, "action_mask": masks}).tolist() == [4, 7]
    assert of_dict({"observation": many[0]}, masks[0]) == 4
    with pytest.raises(ValueError, match="learned with action masks: policy"):
        policy(many)
    with pytest.raises(ValueError, match=r"has the shape \(9,\); got \(4,\)"):
        policy(many[0], np.ones(4))
    with pytest.raises(ValueError, match="learned without action masks"):
        moved("env=cartpole")(np.zeros(4, np.float32), np.ones(2))


@pytest.mark.parametrize(("count", "mask", "says"), [
    (None, np.zeros(9), "must allow an action; got one that allows none$"),
    (None, [2, *[0] * 8], "has 0 and 1 alone; got 2"),
    (3, np.ones(9), r"the shape \(3, 9\) for 3 observations; got \(9,\)"),
    (2, [[1] * 9, [0] * 9], "got one that allows none for observation 1"),
    (None, [[1], [1, 0]], "got rows of several lengths"),
])  # fmt: skip
def test_a_policy_refuses_what_is_no_mask(count, mask, says):
    with pytest.raises(ValueError, match=says):
        moved(*OFFERS)(np.zeros((1,) if count is None else (count, 1), np.float32), mask)


def test_a_policy_refuses_masks_by_category_or_without_a_key():
    policy, of_dict = moved(*HALVES), moved(*IN_DICT)
    counts = policy.action_space.nvec.tolist()
    none = tuple(np.full(count, i == 0) for i, count in enumerate(counts))
    with pytest.raises(ValueError, match="allow an action of category 1; got one that allows none$"):
        policy(policy.observation_space.sample(), none)
    for given in ((), (np.ones(9),)):
        with pytest.raises(ValueError, match="a dictionary of action_mask, observation; got ndarray"):
            of_dict(np.zeros(1), *given)


@pytest.mark.parametrize("kind", ["info", "image"])
def test_an_exported_policy_takes_rows_with_the_mask_behind(kind):
    policy = moved(*KINDS[kind], "policy.last_gain=3.0")
    program = torch.export.load(rlopt.export(policy, "policy.pt2")).module()
    box, count = policy.observation_space, 50
    box.seed(0)
    seen, rng = np.stack([box.sample() for _ in range(count)]), np.random.default_rng(0)
    masks = (rng.random((count, policy.frozen.width)) < 0.5).astype(seen.dtype)
    masks[:, [0, -1]] = 1
    actions, z = program(torch.from_numpy(np.concatenate([seen.reshape(count, -1), masks], 1)))
    np.testing.assert_allclose(z, policy.outputs(seen, masks), rtol=1e-5, atol=1e-5)
    assert np.array_equal(actions, policy(seen, masks))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([0, 0, 0], "gave an action mask that allows no action"),
        ([1, 0, 2], "gave an action mask with 2 where 0 and 1 are wanted"),
        ([1, 0], "gave an action mask of 2 numbers where there are 3 actions"),
        (["a", "b", "c"], "gave an action mask of type <U1 where 0 and 1 are wanted"),
        (None, "gave no action_mask in its info, which must hold one after every reset and step"),
    ],
)
def test_a_wrong_mask_is_a_fault_with_its_environment(mask, message, monkeypatch):
    made = iter(range(100))

    def make(render_mode: str | None = None) -> gym.Env:
        masks = [[0, 1, 1], np.array([True, False, True]), np.array([1.0, 1.0, 0.0])]
        return Given([*masks, mask] if next(made) % 4 == 2 else masks)

    entry = gym.envs.registration.EnvSpec("Given-v0", entry_point=make)
    monkeypatch.setitem(gym.registry, "Given-v0", entry)
    run = make_trainer("env.id=Given-v0", "env.num_envs=4", "batch_size=80", "total_steps=80", "env.mask=info")
    with pytest.raises(EnvironmentFault, match=rf"environment 3, at its step 3, {message}"):
        run.run()


def test_of_several_categories_each_needs_an_action(monkeypatch):
    for masks, message in (
        (([1, 1], [0, 0, 0]), "an action mask that allows no action of category 1"),
        (([1, 1, 0], [0, 1]), r"action masks of \(3, 2\) numbers where the categories have \(2, 3\) actions"),
    ):
        entry = gym.envs.registration.EnvSpec(
            "Given-v0", entry_point=lambda render_mode=None, masks=masks: Given([masks], spaces.MultiDiscrete([2, 3]))
        )
        monkeypatch.setitem(gym.registry, "Given-v0", entry)
        run = make_trainer("env.id=Given-v0", "env.num_envs=2", "batch_size=80", "total_steps=80")
        with pytest.raises(EnvironmentFault, match=f"environment 0, at its first reset, gave {message}"):
            run.run()


def test_auto_is_recorded_as_what_it_found(capsys):
    trained = rlopt.train(*OFFERS, "total_steps=160", "run_dir=run", "evaluation.episodes=0")
    assert yaml.safe_load((trained.run_dir / "config.yaml").read_text())["env"]["mask"] == "info"
    assert "gives info['action_mask']" in capsys.readouterr().err
    assert rlopt.load("run").frozen.network.masked
    other = make_trainer(*IN_DICT, "env.mask=none")
    assert not other.agent.actor.update.network.masked and other.collector.envs.single_observation_space.shape == (10,)
    other.collector.close()


def test_what_can_have_no_mask_is_refused():
    with pytest.raises(UserError, match="is for Discrete and .* these are Box.*; type env.mask=none"):
        make_trainer("env=pendulum", "env.mask=info")
    with pytest.raises(UserError, match="mask must be auto or none with this env.backend"):
        make_trainer("env=halfcheetah", "env.mask=info")
    with pytest.raises(UserError, match="env.mask must be one of auto, info, none"):
        make_trainer("env=cartpole", "env.mask=dict")


@pytest.mark.parametrize("actions", [spaces.Box(-1, 1, (2,)), spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1)])])
def test_a_mask_of_actions_that_have_none_is_not_ignored(actions, monkeypatch, capsys):
    made = gym.envs.registration.EnvSpec("Given-v0", entry_point=lambda render_mode=None: Given([[1, 0, 1]], actions))
    monkeypatch.setitem(gym.registry, "Given-v0", made)
    with pytest.raises(
        UserError, match=r"^env.id=Given-v0: info\['action_mask'\] is for Discrete .* type env.mask=none"
    ):
        make_trainer("env.id=Given-v0")
    assert "takes no action" not in capsys.readouterr().err
    make_trainer("env.id=Given-v0", "env.mask=none").collector.close()


def test_a_mask_of_another_size_than_the_actions_is_refused(monkeypatch):
    class Odd(Offers):
        def __init__(self, render_mode: str | None = None):
            super().__init__(convention="dict")
            self.action_space = spaces.Discrete(7)

    monkeypatch.setitem(gym.registry, "Odd-v0", gym.envs.registration.EnvSpec("Odd-v0", entry_point=Odd))
    with pytest.raises(UserError, match="has 200 numbers for 7 actions; to see it as a part .* type env.mask=none"):
        make_trainer("env.id=Odd-v0")


def test_the_critic_and_the_normaliser_do_not_see_the_mask():
    run = make_trainer(*OFFERS, "algo=trpo")
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    state, result = run.agent.learn(run.state, batch, run.minibatches)
    assert result.failure is None and torch.equal(batch.inputs[..., 1:], batch.inputs[..., 1:].round())
    shift, scale = run.agent.observations.shift_and_scale(state["observations"], torch.float32)
    assert not shift[1:].any() and (scale[1:] == 1).all() and shift[0] != 0
    critic = run.agent.critic.update.network
    other = batch.inputs.clone()
    other[..., 1:] = 1 - other[..., 1:]
    theta = state["critic"]["theta"]
    assert torch.equal(critic.outputs(theta, batch.inputs[0]), critic.outputs(theta, other[0]))
