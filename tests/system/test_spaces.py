"""PPO and TRPO on an environment for every kind of space; see tests/support/choices.py."""

import pytest
import torch

from rlopt.config import read_config
from rlopt.errors import UserError
from rlopt.training.factory import build
from tests.support.building import trainer
from tests.support.probes import GAMMA, resolved

pytestmark = pytest.mark.usefixtures("probe_environments")

COMMON = [
    "env.num_envs=8", f"gamma={GAMMA}", "batch_size=256", "rewards.scale=false", "critic.optimizer.lr=0.01",
    "critic.schedule.epochs=5", "critic.schedule.minibatch=64", "evaluation.episodes=50", "checkpoint.every_seconds=null",
]  # fmt: skip
FASTER = {
    "trpo": ["step.radius=0.1"],
    "ppo": ["optimizer.lr=0.005", "schedule.epochs=5", "scheduler=constant", "critic.scheduler=constant"],
}
PERCEPTRON = ["policy.hidden=[32]", "critic.hidden=[16]"]
CONVOLUTIONS = [
    "policy=nature_cnn", "policy.channels=[4,8]", "policy.kernels=[3,3]", "policy.strides=[2,1]", "policy.hidden=[16]",
    "critic=nature_cnn", "critic.channels=[4]", "critic.kernels=[4]", "critic.strides=[2]", "critic.hidden=[16]",
]  # fmt: skip


@pytest.fixture(params=FASTER)
def train(request, tmp_path):
    """A function that trains on a probe and returns the run and its summary."""

    def run(probe: str, updates: int, *overrides: str) -> tuple:
        typed = [f"algo={request.param}", "env.id=probe/Constant-v0", *COMMON, *FASTER[request.param], *overrides]
        config = resolved(*typed)
        config["env"]["id"] = f"probe/{probe}-v0"
        config |= {"total_steps": 256 * updates, "run_dir": str(tmp_path / "run")}
        made = trainer(config)
        return made, made.run()

    return run


def test_one_hots_are_not_normalised_and_numbers_beside_them_are(train):
    run, _ = train("Dict", 2, *PERCEPTRON)
    assert run.agent.observations.indicators == (0, 1, 2, 3, 4, 5)  # high and low before which
    batch = run.collector.collect(run.agent.policy(run.state))
    raw, inputs = batch.observations.flatten(0, 1), batch.inputs[:-1].flatten(0, 1)
    assert torch.equal(inputs[:, :6], raw[:, :6]) and set(raw[:, :6].unique().tolist()) == {0, 1}
    assert inputs[:, 6].std() > 1.5 * raw[:, 6].std()


MIXED = [pytest.param(name, marks=pytest.mark.learning) for name in ("Mixed", "MixedTuple", "Whole")]


@pytest.mark.parametrize("probe", ["MultiDiscrete", "MultiBinary", "Discrete", "Dict", "Tuple", *MIXED])
def test_every_kind_of_space_is_learned(train, probe):
    _, summary = train(probe, 15, *PERCEPTRON)
    assert summary["evaluation_return"] > 0.9
    assert summary["return_mean"] > 0.8


def test_workers_collect_the_same_images_as_one_process(tmp_path):
    runs = [
        trainer(
            resolved("algo=ppo", "env.id=probe/ImageLast-v0", *COMMON, *CONVOLUTIONS, f"workers={workers}")
            | {"run_dir": str(tmp_path / str(workers))}
        )
        for workers in (1, 2)
    ]
    one, two = (run.collector.collect(run.agent.policy(run.state)) for run in runs)
    for run in runs:
        run.collector.close()
    assert one.inputs.dtype == one.final.dtype == torch.uint8
    assert one.inputs.max() == 255 and torch.equal(one.inputs[:-1], one.observations)
    assert all(
        torch.equal(getattr(one, name), getattr(two, name)) for name in ("inputs", "actions", "outputs", "rewards")
    )


def test_normalising_images_is_refused_where_it_was_typed(tmp_path):
    given = ["env.id=probe/ImageLast-v0", *COMMON, *CONVOLUTIONS, "observations.normalise=true", f"run_dir={tmp_path}"]
    with pytest.raises(UserError, match="observations.normalise=true has no effect on images, whose pixels"):
        build(read_config(given), tmp_path)
    given[-2] = "observations.normalise=false"
    build(read_config(given), tmp_path).collector.close()


LONGER = [pytest.param(name, marks=pytest.mark.learning) for name in ("Image", "ImageFirst")]


@pytest.mark.parametrize("probe", ["ImageLast", *LONGER])
def test_images_are_learned_by_convolutions(train, probe):
    run, summary = train(probe, 12, *CONVOLUTIONS)
    assert summary["evaluation_return"] > 0.9
    assert run.state["observations"] == {}


def test_targets_near_the_bounds_are_reached_through_tanh(train):
    """The best means are atanh(+-2.9 / 3) = +-2.04."""
    _, summary = train("Squashed", 30, *PERCEPTRON, "policy.squash=true")
    assert summary["evaluation_return"] > -0.05
