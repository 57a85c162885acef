"""Networks with memory: an encoder of the observation, a recurrent cell, and a Linear layer to the outputs.

    x_t = encoder(o_t),   m_t = cell(x_t, m_{t-1}),   z_t = V h_t + c,   h_t the first ``size`` numbers of m_t

| kind | memory m    | cell, with W x_t + b of input-to-gates and U h_{t-1} of hidden-to-gates              |
|---|---|---|
| gru  | h (H,)      | r, u = sigmoid(W_r x + U_r h + b_r), sigmoid(W_u x + U_u h + b_u)                    |
|      |             | n = tanh(W_n x + b_n + r * (U_n h)),  h' = u * h + (1 - u) * n                       |
| lstm | h, c (2 H,) | i, f, o = sigmoid(W x + U h + b),  g = tanh(W_g x + U_g h + b_g)                     |
|      |             | c' = f * c + i * g,  h' = o * tanh(c')                                               |

Cho et al. 2014, eqs. 5 to 8; Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000. U has no bias:
W's does all that it could do, but for the n of a GRU, where Cho et al. have none either.

Samples, tapes and updates see rows, as of any other network. A row holds all that an output depends on:

    [observation (D) | start (1) | memory (M)]        start 1: m_{t-1} is the memory of this row, 0: of the row before

Rows lie in sequences of ``sequence_length``, one after another, in time. At the first row of a sequence start is 1, and
the memory is the one that was there when the step was taken: gradients end there (truncated backpropagation through
time). Where an episode begins start is 1 and the memory 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlopt.core.checks import at_least_one, check, positive
from rlopt.core.flat import Layout
from rlopt.core.tapes.mlp import Affine, is_chain, plan
from rlopt.core.tapes.recurrent import RecurrentTape, sigmoid_
from rlopt.envs.observations import observation_size
from rlopt.policy.mlp import ACTIVATIONS, MLP, NetworkFactory, initialise_orthogonal

STATES = {"gru": 1, "lstm": 2}  # numbers of memory for each unit
GATES = {"gru": 3, "lstm": 4}  # in each unit; the last is squashed by tanh, the others by the sigmoid
Act = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x (E, D), m (E, M), m' (E, M) to fill -> z (E, O)


class Recurrent(nn.Module):
    """``encoder`` from observations to ``features`` numbers, then ``size`` units of a GRU or an LSTM, then ``outputs``.

    Weights are orthogonal, those from the units to each gate by themselves. The biases of the gates that keep, u or f,
    are drawn so that at first the units forget within 2 to ``horizon`` steps, evenly (Tallec and Ollivier 2018, eq. 16,
    where an LSTM's i has minus those of f).
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        kind: str,
        size: int,
        outputs: int,
        last_gain: float,
        horizon: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.kind, self.size = kind, size
        self.memory_size = size * STATES[kind]  # M
        self.sequence_length = 1  # L, set by whoever makes the rows
        self.encoder = encoder
        self.inputs = nn.utils.skip_init(nn.Linear, features, GATES[kind] * size)
        self.hidden = nn.utils.skip_init(nn.Linear, size, GATES[kind] * size, bias=False)
        self.outputs = nn.utils.skip_init(nn.Linear, size, outputs)
        initialise_orthogonal(self.inputs, 1.0, generator)
        for gate in self.hidden.weight.split(size):
            nn.init.orthogonal_(gate, generator=generator)
        initialise_orthogonal(self.outputs, last_gain, generator)
        with torch.no_grad():
            spread = torch.empty(size).uniform_(1, horizon - 1, generator=generator).log_()
            self.inputs.bias[size : 2 * size] = spread  # of u, or of f
            if kind == "lstm":
                self.inputs.bias[:size] = -spread

    def forward(
        self, rows: Tensor, length: int | None = None, remember: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """z (B, O) of rows (B, D + 1 + M), in sequences of ``length``, by default ``sequence_length``.

        Fewer rows than that are one sequence. With ``remember`` the memory after each row, (B, M), is returned too.
        """
        L = max(min(length or self.sequence_length, len(rows)), 1)
        x, start, memory = rows.split([rows.shape[1] - 1 - self.memory_size, 1, self.memory_size], 1)
        S, gates = len(rows) // L, self.inputs(self.encoder(x))
        gates, start, memory = (y.view(S, L, y.shape[1]) for y in (gates, start > 0, memory))
        anew = start.any(0).flatten().tolist()
        h, c = memory[:, 0, : self.size], memory[:, 0, self.size :]
        hs, cs = [], []
        for t, gate in enumerate(gates.unbind(1)):
            if t and anew[t]:
                h = torch.where(start[:, t], memory[:, t, : self.size], h)
                c = torch.where(start[:, t], memory[:, t, self.size :], c)
            h, c = self.cell(gate, h, c)
            hs.append(h)
            cs.append(c)
        units = torch.stack(hs, 1).flatten(0, 1)
        z: Tensor = self.outputs(units)
        return (z, torch.cat([units, torch.stack(cs, 1).flatten(0, 1)], 1)) if remember else z

    def cell(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """h and c after a step, from input-to-gates (N, G H), h (N, H) and c (N, H), which a GRU has not: (N, 0)."""
        pushed, sigmoids = self.hidden(h), (GATES[self.kind] - 1) * self.size
        if self.kind == "gru":
            x, n = gates.split([sigmoids, self.size], 1)
            own, un = pushed.split([sigmoids, self.size], 1)
            r, u = (x + own).sigmoid().chunk(2, 1)
            return torch.lerp(torch.addcmul(n, r, un).tanh(), h, u), c
        squashed, g = (gates + pushed).split([sigmoids, self.size], 1)
        i, f, o = squashed.sigmoid().chunk(3, 1)
        c = torch.addcmul(f * c, i, g.tanh())
        return o * c.tanh(), c

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One step: observations (N, D) and memory (N, M) -> z (N, O) and the memory after it."""
        h, c = self.cell(self.inputs(self.encoder(x)), memory[:, : self.size], memory[:, self.size :])
        return self.outputs(h), torch.cat([h, c], 1)

    def own_tape(self, layout: Layout, theta: Tensor, inputs: Tensor) -> RecurrentTape | None:
        """The tape whose products are written out, where there is one: behind a chain of layers, on the processor."""
        encoder = self._plan()
        if encoder is None or theta.device.type != "cpu":
            return None
        named = [a._replace(weight=f"encoder.{a.weight}", bias=a.bias and f"encoder.{a.bias}") for a in encoder]
        return RecurrentTape(self, [*named, Affine("inputs.weight", "inputs.bias", None)], layout, theta, inputs)

    def _plan(self) -> list[Affine] | None:
        """The encoder's layers, where it is a chain of them and of activations that know f' by their output alone."""
        layers = plan(self.encoder) if len(self.encoder._modules) else []
        plain = is_chain(layers) and not any(a.activation and a.activation.of_input for a in layers or ())
        return layers if plain else None

    def acting(self, views: dict[str, Tensor], block: int) -> Act:
        """`step` in numpy with the parameters ``views``, in blocks of ``block`` rows; E is a multiple of it.

        The bits of a row do not depend on the other rows, nor on how many there are. An encoder that is no chain of
        Linear layers and known activations runs in torch.
        """
        encode = self._encoding(views, block)
        names = ("inputs.weight", "inputs.bias", "hidden.weight", "outputs.weight", "outputs.bias")
        W, b, U, V, c = (views[name].numpy() for name in names)
        W, U, V = (np.ascontiguousarray(matrix.T) for matrix in (W, U, V))
        H, K = self.size, (GATES[self.kind] - 1) * self.size

        def act(x: np.ndarray, memory: np.ndarray, after: np.ndarray) -> np.ndarray:
            h = np.ascontiguousarray(memory[:, :H])
            gates, pushed = _multiply(encode(x), W, block), _multiply(h, U, block)
            gates += b
            squashed = sigmoid_(gates[:, :K] + pushed[:, :K])
            if self.kind == "gru":
                n = np.tanh(gates[:, K:] + squashed[:, :H] * pushed[:, K:])
                h = n + squashed[:, H:] * (h - n)
            else:
                g = np.tanh(gates[:, K:] + pushed[:, K:])
                cell = squashed[:, H : 2 * H] * memory[:, H:] + squashed[:, :H] * g
                h = squashed[:, 2 * H :] * np.tanh(cell)
                after[:, H:] = cell
            after[:, :H] = h
            z = _multiply(h, V, block)
            z += c
            return z

        return act

    def _encoding(self, views: dict[str, Tensor], block: int) -> Callable[[np.ndarray], np.ndarray]:
        """The encoder in numpy, (E, D) -> (E, features)."""
        own = {k.removeprefix("encoder."): v for k, v in views.items() if k.startswith("encoder.")}
        layers = self._plan()
        if layers is None:

            def in_torch(x: np.ndarray) -> np.ndarray:
                parts = torch.from_numpy(x).split(block)
                return torch.cat([functional_call(self.encoder, own, (part,)) for part in parts]).numpy()

            return in_torch
        chain = [
            (np.ascontiguousarray(own[a.weight].numpy().T), own[a.bias].numpy() if a.bias else None, a.activation)
            for a in layers
        ]

        def in_numpy(x: np.ndarray) -> np.ndarray:
            for weight, bias, activation in chain:
                x = _multiply(x, weight, block)
                if bias is not None:
                    x += bias
                if activation and activation.apply_ is torch.tanh_:
                    np.tanh(x, out=x)
                elif activation:
                    activation.apply_(torch.from_numpy(x))
            return x

        return in_numpy


def _multiply(a: np.ndarray, b: np.ndarray, block: int) -> np.ndarray:
    """a b, some rows of a at a time."""
    out = np.empty((len(a), b.shape[1]), a.dtype)
    for row in range(0, len(a), block):
        np.matmul(a[row : row + block], b, out=out[row : row + block])
    return out


@dataclass(frozen=True)
class Memory:
    """The options of a memory behind any encoder."""

    kind: str  # gru or lstm
    size: int  # units, H
    last_gain: float  # of the last layer's orthogonal weights
    horizon: float  # steps within which the slowest units forget at first

    def __post_init__(self) -> None:
        check(self.kind in GATES, "kind", " or ".join(GATES), self.kind)
        at_least_one("size", self.size)
        positive("last_gain", self.last_gain)
        check(self.horizon >= 2, "horizon", "2 steps or above", self.horizon)

    @property
    def memory_size(self) -> int:
        """M, the numbers that are carried from one step to the next."""
        return self.size * STATES[self.kind]

    def behind(self, encoder: nn.Module, features: int, outputs: int, generator: torch.Generator) -> Recurrent:
        """The network that is ``encoder`` to ``features`` numbers, this memory, and a layer to ``outputs``."""
        return Recurrent(encoder, features, self.kind, self.size, outputs, self.last_gain, self.horizon, generator)

    def behind_mlp(self, mlp: MLP, space: gym.Space, outputs: int, generator: torch.Generator) -> Recurrent:
        """The same behind the hidden layers of ``mlp``, each with its activation; its last layer is not made."""
        if not mlp.hidden:
            return self.behind(nn.Sequential(), observation_size(space), outputs, generator)
        *most, last = mlp.hidden
        layers = replace(mlp, hidden=tuple(most), last_gain=mlp.gain).build(space, last, generator)
        encoder = nn.Sequential(*layers, ACTIVATIONS[mlp.activation]())
        return self.behind(encoder, last, outputs, generator)


@dataclass(frozen=True)
class WithMemory:
    """A network of one's own with a memory behind it: its ``build`` makes an encoder of as many features as units."""

    network: NetworkFactory
    memory: Memory

    @property
    def memory_size(self) -> int:
        return self.memory.memory_size

    def sees(self, space: gym.Space) -> None:
        """Raise ValueError where the encoder cannot take observations of ``space``."""
        if hasattr(self.network, "sees"):
            self.network.sees(space)

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> Recurrent:
        """A network from rows of observations of ``space`` and memory to (B, outputs)."""
        size = self.memory.size
        if hasattr(self.network, "sees"):
            encoder = self.network.build(space, size, generator)
        else:
            from rlopt.policy import own

            name = f"the encoder {getattr(self.network, 'function', None) or type(self.network).__name__}"
            encoder = own.build(name, self.network, space, size, generator, torch.get_default_dtype())
        return self.memory.behind(encoder, size, outputs, generator)


@dataclass(frozen=True)
class RecurrentMLP:
    """Hidden layers of the given widths, then ``size`` units with memory."""

    hidden: tuple[int, ...]  # of the encoder; none: the units see the observation itself
    activation: str  # of these
    kind: str  # gru or lstm
    size: int
    horizon: float  # steps within which the slowest units forget at first, 2 or above
    gain: float  # of the hidden layers' orthogonal weights
    last_gain: float  # of the last layer's

    def __post_init__(self) -> None:
        _ = self._encoder, self._memory  # their options are checked

    @property
    def memory_size(self) -> int:
        """The numbers that are carried from one step to the next."""
        return self._memory.memory_size

    def sees(self, space: gym.Space) -> None:
        """Raise ValueError where the observations are images."""
        self._encoder.sees(space)

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> Recurrent:
        """A network from rows of observations of ``space`` and memory to (B, outputs)."""
        self.sees(space)
        return self._memory.behind_mlp(self._encoder, space, outputs, generator)

    @property
    def _encoder(self) -> MLP:
        return MLP(self.hidden, self.activation, bias=True, gain=self.gain, last_gain=self.last_gain)

    @property
    def _memory(self) -> Memory:
        return Memory(self.kind, self.size, self.last_gain, self.horizon)
