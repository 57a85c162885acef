"""What sizes and environments refuse, and what the refusal advises."""

import gymnasium as gym
import numpy as np
import pytest

from rlopt.config import read_config
from rlopt.config.fitting import check_environment, check_sees
from rlopt.errors import UserError
from tests.support.building import resolve, trainer

REFUSED = {
    "policy=nature_cnn env=cartpole": "policy=nature_cnn: .*; choose policy=",
    "solver=kfra policy.layer_norm=true": "solver=kfra needs a multilayer perceptron without layer normalisation",
    "critic=episodic algo=enac env=pendulum batch_size=800": "critic=episodic learns from whole episodes, of up to 200",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_does_not_fit_the_environment_is_refused(typed):
    with pytest.raises(UserError, match=REFUSED[typed]):
        trainer(resolve(typed.split()))


def test_normalising_what_stays_as_it_is_has_no_effect():
    config = read_config(["observations.normalise=true"])
    with pytest.raises(UserError, match="has no effect on images"):
        check_environment(config, None, False, None, 4)
    with pytest.raises(UserError, match="one-hots and bits, which stay as they are"):
        check_environment(config, None, False, range(4), 4)
    check_environment(config, None, False, range(3), 4)


def test_options_of_continuous_actions_have_no_effect_on_others():
    config = read_config(["policy.initial_sigma=0.3"])
    with pytest.raises(UserError, match="policy.initial_sigma has no effect: it is of continuous actions"):
        check_environment(config, None, False, (), 4)
    check_environment(config, None, True, (), 4)


def test_a_network_that_does_not_see_names_those_that_do():
    numbers = gym.spaces.Box(-1, 1, (4,), np.float32)
    with pytest.raises(UserError, match="^critic=nature_cnn: .*; choose policy=.*mlp critic=mlp"):
        check_sees("critic", read_config(["critic=nature_cnn"]).critic.network, numbers)
    check_sees("policy", read_config([]).policy.network, numbers)
