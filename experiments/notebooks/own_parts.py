# %% [markdown]
# # A network and a solver of one's own
# The network is a function that makes an `nn.Module`. A solver finds $x$ with $(M + \lambda I) x = g$; it is a class in
# a folder, with a `.yaml` beside it that has its options, and `extensions` makes it a choice like any other.

# %%
from pathlib import Path

import torch
from torch import nn

import rlopt

STEPS = 20_000  # of each training


# %%
def residual(observation_space, outputs, generator):
    """Two layers with a branch around the second. ``outputs`` is what the distribution over actions needs."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(observation_space.shape[0], 32), nn.Linear(32, 32)
            self.last = nn.Linear(32, outputs)

        def forward(self, x):
            h = torch.tanh(self.first(x))
            return self.last(h + torch.tanh(self.second(h)))

    return Residual()


network = rlopt.train("algo=trpo", policy=residual, total_steps=STEPS)
network.plot()

# %% [markdown]
# Its policy is loaded with the function, since a run's folder holds no code.

# %%
policy = rlopt.load(network.run_dir, policy=residual)
print(policy([0.0, 0.0, 0.1, 0.0]))

# %% [markdown]
# The solver is steepest descent with exact steps, $r = g - (M + \lambda I) x$, $x \leftarrow x + \frac{r^T r}{r^T (M +
# \lambda I) r} r$ (Cauchy 1847). It asks for products with $M$ alone, so that any metric will do.

# %%
folder = Path("my_parts/solver")
folder.mkdir(parents=True, exist_ok=True)
(folder / "steepest.yaml").write_text(
    "# steepest descent with exact steps\n_target_: solver.steepest.Steepest\niterations: 10\n"
)
(folder / "steepest.py").write_text("""
from dataclasses import dataclass

import torch
from rlopt.core.parts import PRODUCT, Requirements, Solution


@dataclass(frozen=True)
class Steepest:
    iterations: int

    needs = frozenset({PRODUCT})
    requirements = Requirements()

    def init(self):
        return {}

    def prepare(self, state, curvature, damping):
        def solve(g):
            x = torch.zeros_like(g)
            r = g
            for _ in range(self.iterations):
                Ar = curvature.product(r) + damping * r
                x = x + torch.dot(r, r) / torch.dot(r, Ar) * r
                r = g - curvature.product(x) - damping * x
            return Solution.measured(g, x, curvature.product(x), damping, float(self.iterations))

        return solve, state
""")

# %%
solver = rlopt.train("algo=trpo", "solver=steepest", total_steps=STEPS, extensions=["my_parts"])
usual = rlopt.train("algo=trpo", total_steps=STEPS)
for name, run in (("steepest", solver), ("cg", usual)):
    _, left = run.scalars("solver/residual")["solver/residual"]
    print(f"{name}: residual {left.mean():.2f}, evaluation return {run.summary['evaluation_return']:.0f}")

# %%
solver.plot("episode/return", "solver/residual")
