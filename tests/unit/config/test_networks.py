"""Networks of a configuration: made of their own options, the others left to the head; or of a Python function."""

import pytest

from rlopt.config.networks import give_network, parse_network, sees_images
from rlopt.config.saved import read_choice
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP


def test_a_network_takes_its_options_and_leaves_the_rest():
    network, rest = parse_network({**read_choice("policy", "mlp"), "hidden": [7]}, "policy")
    assert isinstance(network, MLP) and list(network.hidden) == [7]
    assert "head" in rest and not {"hidden", "activation", "_target_"} & set(rest)


def test_a_class_that_builds_no_network_is_refused():
    with pytest.raises(UserError, match=r"policy\._target_ must name a class of networks, with a method build"):
        parse_network({**read_choice("policy", "gru"), "_target_": "rlopt.policy.recurrent.Memory"}, "policy")


@pytest.mark.parametrize(("name", "images"), [("mlp", False), ("nature_cnn", True)])
def test_only_a_network_of_images_sees_images(name, images):
    assert sees_images(parse_network(read_choice("policy", name), "policy")[0]) == images


def test_a_function_takes_the_place_of_a_network():
    plain = {"policy": read_choice("policy", "mlp")}
    give_network(plain, "policy", "mine", ["seed"])
    assert plain["policy"]["function"] == "mine" and "hidden" not in plain["policy"]
    plain = {"policy": read_choice("policy", "mlp")}
    with pytest.raises(UserError, match="policy.hidden has no effect: the network is made by the function mine"):
        give_network(plain, "policy", "mine", ["policy.hidden"])
