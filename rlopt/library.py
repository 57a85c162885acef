"""The curvature machinery as a library, on any nn.Module: `rlopt.curvature` and `rlopt.solve`.

M = rlopt.curvature(module, heads.Categorical(3), inputs, metric="fisher")
s = rlopt.solve(M, g, solver="cg", damping=1e-2)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlopt.config.choices import choices, file, nearest
from rlopt.config.compose import load
from rlopt.config.schema import construct_part
from rlopt.core.curvature import Curvature
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import Metric, Objective, Solution, Solver
from rlopt.core.samples import Samples


class Matrix:
    """A metric M (P, P) at a module's parameters; P counts ``module.parameters()`` in order, then the head's scale."""

    def __init__(self, bound: Curvature, theta: Tensor, supplies: frozenset[str], metric: str):
        self.bound, self.theta, self.supplies, self.metric = bound, theta, supplies, metric

    @property
    def shape(self) -> tuple[int, int]:
        return self.bound.size, self.bound.size

    @torch.no_grad()
    def __matmul__(self, v: Tensor) -> Tensor:
        """M v, (P,) -> (P,)."""
        return self.bound.product(v)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """M as a tensor (P, P); small networks only."""
        return self.bound.dense()


def curvature(
    module: nn.Module,
    head: Head,
    inputs: Tensor,
    metric: str | Metric = "fisher",
    *,
    actions: Tensor | None = None,
    weights: Tensor | None = None,
    objective: str | Objective = "log_prob",
    advantages: Tensor | None = None,
) -> Matrix:
    """The metric of ``module``, whose outputs (B, O) ``head`` reads as a distribution, on inputs (B, ...).

    ``actions`` (B, ...) are needed by metrics that look at what was done (empirical Fisher, GGN, ...); those that look
    at an objective take ``objective`` and ``advantages`` (B,), which are 1 by default; ``weights`` (B,) >= 0 weigh the
    samples, equally by default. Raises ValueError where the metric's name is unknown, it needs actions that are not
    given, or the sizes do not fit.
    """
    part = _part("metric", metric)
    network = Network(module, head.constants)
    parameters = list(module.parameters())
    like = parameters[0] if parameters else inputs
    theta = network.layout.flatten(module, head.initial_constants().to(like))
    count = len(inputs)
    for name, value in (("actions", actions), ("weights", weights), ("advantages", advantages)):
        if value is not None and len(value) != count:
            raise ValueError(f"{name} must have one entry for each of the {count} inputs; got {len(value)}")
    name = metric if isinstance(metric, str) else type(metric).__name__
    if actions is None and part.requirements.reads_actions:
        raise ValueError(f"metric {name!r} looks at the actions that were taken; give actions=..., {count} of them")
    with torch.no_grad():
        tape = network.tape(theta, inputs)
        samples = Samples(
            inputs=inputs,
            actions=head.mode(tape.outputs) if actions is None else actions,
            weight=torch.ones(count).to(like) if weights is None else weights,
            advantages=torch.ones(count).to(like) if advantages is None else advantages,
            old_outputs=tape.outputs,
        )
        samples = samples.replacing(old_log_prob=head.log_prob(tape.outputs, samples.actions))
        bound, _ = part.bind(part.init(), tape, head, samples, _part("objective", objective))
    return Matrix(bound, theta, part.supplies, name)


@torch.no_grad()
def solve(M: Matrix, g: Tensor, solver: str | Solver = "cg", damping: float = 0.0) -> Solution:
    """x with (M + damping I) x = g as nearly as ``solver`` promises; g (P,).

    Raises ValueError where the solver cannot serve the metric, naming those that can.
    """
    part = _part("solver", solver)
    if lacking := part.needs - M.supplies:
        able = [name for name in choices("solver") if _part("solver", name).needs <= M.supplies]
        raise ValueError(
            f"solver {solver!r} cannot serve metric {M.metric!r}: it needs {', '.join(sorted(lacking))}. "
            f"These can: {', '.join(able)}"
        )
    apply, _ = part.prepare(part.init(), M.bound, damping)
    solution: Solution = apply(g)
    return solution


def _part(group: str, given: Any) -> Any:
    """A part by its name in conf/, with the options there, or the part itself."""
    if not isinstance(given, str):
        return given
    known = choices(group)
    if given not in known:
        raise ValueError(f"there is no {group} {given!r}{nearest(given, known)}; {group} is one of {', '.join(known)}")
    return construct_part(load(file(group, given)), group)
