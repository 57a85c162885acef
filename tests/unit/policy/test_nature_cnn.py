import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rlopt.config.choices import conf_dir
from rlopt.config.saved import load
from rlopt.core.network import Network
from rlopt.envs.observations import as_image
from rlopt.policy.mlp import MLP
from rlopt.policy.nature_cnn import NatureCNN
from tests.support.choices import Choice
from tests.support.oracles import close, seeded

YAML = load(conf_dir() / "policy" / "nature_cnn.yaml")
FIELDS = ("channels", "kernels", "strides", "hidden", "activation", "gain", "last_gain")
OF_THE_PAPER = NatureCNN(**{name: tuple(v) if isinstance(v := YAML[name], list) else v for name in FIELDS})
SMALL = NatureCNN((2, 3), (3, 2), (2, 1), (5,), "tanh", 1.5, 0.1)


def images_of(shape: tuple[int, ...], high: int = 255, order: str = "auto") -> spaces.Space:
    return as_image(spaces.Box(0, high, shape, np.uint8), order)


def test_the_network_of_the_paper_has_its_sizes():
    module = OF_THE_PAPER.build(images_of((84, 84, 4)), 6, seeded(0))
    shapes = [tuple(p.shape) for p in module.parameters()]
    assert shapes == [
        (32, 4, 8, 8), (32,), (64, 32, 4, 4), (64,), (64, 64, 3, 3), (64,), (512, 3136), (512,), (6, 512), (6,),
    ]  # fmt: skip


def test_weights_are_orthogonal_with_their_gains_and_biases_zero():
    module = SMALL.build(images_of((9, 9)), 4, seeded(0))
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer, gain in zip(layers, [1.5, 1.5, 1.5, 0.1], strict=True):
        w = layer.weight.detach().flatten(1)
        w = w if w.shape[0] <= w.shape[1] else w.T
        assert close(w @ w.T, gain**2 * torch.eye(len(w)), 1e-5)
        assert (layer.bias == 0).all()
    again = SMALL.build(images_of((9, 9)), 4, seeded(0))
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("shape", "order"),
    [((7, 9), lambda x: x[:, None]), ((7, 9, 3), lambda x: x.transpose(0, 3, 1, 2)), ((3, 7, 9), lambda x: x)],
)
@pytest.mark.parametrize(
    ("high", "dtype"), [(255, torch.float32), (255, torch.float64), (1, torch.float32), (9, torch.float32)]
)
def test_pixels_reach_the_first_convolution_over_their_largest(shape, order, high, dtype):
    images = np.random.default_rng(0).integers(0, high + 1, (5, *shape), np.uint8)
    module = SMALL.build(images_of(shape, high), 4, seeded(0)).to(dtype)
    seen = []
    module.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z = module(torch.from_numpy(images.reshape(5, -1)))
    assert z.dtype == dtype and z.shape == (5, 4)
    np.testing.assert_allclose(seen[0].detach().numpy(), order(images) / high, rtol=1e-6)


def test_a_network_on_bytes_has_the_products_of_its_jacobian():
    module = SMALL.build(images_of((7, 6)), 2, seeded(0)).double()
    network = Network(module)
    theta = network.layout.flatten(module) + 0.1
    inputs = torch.randint(0, 256, (3, 42), generator=seeded(1), dtype=torch.uint8)
    J = torch.func.jacrev(lambda theta: torch.func.functional_call(module, network.layout.views(theta), (inputs,)))(
        theta
    )
    tape, v = network.tape(theta, inputs), torch.randn(len(theta), generator=seeded(2), dtype=torch.float64)
    assert close(tape.jvp(v), J @ v, 1e-10)
    assert close(tape.vjp(J[:, :, 0]), torch.einsum("bop,bo->p", J, J[:, :, 0]), 1e-10)
    assert torch.equal(network.outputs(theta, inputs), tape.outputs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": ()}, "channels must be a list of one width or more"),
        ({"kernels": (3,)}, r"kernels must be a list of 2, one for each of channels; got \[3\]"),
        ({"strides": (1, 1, 1)}, "strides must be a list of 2"),
        ({"strides": (1, 0)}, "strides must be a whole number, 1 or above; got 0"),
        ({"activation": "tahn"}, "activation must be one of tanh"),
    ],
)
def test_what_is_no_network_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        NatureCNN(**{name: getattr(SMALL, name) for name in FIELDS} | changes)


def test_each_network_refuses_what_it_does_not_see():
    mlp, box = MLP((4,), "tanh", True, 1.0, 1.0), spaces.Box(-1, 1, (4,), np.float32)
    with pytest.raises(ValueError, match="does not see images; the observations are images, 10 x 8 pixels, 3 channels"):
        mlp.build(images_of((10, 8, 3)), 2, seeded(0))
    with pytest.raises(ValueError, match="sees images, Boxes of uint8 in 2 or 3 dimensions; the observations are Box"):
        SMALL.build(box, 2, seeded(0))
    mlp.sees(box)
    mlp.sees(spaces.Box(0, 255, (10, 8, 3), np.uint8))  # numbers, as long as nobody takes them for images
    SMALL.sees(images_of((10, 8, 3)))


def test_images_smaller_than_the_kernels_are_refused():
    OF_THE_PAPER.build(images_of((36, 36, 1)), 2, seeded(0))
    with pytest.raises(
        ValueError, match=r"kernels \[8, 4, 3\] with strides \[4, 2, 1\] are too large for 35 x 36 pixels, 1 channel"
    ):
        OF_THE_PAPER.build(images_of((35, 36, 1)), 2, seeded(0))


# --- the command line

TINY = ["total_steps=64", "batch_size=32", "env.num_envs=2", "evaluation.episodes=3"]
NETWORKS = [
    "policy=nature_cnn", "policy.channels=[4]", "policy.kernels=[3]", "policy.strides=[2]", "policy.hidden=[8]",
]  # fmt: skip
CRITIC = ["critic=nature_cnn", "critic.channels=[4]", "critic.kernels=[3]", "critic.strides=[2]", "critic.hidden=[8]"]


@pytest.fixture
def command(run, elsewhere, probe_environments):
    return run


@pytest.mark.parametrize(
    "algo",
    [
        ["algo=ppo", *CRITIC],
        ["algo=trpo", "critic=shared"],
        ["algo=npg", "solver=kfac", "step=kl_clip", "critic.metric=gauss_newton", "critic.solver=ekfac",
         "critic.step=fixed", *CRITIC],
    ],
    ids=["ppo", "shared", "kfac"],
)  # fmt: skip
def test_a_policy_of_images_is_trained_saved_and_evaluated(command, algo):
    code, _, err = command("train", "env.id=probe/ImageLast-v0", "run_dir=run", *TINY, *NETWORKS, *algo)
    assert code == 0, err
    assert json.loads(Path("run/summary.json").read_text())["steps"] == 64
    code, out, err = command("eval", "run", "--episodes", "4", "--json")
    assert code == 0, err
    assert len(json.loads(out)["deterministic"]["returns"]) == 4


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            ["observations.image=channels_last"],
            "policy=mlp: a multilayer perceptron does not see images; the observations are images, 10 x 8 pixels, 3 channels; "
            "choose policy=multi_input critic=multi_input",
        ),
        (
            ["policy=nature_cnn", "observations.image=none"],
            "policy=nature_cnn: a convolutional network sees images, Boxes",
        ),
        (
            NETWORKS,
            "critic=mlp: a multilayer perceptron does not see images; the observations are images, 10 x 8 pixels, 3 channels; "
            "choose policy=multi_input critic=multi_input",
        ),
        (
            ["policy=nature_cnn"],
            "policy=nature_cnn: kernels [8, 4, 3] with strides [4, 2, 1] are too large for "
            "10 x 8 pixels, 3 channels; choose policy=multi_input critic=multi_input",
        ),
        (["critic=nature_cnn"], "critic=nature_cnn: a convolutional network sees images, Boxes of uint8"),
    ],
)
def test_images_and_networks_that_do_not_go_together_are_refused(command, typed, says):
    code, _, err = command("train", "env.id=probe/ImageLast-v0", *TINY, *typed)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("typed", [[], ["policy=small_cnn", "critic=small_cnn"], ["policy=small_cnn", "critic=shared"]])
@pytest.mark.parametrize("probe", ["Image", "ImageFirst"])
def test_small_images_are_for_a_perceptron_or_small_kernels(command, probe, typed):
    algo = "algo=trpo" if "critic=shared" in typed else "algo=ppo"
    code, _, err = command("train", f"env.id=probe/{probe}-v0", "run_dir=run", algo, *TINY, *typed)
    assert code == 0, err
    code, out, err = command("eval", "run", "--episodes", "2", "--json")
    assert code == 0 and len(json.loads(out)["deterministic"]["returns"]) == 2, err


def test_a_large_image_for_a_perceptron_is_told_of(command):
    with registered_picture():
        code, _, err = command(
            "train", "env.id=plain/Picture-v0", *TINY[:-1], "evaluation.episodes=0", "policy.hidden=[2]"
        )
    assert code == 0 and "observations, Box(40, 36) of uint8, are taken as plain numbers; for a policy that sees" in err


@contextmanager
def registered_picture() -> Iterator[None]:
    make = partial(Choice, lambda: spaces.Box(0, 255, (40, 36), np.uint8), lambda: spaces.Discrete(2), lambda o, a: 1.0)
    gym.register("plain/Picture-v0", entry_point=make)
    try:
        yield
    finally:
        del gym.registry["plain/Picture-v0"]
