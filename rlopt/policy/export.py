"""Export: a policy as one graph that needs no rlopt, by torch.export (.pt2) or as ONNX (.onnx).

    observation (N, ...)                  ->  action (N, ...), outputs (N, O)
    observation (N, ...), memory (N, M)   ->  the same and memory (N, M), of a policy that has one

Observations of a Box have the environment's shape, and the type that the policy was trained in (images: bytes). Those
of any other space are flat, (N, D), as gymnasium.spaces.flatten gives them; with an action mask they are flat too, and
the mask stands behind them, (N, D + M). The graph normalises observations, squashes actions and keeps them within their
bounds. The action is the most probable one, as the environment takes it. An action of a Dict or a Tuple has its form in
.pt2; in .onnx each of its parts is an output, named by its place: action.KEY, action.0. The outputs are the parameters
of the distribution. The memory that comes out goes in with the next observation; where an episode begins it is 0.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import Product
from rlopt.core.tapes.masked import FORBIDDEN
from rlopt.envs.observations import leaves_of, observation_dtype, observation_size
from rlopt.envs.spaces import first_values, is_continuous, scale_and_shift, structured
from rlopt.errors import UserError, needs_extra
from rlopt.policy.policy import Policy

_EXAMPLES = 3  # observations to trace with; the graph takes any number of them


class Graph(nn.Module):
    """A policy in torch alone: raw observations (N, ...) -> actions (N, ...) and outputs z (N, O).

    One with memory is given it and returns what it is after the step, (N, M).
    """

    def __init__(self, policy: Policy):
        super().__init__()
        frozen, space = policy.frozen, policy.action_space
        views = {name: view.clone() for name, view in frozen.network.layout.views(frozen.theta).items()}
        self.register_buffer("constants", views.pop(CONSTANTS, frozen.theta.new_empty(0)))
        self.network = copy.deepcopy(frozen.network.module)
        self.network.load_state_dict(views, strict=False)  # buffers stay, and a tied parameter has one name in theta
        self.network.requires_grad_(False)
        self.head, self.clip, self.mask = policy.head, frozen.clip, frozen.network.unread
        self.space, squash = space, getattr(policy.head, "squash", False)
        self.parts = nn.ModuleList(_Part(leaf, squash, frozen.theta.dtype) for leaf in leaves_of(space))
        if isinstance(self.head, Product):
            self.head.unpack(self.head.mode(torch.zeros(1, frozen.width)))  # it notes the forms of its actions now
        self.normalises = frozen.shift_and_scale is not None
        if frozen.shift_and_scale:
            self.register_buffer("shift_and_scale", torch.stack(frozen.shift_and_scale))

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> tuple[Any, ...]:
        x = observation.flatten(1)
        if self.normalises:
            shift, scale = self.get_buffer("shift_and_scale")
            x = ((x - shift) * scale).clamp(-self.clip, self.clip)
        allowed, seen = x[:, x.shape[1] - self.mask :] > 0, x[:, : x.shape[1] - self.mask]
        after: tuple[Tensor, ...] = ()
        if memory is None:
            z = self.network(seen)
        else:
            z, *after = self.network.step(seen, memory)  # type: ignore[operator]
        z = z[:, -self.head.network_outputs :]  # after the values, if the network has any
        if self.mask:
            z = torch.where(allowed, z, FORBIDDEN)
        z = torch.cat([z, self.get_buffer("constants").expand(z.shape[0], -1)], 1)
        a = self.head.mode(z)
        actions = self.head.unpack(a) if isinstance(self.head, Product) else [a]
        taken = (part(own) for part, own in zip(self.parts, actions, strict=True))
        return structured(self.space, iter(taken)), z, *after


class _Part(nn.Module):
    """Policy actions (N, ...) as an undivided space takes them; as envs.spaces.ActionTransform, in torch."""

    def __init__(self, space: gym.Space, squash: bool, dtype: torch.dtype):
        super().__init__()
        self.shape, self.dtype = space.shape or (), torch.from_numpy(np.zeros(0, space.dtype)).dtype
        self.squash, self.continuous = squash, is_continuous(space)
        if not self.continuous:
            self.register_buffer("start", torch.from_numpy(first_values(space)))
            return
        assert isinstance(space, spaces.Box)
        a, b = (torch.from_numpy(x) for x in scale_and_shift(space))
        bounds = a, b, *(torch.from_numpy(x.reshape(-1).astype(np.float64)) for x in (space.low, space.high))
        self.register_buffer("bounds", torch.stack(bounds).to(dtype))

    def forward(self, a: Tensor) -> Tensor:
        if not self.continuous:
            return (a.reshape(-1, *self.shape) + self.get_buffer("start")).to(self.dtype)
        scale, shift, low, high = self.get_buffer("bounds")
        a = (a.tanh() if self.squash else a) * scale + shift
        return a.clamp(low, high).to(self.dtype).reshape(-1, *self.shape)


def _names(space: gym.Space, name: str = "action") -> Iterator[str]:
    """A name for each of a space's `leaves_of`, in their order."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield name
        return
    for key, part in space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces):
        yield from _names(part, f"{name}.{key}")


def export(policy: Policy, path: str | Path) -> Path:
    """Write ``policy`` to ``path``, which must end in .onnx or .pt2. Raises UserError where it does not.

    ONNX needs the extra `export`.
    """
    if not isinstance(policy, Policy):
        raise UserError(f"a policy is exported as rlopt.load(RUN_DIR) returns it; got {policy!r}")
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{path}: a policy is exported to .onnx or to .pt2, which torch.export.load reads")
    box, dtype = policy.flat, policy.frozen.theta.dtype
    mask = policy.frozen.network.unread
    is_flat = mask or not isinstance(policy.observation_space, spaces.Box)
    shape = (observation_size(box) + mask,) if is_flat else box.shape
    example = torch.zeros(_EXAMPLES, *(shape or ()), dtype=observation_dtype(box, dtype))
    count, given = torch.export.Dim("count"), [example]
    inputs, outputs = ["observation"], [*_names(policy.action_space), "outputs"]
    if size := policy.frozen.memory_size:
        given.append(torch.zeros(_EXAMPLES, size, dtype=dtype))
        inputs, outputs = [*inputs, "memory"], [*outputs, "next_memory"]
    program = torch.export.export(Graph(policy).eval(), tuple(given), dynamic_shapes=tuple({0: count} for _ in given))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pt2":
        torch.export.save(program, path)
        return path
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(needs_extra("ONNX needs packages that are not installed", "export")) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own code causes some
        torch.onnx.export(program, (), path, input_names=inputs, output_names=outputs, dynamo=True,
                          external_data=False, verbose=False)  # fmt: skip
    return path
