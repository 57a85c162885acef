"""Layer normalisation within a chain (Ba, Kiros and Hinton 2016), and its derivatives to second order.

Means are over the J units of one sample:

    x = (s - mean s) r,   r = (var s + eps)^-1/2,   y = gamma x + beta
    J v:    x' = P s',   y' = gamma x' + gamma' x + beta',   P = r (I - 1 1^T / J - x x^T / J), which is symmetric
    J^T u:  e = gamma d_y,   d_s = P e,   dgamma = sum d_y x,   dbeta = sum d_y
    hvp:    R e = gamma R d_y + gamma' d_y,   r' = -r^2 mean(x s')
            R d_s = P R e + (r' / r) d_s - r (x' mean(x e) + x mean(x' e))
            R dgamma = sum (R d_y x + d_y x'),   R dbeta = sum R d_y
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

Views = dict[str, Tensor]  # by the parameters' names


class Norm(NamedTuple):
    """Layer normalisation of one layer's J units: names in theta, None where it has no such parameter."""

    weight: str | None  # gamma (J,)
    bias: str | None  # beta (J,)
    eps: float


@dataclass(frozen=True)
class Normalised:
    """The record of one normalisation: all that its derivatives need."""

    norm: Norm
    s: Tensor  # (B, J) what was normalised
    mean: Tensor  # (B, 1)
    r: Tensor  # (B, 1)
    gamma: Tensor  # (J,) 1 where it is no parameter

    @classmethod
    def forward(cls, norm: Norm, views: Views, s: Tensor) -> tuple[Normalised, Tensor]:
        """The record, and y (B, J)."""
        gamma = views[norm.weight] if norm.weight else s.new_ones(s.shape[1])
        beta = views[norm.bias] if norm.bias else None
        y, mean, r = torch.native_layer_norm(s, s.shape[1:], gamma, beta, norm.eps)
        return cls(norm, s, mean, r, gamma), y

    @cached_property
    def x(self) -> Tensor:
        """(B, J)."""
        return (self.s - self.mean).mul_(self.r)

    def at(self, rows: Tensor | slice) -> Normalised:
        """The record of these samples alone."""
        return Normalised(self.norm, self.s[rows], self.mean[rows], self.r[rows], self.gamma)

    def jvp(self, s: Tensor, along: Views) -> Tensor:
        """s' (B, J) -> y', with gamma' and beta' in ``along``; s' is overwritten."""
        x, norm = self._project(s), self.norm
        if not norm.weight:
            return x.add_(along[norm.bias]) if norm.bias else x
        gamma = along[norm.weight]
        y = torch.addcmul(along[norm.bias], self.x, gamma, out=s) if norm.bias else torch.mul(self.x, gamma, out=s)
        return y.addcmul_(x, self.gamma)

    def vjp(self, d: Tensor, parts: Views) -> Tensor:
        """d_y (B, J) -> d_s; the parameters' gradients are written to ``parts``."""
        norm, given = self.norm, (self.s, self.s.shape[1:], self.mean, self.r, self.gamma, self.gamma)
        wanted = [True, norm.weight is not None, norm.bias is not None]
        d_s, gamma, beta = _backward(d.contiguous(), *given, wanted)
        if norm.weight:
            parts[norm.weight].copy_(gamma)
        if norm.bias:
            parts[norm.bias].copy_(beta)
        sent: Tensor = d_s
        return sent

    def signals(self, d: Tensor) -> tuple[list[tuple[str, Tensor]], Tensor]:
        """d_y (K, B, J) -> each sample's own gradient (K, B, J) of every parameter by name, and d_s (K, B, J)."""
        found = [(self.norm.weight, d * self.x)] if self.norm.weight else []
        found += [(self.norm.bias, d)] if self.norm.bias else []
        return found, torch.stack([self._project(row * self.gamma) for row in d])

    def second(self, d: Tensor, Rd: Tensor, s: Tensor, along: Views, out: Views) -> Tensor:
        """d_y, R d_y and s' (B, J each) -> R d_s; R of the parameters' gradients is written to ``out``."""
        x, dx = self.x, self._project(s)
        e, Re = d * self.gamma, Rd * self.gamma
        if self.norm.weight:
            Re.addcmul_(d, along[self.norm.weight])
            torch.sum(Rd * x + d * dx, 0, out=out[self.norm.weight])
        if self.norm.bias:
            torch.sum(Rd, 0, out=out[self.norm.bias])
        change = -self.r * (x * s).mean(1, keepdim=True)  # r' / r
        bent = dx * (x * e).mean(1, keepdim=True) + x * (dx * e).mean(1, keepdim=True)
        return self._project(Re) + change * self._project(e) - self.r * bent

    def _project(self, g: Tensor) -> Tensor:
        """P g (B, J), a new tensor, in one kernel."""
        given = (g.contiguous(), self.s, self.s.shape[1:], self.mean, self.r, None, None)
        projected: Tensor = _backward(*given, [True, False, False])[0]
        return projected


_backward: Any = torch.ops.aten.native_layer_norm_backward
