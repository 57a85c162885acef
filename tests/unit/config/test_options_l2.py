"""l2 and critic.l2 on the command line."""

import pytest

from rlopt.errors import UserError
from tests.support.building import resolve, trainer


@pytest.mark.parametrize("where", ["", "critic."])
def test_the_command_line_gives_each_network_its_own_weight(where):
    run = trainer(resolve(["env=cartpole", "critic.step=fixed", f"{where}l2=0.25"]))
    run.collector.close()
    weights = {name: learner.update.l2 for name, learner in run.agent.learners.items()}
    assert weights == ({"actor": 0.25, "critic": 0.0} if not where else {"actor": 0.0, "critic": 0.25})
    with pytest.raises(UserError, match=f"{where}l2 must be a finite number, 0 or above; got -1"):
        trainer(resolve([f"{where}l2=-1"]))


def test_the_term_is_refused_where_it_would_have_no_effect():
    for overrides, says in (
        (["critic=shared", "critic.l2=0.1"], "type l2"),
        (["algo=nac", "l2=0.1"], "no effect with solver=compatible"),
    ):
        with pytest.raises(UserError, match=says):
            trainer(resolve(overrides))
