"""Networks of one's own: from Python and from a folder, trained, loaded, and refused in one line."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rlopt
from rlopt.errors import UserError
from tests.support.extending import write
from tests.support.probes import registered

SMALL = ["total_steps=64", "batch_size=32", "env.num_envs=2", "evaluation.episodes=2", "critic.hidden=[4]"]


class Residual(nn.Module):
    """A residual branch behind layer normalisation."""

    def __init__(self, space: gym.Space, outputs: int, generator: torch.Generator):
        super().__init__()
        self.first = nn.Linear(space.shape[0], 6)
        self.norm, self.inner = nn.LayerNorm(6), nn.Linear(6, 6)
        self.last = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + torch.relu(self.inner(self.norm(h))))


def thetas(run_dir: Path, **functions: Any) -> Tensor:
    return rlopt.load(run_dir, **functions).frozen.theta


@pytest.mark.parametrize("solver", ["kfac", "ekfac", "diagonal", "block", "gram", "cg"])
def test_a_functions_networks_are_served_by_every_solver(tmp_path, solver):
    typed = ["algo=npg", f"solver={solver}", "step=kl_clip", "env=cartpole", *SMALL[:-1], "damping.value=0.1"]
    run = rlopt.train(*typed, policy=Residual, critic=Residual, run_dir=tmp_path / "run")
    assert run.summary["steps"] == 64
    policy = rlopt.load(run.run_dir, policy=Residual, critic=Residual)
    assert policy(np.zeros(4, np.float32)) in (0, 1)
    with pytest.raises(
        UserError, match=r"made by a Python function, .*Residual, which must be given again: rlopt\.load"
    ):
        rlopt.load(run.run_dir)


def test_a_function_that_is_not_given_again_is_asked_for(tmp_path):
    run = rlopt.train(*SMALL, "env=cartpole", policy=Residual, run_dir=tmp_path / "run")
    resumed = r"Residual, which must be given again: .*rlopt\.resume\(RUN_DIR, policy=Residual\)"
    with pytest.raises(UserError, match=resumed):
        rlopt.resume(run.run_dir, "total_steps=128")
    begun = r'must be given again: rlopt\.train\("init\.from=.*run", policy=Residual, \.\.\.\)$'
    with pytest.raises(UserError, match=begun):
        rlopt.train(*SMALL, "env=cartpole", f"init.from={run.run_dir}", run_dir=tmp_path / "next")
    typed = [*SMALL, "env=cartpole", f"init.from={run.run_dir}"]
    assert rlopt.train(*typed, policy=Residual, run_dir=tmp_path / "next").summary["steps"] == 64


def test_a_seed_alone_decides_the_weights(tmp_path):
    one, two = (
        rlopt.train(*SMALL, "env=cartpole", seed=3, policy=Residual, run_dir=tmp_path / name) for name in ("one", "two")
    )
    assert torch.equal(thetas(one.run_dir, policy=Residual), thetas(two.run_dir, policy=Residual))


FOLDER = {
    "policy/mine.yaml": "# mine\n_target_: policy.mine.Mine\nwidth: 5\ndefaults: [_head, _self_]\n",
    "policy/mine.py": """\
from dataclasses import dataclass
from torch import nn

@dataclass(frozen=True)
class Mine:
    width: int

    def build(self, space, outputs, generator):
        return nn.Sequential(nn.Linear(space.shape[0], self.width), nn.Tanh(), nn.Linear(self.width, outputs))
""",
    "critic/mine.yaml": "# mine\n_target_: policy.mine.Mine\nwidth: 3\nvariance: 1.0\ncompatible: null\n",
}


def test_a_class_with_build_is_a_choice_of_policy_and_critic(tmp_path):
    folder = write(tmp_path / "parts", FOLDER)
    run = rlopt.train(
        *SMALL[:-1], "env=pendulum", "policy=mine", "critic=mine", "policy.width=7", extensions=[folder],
        run_dir=tmp_path / "run",
    )  # fmt: skip
    policy = rlopt.load(run.run_dir, extensions=[folder])
    assert policy.frozen.network.layout.shapes[0] == (7, 3) and policy.frozen.network.plan is not None


def test_a_memory_is_behind_a_function_or_a_class(tmp_path):
    typed = [*SMALL[:-1], "env=pendulum", "algo=ppo", "schedule.sequence=8", "scheduler=constant"]
    of = ["policy.memory.size=5", "policy.memory.kind=gru", "critic.memory={size: 3}", "critic.schedule.sequence=8",
          "critic.scheduler=constant"]  # fmt: skip
    run = rlopt.train(*typed, *of, policy=Residual, critic=Residual, run_dir=tmp_path / "run")
    given: dict[str, Any] = {"policy": Residual, "critic": Residual}
    assert rlopt.resume(run.run_dir, "total_steps=96", **given).summary["steps"] == 96
    yaml = f"{FOLDER['policy/mine.yaml']}memory: {{kind: gru}}\n"
    parts = write(tmp_path / "parts", {**FOLDER, "policy/mine.yaml": yaml})
    own = rlopt.train(*typed, "policy=mine", "policy.memory.size=5", extensions=[parts], run_dir=tmp_path / "own")
    for folder, kwargs in ((run.run_dir, given), (own.run_dir, {"extensions": [parts]})):
        policy = rlopt.load(folder, **kwargs)
        policy(np.zeros(3, np.float32))
        assert policy.state is not None and policy.state.shape == (1, 5)
    with pytest.raises(UserError, match=r'rlopt\.train\("init\.from=.*", policy=Residual, \.\.\.\)$'):
        rlopt.train(*SMALL, "env=pendulum", f"init.from={run.run_dir}", run_dir=tmp_path / "next")


def test_a_dictionary_reaches_the_network_as_it_is(tmp_path):
    seen: list[Any] = []

    class Parts(nn.Module):
        def __init__(self, space: gym.Space, outputs: int, generator: torch.Generator):
            super().__init__()
            assert isinstance(space, gym.spaces.Dict)
            self.last = nn.Linear(64 * 64 + 3 + 3, outputs)

        def forward(self, x: dict[str, Tensor]) -> Tensor:
            seen.append({name: value.detach() for name, value in x.items()})
            return self.last(torch.cat([value.flatten(1) for value in x.values()], 1))

    with registered():
        typed = [*SMALL, "algo=vpg", "env.id=probe/Seeing-v0", "critic=multi_input", "critic.channels=[2]"]
        typed.remove("critic.hidden=[4]")
        rlopt.train(*typed, policy=Parts, run_dir=tmp_path / "run")
    shapes = {name: tuple(value.shape[1:]) for name, value in seen[-1].items()}
    assert shapes == {"camera": (64, 64, 1), "speed": (3,), "task": (3,)}
    assert seen[-1]["camera"].max() == 1 and seen[-1]["camera"].min() == 0  # pixels over 255
    assert seen[-1]["task"][:2].sum(1).tolist() == [1, 1]  # the other rows fill up a block


class Counting(Residual):
    def __init__(self, *given: Any):
        super().__init__(*given)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Dropping(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


class Mixing(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class Frozen(Residual):
    def __init__(self, *given: Any):
        super().__init__(*given)
        self.first.requires_grad_(False)


class Detached(Residual):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class ByNumpy(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(super().forward(x).detach().numpy())


class PartDetached(Residual):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.first(x)
        return self.last(torch.relu(self.inner(self.norm(h))))


class Named(Residual):
    def __init__(self, *given: Any):
        super().__init__(*given)
        self.constants = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.constants)


class Infinite(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


class InPlace(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class Unused(Residual):
    """With a layer that is never called, which is no fault."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.spare = nn.Linear(3, 3)


class Large(Residual):
    def __init__(self, *given: Any):
        super().__init__(*given)
        self.table = nn.Parameter(torch.ones(5000))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.table[:4])


def fails(space: gym.Space, outputs: int, generator: torch.Generator) -> nn.Module:
    raise KeyError("hidden")


REFUSED = {
    "buffer": (Counting, [], "its forward pass changes the buffer calls"),
    "dropout": (Dropping, [], "its outputs differ from call to call"),
    "mixed": (Mixing, [], "outputs for one observation depend on the others"),
    "detached": (Detached, [], "its outputs do not depend on its parameters by autograd"),
    "numpy": (ByNumpy, [], "its outputs do not depend on its parameters by autograd"),
    "part": (PartDetached, [], "its outputs do not depend on its parameter first.weight by autograd"),
    "constants": (Named, [], "its parameter constants must have another name"),
    "nan": (Infinite, [], "its outputs are not finite; one of them is nan"),
    "in place": (InPlace, [], "its forward pass changes its input in place"),
    "frozen": (Frozen, [], "first.weight has requires_grad=False"),
    "module": (nn.Linear(4, 2), [], "policy must be a function"),
    "raises": (fails, [], r"fails cannot be built: KeyError: 'hidden' \(.*test_own.py, line"),
    "no module": (lambda *given: 3, [], "must build a torch.nn.Module; got int"),
    "shape": (lambda space, outputs, generator: nn.Linear(4, outputs + 1), [], r"must return a tensor \(N, 2\)"),
    "inputs": (lambda space, outputs, generator: nn.Linear(5, outputs), [], "its forward pass fails: RuntimeError"),
    "no parameters": (lambda space, outputs, generator: nn.Softmax(1), [], "must return a tensor"),
    "kfra": (Residual, ["algo=npg", "solver=kfra"], "solver=kfra needs a multilayer perceptron .*solver=kfac"),
    "kfac": (Large, ["algo=npg", "solver=kfac"], "not for table of 5000; these need no such statistics: .*solver=cg"),
    "option": (Residual, ["policy.hidden=[4]"], "policy.hidden has no effect: the network is made by the function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, case):
    function, typed, says = REFUSED[case]
    with pytest.raises(UserError, match=says) as error:
        rlopt.train("env=cartpole", *SMALL, *typed, policy=function, run_dir=tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_layer_that_is_never_called_is_no_fault(tmp_path):
    run = rlopt.train("env=cartpole", *SMALL, policy=Unused, run_dir=tmp_path / "run")
    assert run.summary["steps"] == 64
