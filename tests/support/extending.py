"""A folder with a part of every kind and an environment of one's own."""

from pathlib import Path

HEAD = "from dataclasses import dataclass\nimport torch\nfrom typing import ClassVar\n"
FILES = {
    "metric/mine.yaml": "# my metric\n_target_: metric.mine.Mine\nscale: 2.0   # of J^T J\n",
    "metric/mine.py": HEAD
    + """
from rlopt.core.curvature import PullBack
from rlopt.core.parts import PRODUCT, SEMIDEFINITE, Requirements
from rlopt.core.checks import positive
from .helper import times

@dataclass(frozen=True)
class Mine:
    scale: float
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE})
    requirements = Requirements()

    def __post_init__(self):
        positive("scale", self.scale)

    def init(self):
        return {}

    def bind(self, state, tape, head, samples, objective):
        return PullBack(tape, samples.share, times(self.scale)), state
""",
    "metric/helper.py": "def times(scale):\n    return lambda t: scale * t\n",
    "solver/mine.yaml": "# my solver\n_target_: solver.mine.Mine\nrate: 0.1\n",
    "solver/mine.py": HEAD
    + """
from rlopt.core.parts import PRODUCT, Requirements, Solution

@dataclass(frozen=True)
class Mine:
    rate: float
    needs = frozenset({PRODUCT})
    requirements = Requirements()

    def init(self):
        return {"count": 0}

    def prepare(self, state, curvature, damping):
        def solve(g):
            x = self.rate * g
            return Solution(x, 1, 0.0, torch.dot(x, curvature.product(x)), damping)

        return solve, {"count": state["count"] + 1}
""",
    "objective/mine.yaml": "# my objective\n_target_: objective.mine.Mine\n",
    "objective/mine.py": "from rlopt.core.objectives.log_prob import LogProb\n\n\nclass Mine(LogProb):\n"
    "    def __init__(self):\n        super().__init__(0.0)\n",
    "damping/mine.yaml": "# my damping\n_target_: damping.mine.Mine\nvalue: 0.2\n",
    "damping/mine.py": "from rlopt.core.damping.constant import Constant\n\n\nclass Mine(Constant):\n    pass\n",
    "step/mine.yaml": "# my step\n_target_: step.mine.Mine\nrate: 0.01\n",
    "step/mine.py": "from rlopt.core.steps.fixed import Fixed\n\n\nclass Mine(Fixed):\n    pass\n",
    "env/mine.yaml": "# @package _global_\n# my environment\ndefaults: [any, _self_]\n"
    "env:\n  name: mine\n  id: Mine-v0\n  num_envs: 2\n",
    "env/mine.py": "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
    "class Mine(CartPoleEnv):\n    pass\n\n\n"
    "if 'Mine-v0' not in gym.registry:\n    gym.register('Mine-v0', Mine, max_episode_steps=30)\n",
}
PLAIN = ["--samples", "20", "--metric", "identity", "--solver", "identity"]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
