"""Networks of dictionaries: what reaches each encoder, their products, and short runs."""

import dataclasses
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import rlopt
from rlopt.config.choices import conf_dir
from rlopt.config.saved import load
from rlopt.core.network import Network
from rlopt.envs.observations import as_image, flat_space
from rlopt.policy.multi_input import MultiInput
from tests.support.choices import PARTS, Seeing, flat_samples
from tests.support.oracles import close, seeded
from tests.support.probes import registered

FIELDS = [field.name for field in dataclasses.fields(MultiInput)]
YAML = {
    name: tuple(v) if isinstance(v, list) else v for name, v in load(conf_dir() / "policy/multi_input.yaml").items()
}
USUAL = MultiInput(**{name: YAML[name] for name in FIELDS})
SMALL = dataclasses.replace(USUAL, channels=(2, 3), features=4, vector=(3,), hidden=(4,), activation="tanh")


def test_frames_reach_convolutions_as_channels_that_come_first():
    seen, flat = flat_samples(4)
    module = SMALL.build(flat_space(PARTS), 2, seeded(0)).double()
    given: dict[int, torch.Tensor] = {}
    for i in (0, 3):
        convolution = next(m for m in module.encoders[i].modules() if isinstance(m, nn.Conv2d))
        convolution.register_forward_pre_hook(lambda _, inputs, i=i: given.update({i: inputs[0]}))
    assert module(flat).shape == (4, 2)
    assert np.array_equal(given[0], np.stack([one["camera"].transpose(2, 0, 1) for one in seen]))
    assert np.array_equal(given[3], np.stack([one["stack"].reshape(6, 6, 5) for one in seen]))


def test_every_parameter_has_layer_statistics():
    _, flat = flat_samples(3)
    module = dataclasses.replace(SMALL, embedding=2).build(flat_space(PARTS), 2, seeded(0)).double()
    network = Network(module, 1)
    theta = network.layout.flatten(module, torch.zeros(1)) + 0.1
    tape, u = network.tape(theta, flat), torch.randn(3, 3, generator=seeded(1), dtype=torch.float64)
    rebuilt = []
    for layer in tape.layers(u[None]):
        D = torch.einsum("blj,bli->ji", layer.signals[0], layer.inputs)
        rebuilt.append(torch.cat([D[:, :-1].flatten(), D[:, -1]]) if layer.bias_name else D.flatten())
    assert close(torch.cat(rebuilt), tape.vjp(u), 1e-10)


def test_options_of_one_part_hold_for_it_alone():
    own = {"camera": {"channels": [5]}, "inner.0": {"embedding": 6}, "stack": {"image": "none"}}
    module = dataclasses.replace(SMALL, encoders=own).build(flat_space(PARTS), 2, seeded(0))
    kinds = [[type(m).__name__ for m in e.layers] for e in module.encoders]
    assert kinds[0] == ["_Pixels", "Conv2d", "Tanh", "Flatten", "Linear", "Tanh"]
    assert kinds[1] == ["Linear"] and kinds[3] == ["Linear", "Tanh"]
    assert [e.width for e in module.encoders] == [4, 6, 3, 3, 3]


@pytest.mark.parametrize("shape", [(1, 1), (3, 64, 64), (84, 84, 4), (5, 200, 3)])
def test_an_image_by_itself_may_have_any_size(shape):
    space = as_image(spaces.Box(0, 255, shape, np.uint8), "channels_last" if shape[0] == 5 else "auto")
    module = SMALL.build(space, 2, seeded(0))
    assert module(torch.randint(0, 256, (3, int(np.prod(shape))), dtype=torch.uint8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": ()}, "channels must be a list of one width or more"),
        ({"image": "last"}, "image must be one of auto"),
        ({"encoders": {"camera": 3}}, "encoders.camera must be a mapping of channels"),
        ({"encoders": {"camera": {"hidden": [3]}}}, "encoders.camera must be a mapping of channels"),
        ({"encoders": {"camera": {"channels": [0]}}}, "encoders.camera.channels must be a whole number"),
        ({"encoders": {"camera": {"channels": 3}}}, "encoders.camera.channels must be a list of whole numbers; got 3"),
        ({"encoders": {"camera": {"features": None}}}, "encoders.camera.features must be a whole number"),
        ({"encoders": {"lidar": {"vector": [3]}}}, "encoders must be by the keys .* camera, inner.0"),
        ({"encoders": {"camer": {"channels": [3]}}}, r"camera, inner.0.* \(did you mean camera\?\); got 'camer'"),
        ({"encoders": {"camera": {"embedding": 3}}}, "camera.embedding has no effect: .* an image, whose options are"),
        ({"encoders": {"inner.1": {"channels": [3]}}}, "inner.1.channels has no effect: .* numbers, .* are vector"),
        ({"encoders": {"switches": {"image": "none"}}}, "switches.image has no effect: .* as numbers"),
        ({"encoders": {"inner.0": {"vector": [3]}}}, "inner.0.vector has no effect: .* as categories, .* embedding"),
    ],
)
def test_what_does_not_suit_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(SMALL, **changes).build(flat_space(PARTS), 2, seeded(0))


def test_places_of_a_tuple_may_be_typed_as_numbers():
    space = flat_space(spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]))
    module = dataclasses.replace(SMALL, encoders={0: {"embedding": 6}, "1": {"vector": [5]}}).build(space, 2, seeded(0))
    assert [e.width for e in module.encoders] == [6, 5]


UNCLEAR = spaces.Box(0, 255, (4, 24, 4), np.uint8)


def test_the_option_that_tells_the_channels_is_named():
    """Of a part it is that of the network, of an image by itself observations.image."""
    space = as_image(flat_space(spaces.Dict({"camera": UNCLEAR, "task": spaces.Discrete(2)})), "auto")
    with pytest.raises(ValueError, match="of camera, Box.* type policy.image=channels_last .* critic.image"):
        SMALL.build(space, 2, seeded(0))
    dataclasses.replace(SMALL, image="channels_last").build(space, 2, seeded(0))
    with pytest.raises(rlopt.errors.UserError, match="type observations.image=channels_last"):
        as_image(UNCLEAR, "auto")
    alone = as_image(UNCLEAR, "channels_last")
    dataclasses.replace(SMALL, image="channels_last").build(alone, 2, seeded(0))
    with pytest.raises(ValueError, match="image=none is for the parts .* one image; type observations.image=none"):
        dataclasses.replace(SMALL, image="none").build(alone, 2, seeded(0))


@pytest.mark.parametrize("empty", [spaces.Box(0, 255, (0, 3), np.uint8), spaces.Box(0, 1, (0,))])
def test_a_part_without_numbers_is_refused_in_one_line(empty):
    space = as_image(flat_space(spaces.Dict({"camera": empty, "task": spaces.Discrete(2)})), "auto")
    with pytest.raises(ValueError, match="part camera, Box.* holds no number; leave it out by"):
        SMALL.build(space, 2, seeded(0))


TINY = ["total_steps=64", "batch_size=32", "env.num_envs=2", "evaluation.episodes=2"]
NETWORKS = [f"{where}.{option}" for where in ("policy", "critic") for option in ("channels=[2,2]", "features=8")]
ALGOS = {
    "ppo": ["algo=ppo"],
    "trpo": ["algo=trpo", "critic.schedule.epochs=1"],
    "kfac": ["algo=acktr", "policy.encoders={camera:{channels:[3]}}"],
    "raw": ["algo=vpg", "observations.normalise=false"],
}


@pytest.mark.parametrize("algo", ALGOS)
def test_one_update_of_a_dictionary_with_an_image(tmp_path, algo):
    with registered():
        typed = ["env.id=probe/Seeing-v0", "policy=multi_input", "critic=multi_input", *TINY, *NETWORKS, *ALGOS[algo]]
        run = rlopt.train(*typed, run_dir=tmp_path / "run")
        policy = rlopt.load(run.run_dir)
    env = Seeing()
    seen, _ = env.reset(seed=0)
    assert policy(seen) in range(4) and run.summary["steps"] == 64
    shift, scale = policy.frozen.shift_and_scale
    pixels = slice(0, 64 * 64)
    assert (shift[pixels] == 0).all() and torch.allclose(scale[pixels], torch.tensor(1 / 255))
    assert (scale[-3:] == 1).all() and bool((scale[-6:-3] != 1).all()) == (algo != "raw")


def test_a_mlp_beside_it_sees_pixels_over_255(tmp_path):
    with registered():
        typed = ["env.id=probe/Seeing-v0", "policy=multi_input", "policy.channels=[2]", "critic.hidden=[4]", "algo=vpg"]
        assert rlopt.train(*typed, *TINY, run_dir=tmp_path / "run").summary["steps"] == 64


@pytest.mark.parametrize("typed", [["policy.encoders={lidar:{vector:[3]}}"], ["policy.encoders.lidar.vector=[3]"]])
def test_a_key_that_is_not_there_is_refused_before_the_run(tmp_path, typed):
    with (
        registered(),
        pytest.raises(rlopt.errors.UserError, match="by the keys of the observations, camera, speed, task"),
    ):
        rlopt.train("env.id=probe/Seeing-v0", "policy=multi_input", *TINY, *typed, run_dir=tmp_path / "run")


def test_an_environment_of_one_vector_is_a_part_without_a_name(tmp_path):
    gym.register("probe/Half-v0", partial(gym.make, "CartPole-v1"))
    try:
        run = rlopt.train("env.id=probe/Half-v0", "policy=multi_input", *TINY, run_dir=tmp_path / "run")
    finally:
        del gym.registry["probe/Half-v0"]
    assert run.summary["steps"] == 64
