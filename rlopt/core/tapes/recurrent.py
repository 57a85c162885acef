"""RecurrentTape: the products of a GRU or an LSTM behind a chain of layers, written out and in numpy, through time.

A step (rlopt.policy.recurrent has its equations) gets the gates' input X = W x + b, made for all times at once, and
p = U h_{t-1}, which alone is in the loop over time. With primes for changes along v, and with the factors below,

    gru    J v     h' = a_u (X_u' + p_u') + u h_{t-1}' + a_n (X_n' + r p_n' + a_r (X_r' + p_r'))
           J^T u   dX_u = a_u dh,  dX_n = a_n dh,  dX_r = a_r dX_n,  dp = (dX_r, dX_u, r dX_n)
                   dh_{t-1} = u dh + U^T dp
    lstm   J v     s' = X' + p',  c' = f c_{t-1}' + a_i s_i' + a_f s_f' + a_g s_g',  h' = a_o s_o' + b c'
           J^T u   dc += b dh,  dX_o = a_o dh,  dX_k = a_k dc for k = i, f, g,  dp = dX
                   dc_{t-1} = f dc,  dh_{t-1} = U^T dp

    gru    a_u = (h_{t-1} - n) u (1 - u),  a_n = (1 - u) (1 - n^2),  a_r = p_n r (1 - r)
    lstm   a_i = g i (1 - i),  a_f = c_{t-1} f (1 - f),  a_g = i (1 - g^2),  a_o = tanh(c) o (1 - o)
           b = o (1 - tanh(c)^2)

Where a row starts anew, h_{t-1} and c_{t-1} are data, and nothing flows back or forth between the times. Second
derivatives and layer records are AutogradTape's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.mlp import Affine, MLPTape
from rlopt.core.tapes.tape import Layer, Tape, stack_jvps, stack_vjps

_OWN = ("hidden.weight", "outputs.weight", "outputs.bias")  # after the chain's, in theta


class _Steps(NamedTuple):
    """All times of a forward pass, [L, S, ...]; ``pushed`` is of a GRU, ``c_met`` and ``squashed`` of an LSTM."""

    met: np.ndarray  # h_{t-1}
    h: np.ndarray
    gates: np.ndarray  # r, u or i, f, o after the sigmoid
    n: np.ndarray  # n or g
    pushed: np.ndarray  # p_n
    c_met: np.ndarray  # c_{t-1}
    squashed: np.ndarray  # tanh(c)


class RecurrentTape:
    """Tape of ``chain`` layers and then GRU or LSTM units, for rows in whole sequences; on the processor alone.

    The chain ends with the input-to-gates layer, and its parameters come first in theta.
    """

    chain: ClassVar[bool] = False

    def __init__(self, module: Any, chain: list[Affine], layout: Layout, theta: Tensor, inputs: Tensor):
        self._module, self._plan, self._theta, self._inputs = module, chain, theta.detach(), inputs
        self.layout, self.size = layout, layout.size
        self.sequence = max(min(module.sequence_length, len(inputs)), 1)
        views = layout.views(self._theta)
        constants = views.pop(CONSTANTS, None)
        count = len(layout.names) - len(_OWN) - (constants is not None)
        first = Layout(layout.names[:count], layout.shapes[:count])
        self._split = first.size  # of theta, at which the units' parameters begin
        observed = inputs.shape[1] - 1 - module.memory_size
        self._chain = MLPTape(chain, first, {name: views[name] for name in first.names}, inputs[:, :observed])
        self._U, self._V, bias = (views[name].numpy() for name in _OWN)
        self._begins, memory = inputs[:, observed].numpy() > 0, inputs[:, observed + 1 :].numpy()
        X, begins, memory = (self._in_time(x) for x in (self._chain.outputs.numpy(), self._begins, memory))
        self._steps = _run(module.kind, X, self._U, begins, memory)
        z = self._rows(self._steps.h) @ self._V.T + bias
        self.width = z.shape[1]
        self.outputs = torch.from_numpy(z)
        if constants is not None:
            self.outputs = torch.cat([self.outputs, constants.expand(len(z), -1)], 1)

    def _in_time(self, rows: np.ndarray) -> np.ndarray:
        """(B, ...) -> [L, S, ...], a copy."""
        return np.ascontiguousarray(rows.reshape(-1, self.sequence, *rows.shape[1:]).swapaxes(0, 1))

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """[L, S, N] -> (B, N)."""
        return x.swapaxes(0, 1).reshape(-1, x.shape[2])

    @cached_property
    def _factors(self) -> dict[str, np.ndarray]:
        """The factors of the module's table, [L, S, H]; those that are used together as [L, S, N, H]."""
        s, slopes = self._steps, self._steps.gates * (1 - self._steps.gates)
        if self._module.kind == "gru":
            (r, u), (dr, du) = (np.split(x, 2, 2) for x in (s.gates, slopes))
            a_un = np.stack([(s.met - s.n) * du, (1 - u) * (1 - s.n**2)], 2)
            return {"u": u, "r": r, "a_un": a_un, "a_r": s.pushed * dr}
        (i, f, o), (di, df, do) = (np.split(x, 3, 2) for x in (s.gates, slopes))
        a_ifog = np.stack([s.n * di, s.c_met * df, s.squashed * do, i * (1 - s.n**2)], 2)
        return {"f": f, "a_ifog": a_ifog, "b": o * (1 - s.squashed**2)}

    @cached_property
    def _flows(self) -> list[np.ndarray | None]:
        """For each time (S, 1), 0 where a row starts anew and 1 elsewhere; None where no row does."""
        begins = self._in_time(self._begins)
        return [(~row)[:, None].astype(self._U.dtype) if row.any() else None for row in begins]

    def vjp(self, u: Tensor) -> Tensor:
        gradient, H = u.new_empty(self.size), self._module.size
        own = u.numpy()[:, : self.width]
        dX, dp = self._back(self._in_time(own @ self._V))
        gradient[: self._split] = self._chain.vjp(torch.from_numpy(self._rows(dX)))
        dU = dp.reshape(-1, dp.shape[2]).T @ self._steps.met.reshape(-1, H)
        parts = [dU.ravel(), (own.T @ self._rows(self._steps.h)).ravel(), own.sum(0), u.numpy()[:, self.width :].sum(0)]
        gradient[self._split :] = torch.from_numpy(np.concatenate(parts))
        return gradient

    def _back(self, sent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What ``sent`` [L, S, H], from the outputs to h, sends on to X and to p, [L, S, G H] each."""
        L, S, H = sent.shape
        dX, F, U = np.empty((L, S, len(self._U)), sent.dtype), self._factors, self._U
        gru = self._module.kind == "gru"
        dp, dh, dc = np.empty_like(dX) if gru else dX, np.zeros((S, H), sent.dtype), np.zeros((S, H), sent.dtype)
        for t in reversed(range(L)):
            dh += sent[t]
            d = dX[t].reshape(S, len(U) // H, H)
            if gru:
                np.multiply(F["a_un"][t], dh[:, None], out=d[:, 1:])
                np.multiply(F["a_r"][t], d[:, 2], out=d[:, 0])
                dp[t, :, : 2 * H] = dX[t, :, : 2 * H]
                np.multiply(F["r"][t], d[:, 2], out=dp[t, :, 2 * H :])
                dh *= F["u"][t]
                dh += dp[t] @ U
            else:
                dc += F["b"][t] * dh
                np.multiply(F["a_ifog"][t], dc[:, None], out=d)
                np.multiply(F["a_ifog"][t, :, 2], dh, out=d[:, 2])
                dc *= F["f"][t]
                dh = dX[t] @ U
            if (flow := self._flows[t]) is not None:
                dh *= flow
                dc *= flow
        return dX, dp

    def jvp(self, v: Tensor) -> Tensor:
        along, F, steps = self.layout.views(v), self._factors, self._steps
        X = self._in_time(self._chain.jvp(v[: self._split]).numpy())
        U, V, bias = (along[name].numpy() for name in _OWN)
        L, S, H = steps.h.shape
        p = (steps.met.reshape(L * S, H) @ U.T).reshape(X.shape)
        h, c, found = np.zeros((S, H), X.dtype), np.zeros((S, H), X.dtype), np.empty_like(steps.h)
        for t in range(L):
            if (flow := self._flows[t]) is not None:
                h, c = h * flow, c * flow
            push = p[t] + h @ self._U.T
            s = (X[t] + push).reshape(S, len(self._U) // H, H)
            if self._module.kind == "gru":
                a_u, a_n = F["a_un"][t, :, 0], F["a_un"][t, :, 1]
                n = X[t, :, 2 * H :] + F["r"][t] * push[:, 2 * H :] + F["a_r"][t] * s[:, 0]
                h = a_u * s[:, 1] + F["u"][t] * h + a_n * n
            else:
                own = F["a_ifog"][t] * s
                c = F["f"][t] * c + own[:, 0] + own[:, 1] + own[:, 3]
                h = own[:, 2] + F["b"][t] * c
            found[t] = h
        z = torch.from_numpy(self._rows(found) @ self._V.T + self._rows(steps.h) @ V.T + bias)
        constants = along.get(CONSTANTS)
        return z if constants is None else torch.cat([z, constants.expand(len(z), -1)], 1)

    def jvps(self, V: Tensor) -> Tensor:
        return stack_jvps(self, V)

    def vjps(self, U: Tensor) -> Tensor:
        return stack_vjps(self, U)

    @cached_property
    def _by_autograd(self) -> AutogradTape:
        return AutogradTape(self._module, self.layout, self._theta, self._inputs)

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        return self._by_autograd.hvp(u, v)

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        return self._by_autograd.layers(signals, constants)

    def parts(self, rows: int) -> Iterator[tuple[slice, Tape]]:
        yield slice(None), self

    def take(self, index: Tensor) -> RecurrentTape:
        return self.at(self._theta, self._inputs[index])

    def theta(self) -> Tensor:
        return self._theta.clone()

    def at(self, theta: Tensor, inputs: Tensor) -> RecurrentTape:
        return RecurrentTape(self._module, self._plan, self.layout, theta, inputs)


def _run(kind: str, X: np.ndarray, U: np.ndarray, begins: np.ndarray, memory: np.ndarray) -> _Steps:
    """All steps from the gates' inputs X [L, S, G H], where rows begin anew [L, S] with ``memory`` [L, S, M].

    X is overwritten. Gates are squashed as sigmoid(s) = (1 + tanh(s / 2)) / 2.
    """
    L, S, _ = X.shape
    H = U.shape[1]
    K, Ut, lstm = len(U) - H, np.ascontiguousarray(U.T), kind == "lstm"
    X[..., :K] *= 0.5
    Ut[:, :K] *= 0.5
    met, h, one, two = (np.empty((L, S, H), X.dtype) for _ in range(4))  # p_n, or c_{t-1} and tanh(c)
    anew, c, p = np.asarray(begins.any(1)), memory[0, :, H:], np.empty((S, len(U)), X.dtype)
    for t in range(L):
        a = X[t]
        met[t] = h[t - 1] if t else memory[0, :, :H]
        if lstm:
            one[t] = c
        if t and anew[t]:
            rows = begins[t]
            met[t, rows] = memory[t, rows, :H]
            if lstm:
                one[t, rows] = memory[t, rows, H:]
        np.matmul(met[t], Ut, out=p)
        if lstm:
            a += p
            np.tanh(a, out=a)
            s = a[:, :K]
            s *= 0.5
            s += 0.5
            c = s[:, H : 2 * H] * one[t]
            c += s[:, :H] * a[:, K:]
            np.tanh(c, out=two[t])
            np.multiply(s[:, 2 * H :], two[t], out=h[t])
        else:
            s, n = a[:, :K], a[:, K:]
            s += p[:, :K]
            np.tanh(s, out=s)
            s *= 0.5
            s += 0.5
            one[t] = p[:, K:]
            n += s[:, :H] * one[t]
            np.tanh(n, out=n)
            np.subtract(met[t], n, out=h[t])
            h[t] *= s[:, H:]
            h[t] += n
    return _Steps(met, h, X[..., :K], X[..., K:], one, one, two)


def sigmoid_(s: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-s)), in place, by tanh, which does not overflow."""
    s *= 0.5
    np.tanh(s, out=s)
    s += 1
    s *= 0.5
    return s
