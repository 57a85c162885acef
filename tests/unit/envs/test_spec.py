"""What an environment is made from: what is refused, what is made, and how a mistake is explained."""

import pytest

from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError

pytestmark = pytest.mark.usefixtures("probe_environments")


def spec(id_: str = "CartPole-v1", **given) -> EnvSpec:
    values = {"num_envs": 2, "backend": "sync", "timeout": None, "kwargs": {}} | given
    return EnvSpec("name", id_, **values)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"backend": "async"}, "type workers=K"),
        ({"backend": "threads"}, "backend must be sync or envpool"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_options_outside_their_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        spec(**given)


def test_one_environment_has_observations_in_a_box():
    env = spec("probe/Dict-v0").make()
    assert env.observation_space.shape == env.reset(seed=0)[0].shape
    env.close()
    declared, _ = spec("probe/Dict-v0").spaces()
    assert type(declared).__name__ == "Dict"


def test_as_many_as_are_asked_for_are_stepped_together():
    for count, wanted in ((None, 2), (3, 3)):
        envs = spec().make_vector(count=count)
        assert envs.num_envs == wanted and envs.reset(seed=[0] * wanted)[0].shape == (wanted, 4)
        envs.close()


@pytest.mark.parametrize(("id_", "wanted"), [("probe/Seeded-v0", True), ("probe/Counter-v0", False)])
def test_it_is_tried_whether_a_seed_determines_an_episode(id_, wanted):
    assert spec(id_).is_reproducible() is wanted


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"id_": "CartPole-v"}, "env.id=CartPole-v: .*did you mean CartPole-v1"),
        ({"id_": "Nothing-v0"}, "--extensions DIR or --import MODULE"),
        ({"id_": "nowhere:Nothing-v0"}, "env.id=nowhere:Nothing-v0: No module named"),
        ({"kwargs": {"colour": "red"}}, "env.kwargs={'colour': 'red'} do not suit env.id=CartPole-v1"),
    ],
)
def test_an_environment_that_cannot_be_made_is_explained(given, says):
    with pytest.raises(UserError, match=says):
        spec(**given).make()
