"""Other trainers' names of options are told rlopt's, which exist."""

import re

import pytest

from rlopt.config import choices
from rlopt.config.compose import compose
from rlopt.config.synonyms import SYNONYMS, meant_by
from rlopt.errors import UserError
from rlopt.files import flatten
from tests.support.building import resolve


@pytest.mark.parametrize("typed, wanted", [
    ("ent_coef=0.01", "there is no option ent_coef; here it is objective.entropy"),
    ("learning_rate=3e-4", "there is no option learning_rate; here it is optimizer.lr"),
    ("clip_range=0.2", "here it is objective.clip"),
    ("n_steps=2048", "here it is batch_size=... (steps of all environments)"),
    ("critic.max_grad_norm=1", "here it is critic.step.max_norm"),
    ("algo=PPO", "algo=PPO: no such algo (did you mean ppo?)"),
    ("env=CartPole", "(did you mean cartpole?)"),
])  # fmt: skip
def test_a_name_from_elsewhere_is_told_in_one_line(typed, wanted):
    with pytest.raises(UserError) as caught:
        compose([typed])
    assert wanted in str(caught.value)


def test_no_synonym_is_an_option_of_rlopts_own():
    names = {"algo", *flatten(resolve([])), *flatten(resolve(["algo=ppo"]))}
    assert not names & set(SYNONYMS)


def test_what_is_meant_exists():
    known = set().union(
        *(flatten(resolve(o)) for o in (["algo=ppo"], ["algo=trpo"], ["critic=shared"], ["algo=ppo", "env=pendulum"]))
    )
    known = {re.sub(r"^(critic\.)?step\.(optimizer)\b", r"\1\2", name) for name in known} | {"algo", "critic"}
    for name, own in SYNONYMS.items():
        for part in own.partition(" (")[0].replace(" and ", " ").split():
            option, _, value = part.partition("=")
            assert option in known, (name, part)
            assert value in ("", "...", "wandb", "batch", "shared", "gsde"), part


def test_the_critics_options_are_the_critics():
    assert meant_by("critic.lr") == "critic.optimizer.lr" and meant_by("critic.ent_coef") == "objective.entropy"
    assert meant_by("nothing") is None and meant_by("Pi-LR") == "optimizer.lr"


def test_help_shows_every_option_of_the_run_and_of_a_choice(run):
    out = run("train", "--help")[1]
    for option in ("total_steps=100000", "record.tracker=null", "evaluation.every_updates=null"):
        assert re.search(rf"^  {re.escape(option)} +\w", out, re.MULTILINE), option
    out = run("train", "--help", "solver=cg")[1]
    assert out.startswith("solver=cg: ") and "  solver.iterations=" in out
    assert all(f"step={name}: " in run("train", "--help", "step")[1] for name in choices.choices("step"))
    code, _, err = run("train", "--help", "solver=gc")
    assert code == 2 and "there is no solver gc (did you mean cg?)" in err
