"""Activations of a chain's tape: f and its derivatives, written in the output h = f(s), or in the input s.

A tape keeps h alone, so that derivatives are functions of it where they can be; those of GELU and SiLU take s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class ArrayActivation(NamedTuple):
    """f of one layer in numpy."""

    apply_: Callable[[np.ndarray], object]  # s -> f(s), in place
    backward: Callable[[np.ndarray, np.ndarray], np.ndarray]  # g, h -> g f'


class Activation(NamedTuple):
    """f of one layer, with its derivatives as functions of its output h = f(s), or of s."""

    apply_: Callable[[Tensor], Tensor]  # s -> f(s), in place
    backward_: Callable[[Tensor, Tensor], Tensor]  # g, h -> g f', in place on g, one kernel
    derivative: Callable[[Tensor], Tensor]  # h -> f'
    second: Callable[[Tensor], Tensor]  # h -> f''
    in_numpy: ArrayActivation | None = None  # for few samples, where there is one
    of_input: bool = False  # True: backward_, derivative and second take s where they take h else


_aten = torch.ops.aten


def _tanh_backward(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    derivative: np.ndarray = h * h
    np.subtract(1, derivative, out=derivative)
    np.multiply(g, derivative, out=derivative)
    return derivative


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(
        torch.tanh_,
        lambda g, h: _aten.tanh_backward.grad_input(g, h, grad_input=g),
        lambda h: 1 - h * h,
        lambda h: -2 * h * (1 - h * h),
        ArrayActivation(lambda s: np.tanh(s, out=s), _tanh_backward),
    ),
    nn.ReLU: Activation(
        torch.relu_,
        lambda g, h: _aten.threshold_backward.grad_input(g, h, 0, grad_input=g),
        lambda h: (h > 0).to(h.dtype),
        torch.zeros_like,
        ArrayActivation(lambda s: np.maximum(s, 0, out=s), lambda g, h: np.where(h > 0, g, 0)),
    ),
    nn.ELU: Activation(
        lambda s: torch.nn.functional.elu_(s),
        lambda g, h: _aten.elu_backward.grad_input(g, 1, 1, 1, True, h, grad_input=g),
        lambda h: h.clamp(max=0) + 1,
        lambda h: torch.where(h < 0, h + 1, 0.0),
    ),
    nn.Sigmoid: Activation(
        torch.sigmoid_,
        lambda g, h: _aten.sigmoid_backward.grad_input(g, h, grad_input=g),
        lambda h: h * (1 - h),
        lambda h: h * (1 - h) * (1 - 2 * h),
    ),
    nn.Softplus: Activation(
        lambda s: _aten.softplus.out(s, out=s),
        lambda g, h: g.addcmul_(g, torch.exp(-h), value=-1),
        lambda h: -torch.expm1(-h),
        lambda h: -torch.expm1(-h) * torch.exp(-h),
        ArrayActivation(lambda s: np.logaddexp(s, 0, out=s), lambda g, h: g * -np.expm1(-h)),
    ),
    nn.SiLU: Activation(
        lambda s: torch.nn.functional.silu(s, inplace=True),
        lambda g, s: _aten.silu_backward.grad_input(g, s, grad_input=g),
        lambda s: torch.sigmoid(s) * (1 + s * torch.sigmoid(-s)),
        lambda s: torch.sigmoid(s) * torch.sigmoid(-s) * (2 - s * torch.tanh(s / 2)),
        of_input=True,
    ),
}


def _leaky(slope: float) -> Activation:
    """s above 0, ``slope`` times s, slope > 0, below."""
    return Activation(
        lambda s: torch.nn.functional.leaky_relu_(s, slope),
        lambda g, h: _aten.leaky_relu_backward.grad_input(g, h, slope, True, grad_input=g),
        lambda h: torch.where(h > 0, torch.ones_like(h), slope),
        torch.zeros_like,
        ArrayActivation(lambda s: np.maximum(s, slope * s, out=s), lambda g, h: np.where(h > 0, g, slope * g)),
    )


def _gelu(approximate: str) -> Activation:
    """s Phi(s) with the normal distribution function Phi, or its approximation by tanh (Hendrycks and Gimpel 2016)."""

    def apply_(s: Tensor) -> Tensor:
        _aten.gelu.out(s, approximate=approximate, out=s)
        return s

    def backward_(g: Tensor, s: Tensor) -> Tensor:
        wide = s.expand_as(g)  # oneDNN does not
        _aten.gelu_backward.grad_input(g, wide, approximate=approximate, grad_input=g)
        return g

    def derivative(s: Tensor) -> Tensor:
        return backward_(torch.ones_like(s), s)

    def second(s: Tensor) -> Tensor:
        if approximate == "none":
            return torch.exp(-s * s / 2).mul_(2 - s * s).mul_((2 * math.pi) ** -0.5)
        c, a = (2 / math.pi) ** 0.5, 0.044715
        t, k1, k2 = torch.tanh(c * (s + a * s**3)), c * (1 + 3 * a * s * s), 6 * c * a * s
        return (1 - t * t).mul_(k1 + s * (k2 / 2 - t * k1 * k1))

    return Activation(apply_, backward_, derivative, second, of_input=True)


def known_activation(module: nn.Module) -> Activation | None:
    """What a chain's tape knows of this module; None where it is no activation, or one that is not known."""
    if type(module) is nn.GELU:
        return _gelu(module.approximate)
    if type(module) is nn.LeakyReLU:
        return _leaky(module.negative_slope) if 0 < module.negative_slope <= 1 else None
    if isinstance(module, nn.ELU) and module.alpha != 1:
        return None
    if isinstance(module, nn.Softplus) and (module.beta, module.threshold) != (1, 20):
        return None
    return ACTIVATIONS.get(type(module))
