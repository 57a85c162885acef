"""Acrobot-v1: swing the end of two links above a line (Sutton 1996), by the Runge-Kutta method of order 4.

Both links have mass 1, length 1, their centre of mass in the middle and moment of inertia 1. With c2 = cos(angle 2):

    d1 = 3.5 + c2,  d2 = 1.25 + c2 / 2
    phi2 = g / 2 sin(angle1 + angle2),   phi1 = -s2 / 2 spin2^2 - s2 spin2 spin1 + 1.5 g sin(angle1) + phi2
    spin2' = (torque + d2 / d1 phi1 - s2 / 2 spin1^2 - phi2) / (1.25 - d2^2 / d1),   spin1' = -(d2 spin2' + phi1) / d1
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlopt.envs.tensor.task import Task

_SECONDS, _GRAVITY = 0.2, 9.8
_FASTEST = 4 * math.pi, 9 * math.pi


class Acrobot(Task):
    """State (angle 1, angle 2, spin 1, spin 2), of which angles are seen by cosine and sine; -1 until the end is up."""

    start_size = 4

    def start(self, noise: Tensor) -> Tensor:
        return 0.2 * noise - 0.1

    def observe(self, state: Tensor) -> Tensor:
        angles, spins = state[..., :2], state[..., 2:]
        return torch.cat((torch.stack((angles.cos(), angles.sin()), -1).flatten(-2), spins), -1)

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torque, h = actions.to(state.dtype) - 1, _SECONDS
        k1 = _change(state, torque)
        k2 = _change(state + h / 2 * k1, torque)
        k3 = _change(state + h / 2 * k2, torque)
        k4 = _change(state + h * k3, torque)
        moved = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles, spin1, spin2 = moved[:, :2], moved[:, 2:3], moved[:, 3:]
        angles = angles - 2 * math.pi * torch.round(angles / (2 * math.pi))
        spins = [s.clamp(-most, most) for s, most in zip((spin1, spin2), _FASTEST, strict=True)]
        following = torch.cat((angles, *spins), 1)
        up = -angles[:, 0].cos() - angles.sum(1).cos() > 1
        return following, up.to(state.dtype) - 1, up


def _change(state: Tensor, torque: Tensor) -> Tensor:
    """The derivative (E, 4) of the state in time."""
    angle1, angle2, spin1, spin2 = state.unbind(1)
    cos2, half_sin2 = angle2.cos(), 0.5 * angle2.sin()
    d1, d2 = 3.5 + cos2, 1.25 + 0.5 * cos2
    phi2 = 0.5 * _GRAVITY * (angle1 + angle2).sin()
    phi1 = -half_sin2 * spin2 * (spin2 + 2 * spin1) + 1.5 * _GRAVITY * angle1.sin() + phi2
    ratio = d2 / d1
    spin2_up = (torque + ratio * phi1 - half_sin2 * spin1 * spin1 - phi2) / (1.25 - d2 * ratio)
    spin1_up = -(d2 * spin2_up + phi1) / d1
    return torch.stack((spin1, spin2, spin1_up, spin2_up), 1)
