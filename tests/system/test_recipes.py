"""Recipes are used without being typed, and say so."""

import pytest

from rlopt.config.choices import choices

SHORT = ["total_steps=80", "batch_size=80", "evaluation.episodes=0", "record.tensorboard=false", "run_dir=here"]
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        (["algo=npg"], "npg on Pendulum-v1, recipe npg-pendulum, seed 0, in here"),
        (["algo=npg", "recipe=null"], "npg on Pendulum-v1, seed 0, in here"),
        (["algo=trpo"], "trpo on Pendulum-v1, seed 0, in here"),
    ],
)
def test_the_first_line_of_a_run_names_its_recipe(run, typed, first):
    code, _, err = run("train", "env=pendulum", *typed, *SHORT)
    assert code == 0 and err.splitlines()[0] == first


def test_help_names_every_recipe(run):
    shown = run("train", "--help")[1].partition("Recipes:")[2]
    assert choices("recipe") and all(f"\n  {name} " in shown for name in choices("recipe"))
