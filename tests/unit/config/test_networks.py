"""Networks of a configuration: made of their own options, the others left to the head; or of a Python function."""

import pytest

from rlopt.config.networks import give_network, parse_network, sees_images, without_memory
from rlopt.config.saved import read_choice
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP
from rlopt.policy.recurrent import Memory


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
    give_network(plain, "policy", "mine", {"seed": 1})
    assert plain["policy"]["function"] == "mine" and "hidden" not in plain["policy"]
    plain = {"policy": read_choice("policy", "mlp")}
    with pytest.raises(UserError, match="policy.hidden has no effect: the network is made by the function mine"):
        give_network(plain, "policy", "mine", {"policy.hidden": [7]})


@pytest.mark.parametrize(("where", "last_gain"), [("policy", 0.01), ("critic", 1.0)])
def test_a_memory_has_the_usual_options_for_those_not_given(where, last_gain):
    network, _ = parse_network({**read_choice(where, "mlp"), "memory": {"kind": "lstm", "size": 7}}, where)
    assert network.memory == Memory("lstm", 7, last_gain, 32)
    with pytest.raises(UserError, match=rf"{where}\.memory\.units is no option"):
        parse_network({**read_choice(where, "mlp"), "memory": {"units": 7}}, where)


def test_the_memory_of_a_function_is_taken_from_what_was_typed():
    overrides = ["policy.memory.size=7", "policy.memory={kind: gru}", "critic.memory.size=3", "policy.hidden=[4]"]
    assert without_memory(overrides, ["policy"]) == overrides[2:]
    plain = {"policy": read_choice("policy", "mlp")}
    give_network(plain, "policy", "mine", {"policy.memory": {"kind": "gru"}, "policy.memory.size": 7})
    assert plain["policy"]["memory"] == {"kind": "gru", "size": 7}
