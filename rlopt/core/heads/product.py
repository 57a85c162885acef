"""Product head: independent parts, each a head of its own, side by side.

p(a | z) = product of p_i(a_i | z_i): log-probabilities, KL and entropies add up, scores stand side by side, and the
Fisher information is block-diagonal, C = blockdiag(C_1, ..., C_M). Its root is made of the parts' factors, each with 0
in the other parts' outputs: the rank of C is the sum of the blocks', so that parts cannot share factors.

z holds the network's outputs of all parts and then all parts' constants. An action is one row of floating-point numbers
that holds the parts' actions one after another; whole numbers are exact up to 2^24. Noise is normal: parts that take
uniform noise are given its cumulative distribution, ndtr of a normal number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.arrays import library
from rlopt.core.checks import check
from rlopt.core.heads.head import Head


@dataclass(frozen=True)
class Product(Head):
    """All of ``parts`` at once; actions are rows (B, A), see `pack` and `unpack`.

    Options:
        parts: the heads, one or more; ValueError without any.
    """

    parts: tuple[Head, ...]

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"

    def __post_init__(self) -> None:
        check(len(self.parts) > 0, "parts", "one head or more", self.parts)

    @property
    def network_outputs(self) -> int:
        return sum(part.network_outputs for part in self.parts)

    @property
    def constants(self) -> int:
        return sum(part.constants for part in self.parts)

    @property
    def noise_size(self) -> int:
        return sum(part.noise_size for part in self.parts)

    @property
    def bounded(self) -> bool:
        return any(part.bounded for part in self.parts)

    @property
    def squash(self) -> bool:
        """Parts that are a Box's send tanh of their actions to the environment."""
        return any(getattr(part, "squash", False) for part in self.parts)

    def initial_constants(self) -> Tensor:
        return torch.cat([part.initial_constants() for part in self.parts])

    def prepare(self, weight: Tensor) -> None:
        for part, own in zip(self.parts, weight.split([part.network_outputs for part in self.parts]), strict=True):
            part.prepare(own)

    def pack(self, actions: list[Tensor], dtype: torch.dtype) -> Tensor:
        """The parts' actions, (B, ...) each, as rows (B, A) of this type."""
        return torch.cat([a.reshape(a.shape[0], -1).to(dtype) for a in actions], 1)

    def unpack(self, actions: Tensor) -> list[Tensor]:
        """The parts' actions as their heads take them, from rows (B, A)."""
        found = []
        for part, (shape, whole) in zip(actions.split(self._sizes, 1), self._forms, strict=True):
            own = part.reshape(-1, *shape)
            found.append(own.long() if whole else own)
        return found

    def split(self, z: Any) -> list[Any]:
        """z_i (B, O_i) of every part, of a tensor or an array."""
        found = []
        for (start, end), (first, last) in zip(pairwise(self._outputs), pairwise(self._constants), strict=True):
            own = z[:, start:end]
            found.append(own if first == last else library(z).concatenate([own, z[:, first:last]], 1))
        return found

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._sum([part.log_prob(z_i, a) for part, z_i, a in self._each(z, actions)])

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [part.log_prob_and_score(z_i, a) for part, z_i, a in self._each(z, actions)]
        return self._sum([log_prob for log_prob, _ in pairs]), self._join([score for _, score in pairs])

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._blocks([part.log_prob_hessian(z_i, a) for part, z_i, a in self._each(z, actions)])

    def entropy(self, z: Tensor) -> Tensor:
        return self._sum([part.entropy(z_i) for part, z_i in self._each(z)])

    def entropy_gradient(self, z: Tensor) -> Tensor:
        return self._join([part.entropy_gradient(z_i) for part, z_i in self._each(z)])

    def entropy_hessian(self, z: Tensor) -> Tensor:
        return self._blocks([part.entropy_hessian(z_i) for part, z_i in self._each(z)])

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return self._sum(
            [part.kl(p, q) for part, p, q in zip(self.parts, self.split(old), self.split(new), strict=True)]
        )

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        both = zip(self.parts, self.split(old), self.split(new), strict=True)
        return self._join([part.kl_gradient(p, q) for part, p, q in both])

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        both = zip(self.parts, self.split(old), self.split(new), strict=True)
        return self._blocks([part.kl_hessian(p, q) for part, p, q in both])

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        products = [part.fisher_product(z_i) for part, z_i in self._each(z)]
        return lambda t: self._join([C(t_i) for C, t_i in zip(products, self.split(t), strict=True)])

    def fisher_root(self, z: Tensor) -> Tensor:
        """The parts' factors, each with zeros in the other parts' outputs; K = sum of the parts' K."""
        roots = [part.fisher_root(z_i) for part, z_i in self._each(z)]
        U, k = z.new_zeros(sum(map(len, roots)), *z.shape), 0
        for root, index in zip(roots, self._index, strict=True):
            U[k : k + len(root), :, index.to(z.device)] = root
            k += len(root)
        return U

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        drawn = []
        for (part, z_i), own in zip(self._each(z), noise.split([p.noise_size for p in self.parts], 1), strict=True):
            drawn.append(part.sample(z_i, own if part.noise == "normal" else torch.special.ndtr(own)))
        return self.pack(drawn, z.dtype)

    def mode(self, z: Tensor) -> Tensor:
        return self.pack([part.mode(z_i) for part, z_i in self._each(z)], z.dtype)

    def in_domain(self, z: Tensor) -> Tensor:
        return torch.stack([part.in_domain(z_i) for part, z_i in self._each(z)]).all()

    def _each(self, z: Tensor, actions: Tensor | None = None) -> Any:
        """Every part with its outputs, and with its actions where they are given."""
        given = [] if actions is None else [self.unpack(actions)]
        return zip(self.parts, self.split(z), *given, strict=True)

    @staticmethod
    def _sum(values: list[Tensor]) -> Tensor:
        """(B,) the sum over parts."""
        return torch.stack(values).sum(0)

    def _join(self, gradients: list[Tensor]) -> Tensor:
        """(B, O) from the parts' (B, O_i): the opposite of `split`."""
        counts = [part.network_outputs for part in self.parts]
        ends = [g[:, count:] for g, count in zip(gradients, counts, strict=True)]
        return torch.cat([*(g[:, :count] for g, count in zip(gradients, counts, strict=True)), *ends], 1)

    def _blocks(self, matrices: list[Tensor]) -> Tensor:
        """(B, O, O) with the parts' (B, O_i, O_i) in it, and 0 elsewhere."""
        size = self.network_outputs + self.constants
        both = matrices[0].new_zeros(len(matrices[0]), size, size)
        for matrix, index in zip(matrices, self._index, strict=True):
            own = index.to(matrix.device)
            both[:, own[:, None], own] = matrix
        return both

    @cached_property
    def _outputs(self) -> list[int]:
        """Where each part's outputs of the network begin in z, and where the last ones end."""
        return [0, *accumulate(part.network_outputs for part in self.parts)]

    @cached_property
    def _constants(self) -> list[int]:
        """The same of its constants."""
        return list(accumulate((part.constants for part in self.parts), initial=self.network_outputs))

    @cached_property
    def _index(self) -> list[Tensor]:
        """(O_i,) where each part's outputs stand in z."""
        both = zip(pairwise(self._outputs), pairwise(self._constants), strict=True)
        return [torch.cat([torch.arange(*own), torch.arange(*fixed)]) for own, fixed in both]

    @cached_property
    def _forms(self) -> list[tuple[torch.Size, bool]]:
        """The shape of one of each part's actions, and whether it is made of whole numbers."""
        zeros = [torch.zeros(1, part.network_outputs + part.constants) for part in self.parts]
        modes = [part.mode(z) for part, z in zip(self.parts, zeros, strict=True)]
        return [(mode.shape[1:], not mode.is_floating_point()) for mode in modes]

    @cached_property
    def _sizes(self) -> list[int]:
        """Numbers of each part's action."""
        return [shape.numel() for shape, _ in self._forms]
