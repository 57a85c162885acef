"""Export: a policy as one graph that needs no rlopt, by torch.export (.pt2) or as ONNX (.onnx).

    observation (N, ...)  ->  action (N, ...), outputs (N, O)

Observations of a Box have the environment's shape, and the type that the policy was trained in (images: bytes). Those
of any other space are flat, (N, D), as gymnasium.spaces.flatten gives them. The graph normalises observations, squashes
actions and keeps them within their bounds. The action is the most probable one, as the environment takes it. The
outputs are the parameters of the distribution.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import DiagonalGaussian
from rlopt.envs.spaces import observation_dtype, observation_size, scale_and_shift
from rlopt.errors import UserError, needs_extra
from rlopt.policy.policy import Policy

_EXAMPLES = 3  # observations to trace with; the graph takes any number of them


class Graph(nn.Module):
    """A policy in torch alone: raw observations (N, ...) -> actions (N, ...) and outputs z (N, O)."""

    def __init__(self, policy: Policy):
        super().__init__()
        frozen, space = policy.frozen, policy.action_space
        views = {name: view.clone() for name, view in frozen.network.layout.views(frozen.theta).items()}
        self.register_buffer("constants", views.pop(CONSTANTS, frozen.theta.new_empty(0)))
        self.network = copy.deepcopy(frozen.network.module)
        self.network.load_state_dict(views, strict=False)  # buffers stay, and a tied parameter has one name in theta
        self.network.requires_grad_(False)
        self.head, self.clip = policy.head, frozen.clip
        self.shape, self.dtype = space.shape or (), torch.from_numpy(np.zeros(0, space.dtype)).dtype
        self.normalises = frozen.shift_and_scale is not None
        if frozen.shift_and_scale:
            self.register_buffer("shift_and_scale", torch.stack(frozen.shift_and_scale))
        if isinstance(space, spaces.Box):
            a, b = (torch.from_numpy(x) for x in scale_and_shift(space))
            bounds = a, b, *(torch.from_numpy(x.reshape(-1).astype(np.float64)) for x in (space.low, space.high))
            self.register_buffer("bounds", torch.stack(bounds).to(frozen.theta.dtype))
        else:
            self.register_buffer("start", torch.from_numpy(np.asarray(getattr(space, "start", 0))))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        x = observation.flatten(1)
        if self.normalises:
            shift, scale = self.get_buffer("shift_and_scale")
            x = ((x - shift) * scale).clamp(-self.clip, self.clip)
        z = self.network(x)[:, -self.head.network_outputs :]  # after the values, if the network has any
        z = torch.cat([z, self.get_buffer("constants").expand(z.shape[0], -1)], 1)
        return self._transform(self.head.mode(z)), z

    def _transform(self, a: Tensor) -> Tensor:
        """Policy actions (N, ...) as the environment takes them; as envs.spaces.ActionTransform, in torch."""
        if not isinstance(self.head, DiagonalGaussian):
            return (a.reshape(-1, *self.shape) + self.get_buffer("start")).to(self.dtype)
        scale, shift, low, high = self.get_buffer("bounds")
        a = (a.tanh() if self.head.squash else a) * scale + shift
        return a.clamp(low, high).to(self.dtype).reshape(-1, *self.shape)


def export(policy: Policy, path: str | Path) -> Path:
    """Write ``policy`` to ``path``, which must end in .onnx or .pt2. Raises UserError where it does not.

    ONNX needs the extra `export`.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{path}: a policy is exported to .onnx or to .pt2, which torch.export.load reads")
    box, dtype = policy.flat, policy.frozen.theta.dtype
    shape = box.shape if isinstance(policy.observation_space, spaces.Box) else (observation_size(box),)
    example = torch.zeros(_EXAMPLES, *(shape or ()), dtype=observation_dtype(box, dtype))
    count = torch.export.Dim("count")
    program = torch.export.export(Graph(policy).eval(), (example,), dynamic_shapes=({0: count},))
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
        outputs = ["action", "outputs"]
        torch.onnx.export(program, (), path, input_names=["observation"], output_names=outputs, dynamo=True,
                          external_data=False, verbose=False)  # fmt: skip
    return path
