"""What is said where an environment cannot be made; `test_spec` sees it from the command line's side."""

import gymnasium as gym
import pytest

from rlopt.envs.explaining import explain
from rlopt.errors import UserError


def raised(make) -> BaseException:
    try:
        make()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def failing() -> None:
    raise RuntimeError("the door\nis shut")


@pytest.mark.parametrize(
    ("error", "id", "own", "says"),
    [
        (UserError("no"), "A-v0", False, "env.id=A-v0: no"),
        (gym.error.DependencyNotInstalled("box2d"), "LunarLander-v3", False, "rlopt-geometry[box2d]"),
        (ImportError("x"), "module:A", False, "env.id=module:A: x"),
        (raised(lambda: gym.make("CartPole-v9")), "CartPole-v9", False, "env.id=CartPole-v9: "),
        (raised(lambda: gym.make("CartPoule-v1")), "CartPoule-v1", False, "did you mean CartPole-v1"),
        (raised(lambda: gym.make("CartPoule-v1")), "CartPoule-v1", False, "env.id=FILE.py:CLASS"),
        (raised(lambda: (lambda: 0)(width=3)), "Own", True, "env.kwargs={'width': 3} do not suit env.id=Own"),
        (raised(failing), "Own", True, "RuntimeError: the door is shut"),
        (raised(failing), "Own", False, "test_explaining.py, line "),
    ],
)
def test_each_kind_of_error_is_one_line_that_helps(error, id, own, says):
    said = explain(error, id, {"width": 3}, own)
    assert says in said and "\n" not in said
