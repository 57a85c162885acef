"""What a game of several agents asks of the other choices."""

import pytest

from rlopt.config.groups import SelfPlayOptions
from rlopt.errors import UserError
from tests.support.games import Fading, Higher, make_trainer

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ("env.num_envs=4", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=0")


def test_rows_are_copies_times_agents(capsys):
    run = make_trainer(Fading, *SMALL, "batch_size=120")
    env = run.config.env
    assert env.num_envs == run.collector.num_envs == 12 and env.agents == ("fader_0", "fader_1", "fader_2")
    assert env.steps_by == "agents" and run.config.plain["env"]["num_envs"] == 4
    said = "4 copies x 3 that learn = 12 rows, and a batch of 120 transitions is 10 steps of each"
    assert said in capsys.readouterr().err


REFUSED = {
    "batch": (Fading, ["batch_size=128"], "4 copies of the game x 3 learning agents = 12 rows; got 128; try batch_size=132"),
    "workers": (Fading, ["batch_size=120", "workers=5"], "workers=5 are more than the 4"),
    "reuse": (Fading, ["batch_size=120", "reuse.batches=2"], "set reuse.batches=1"),
    "compatible": (Fading, ["batch_size=120", "algo=nac"], "critic=lstd reads whole batches.*choose critic=mlp"),
    "names": (Fading, ["batch_size=120", "env.agents=[a]"], "env.agents follows from the game and cannot be chosen"),
    "wrappers": (Fading, ["batch_size=120", "env.wrappers=[time_limit:5]"], "wrappers are for one agent"),
    "sides": (Higher, ["batch_size=80", "self_play.every=2", "self_play.first=[x]"], "sides of 0 and 2 .*needs two sides"),
    "unequal": (Fading, ["batch_size=120", "self_play.every=2"], "sides of 1 and 2 .*choose self_play.side=first or second"),
    "one copy": (Higher, ["batch_size=80", "self_play.every=2", "env.num_envs=1"], "type env.num_envs=2 or more"),
    "in workers": (Higher, ["batch_size=80", "self_play.every=2", "workers=2"], "leave out workers and torchrun"),
    "with memory": (Higher, ["batch_size=80", "self_play.every=2", "policy=gru"], "takes no policy with memory yet"),
    "every": (Higher, ["batch_size=80", "self_play.every=0"], "self_play.every must be a whole number, 1 or above"),
    "no effect": (Higher, ["batch_size=80", "self_play.side=first"], "self_play.side has no effect"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(name):
    game, typed, message = REFUSED[name]
    given = {text.split("=")[0] for text in typed}
    kept = [option for option in SMALL if option.split("=")[0] not in given | {"policy.hidden"}]
    with pytest.raises(UserError, match=message):
        make_trainer(game, *kept, *typed)


@pytest.mark.parametrize(
    ("side", "first", "wanted"),
    [
        ("alternate", (), ((0, 1), (2, 3))),
        ("first", ("a",), ((0,),)),
        ("second", ("a",), ((1, 2, 3),)),
        ("alternate", ("b", "c*"), ((1, 2), (0, 3))),
    ],
)
def test_the_sides_of_self_play(side, first, wanted):
    assert SelfPlayOptions(3, side, first).learners(("a", "b", "c", "d")) == wanted
    assert SelfPlayOptions(None, side, first).learners(("a", "b")) == ((0, 1),)
