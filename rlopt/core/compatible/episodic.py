"""Episodic compatible critic: one equation an episode (Peters and Schaal 2008, episodic natural actor-critic, table 2).

    w . Psi_e + v . phi(s_0) = R_e,    Psi_e = sum_t weight_t psi_t,    R_e = sum_t weight_t r_t

in least squares over the episodes that begin and end in the batch; weight_t = gamma^t where states are discounted. It
is the sum of A(s_t, a_t) = r_t + gamma V(s_{t+1}) - V(s_t) along an episode, in which V telescopes to its start. With
phi = 1 alone v is the paper's constant offset J; more features of the start take out more of the noise.

The normal matrix is that of the episode Fisher metric, M = sum_e Psi_e Psi_e^T / sum_t weight_t, less what phi
explains, and the advantages Psi_e . w, the same along an episode, make g = M w.

Deviations from the paper: a ridge on w, see `regression`; an episode that is truncated counts as ended, which is right
only where gamma to its length is small or the limit is part of the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import non_negative
from rlopt.core.compatible.critic import Estimate, Experience, check_degrees
from rlopt.core.compatible.regression import GivenScores, removed, solve
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.solvers.per_layer import gradients, layer_shape
from rlopt.parallel.collectives import all_sum


@dataclass(frozen=True)
class Episodic:
    """w (P,) by least squares over whole episodes' returns, with features of their first states.

    Options:
        degrees: of the monomials of the first state in phi, different whole numbers, 0 or above; null takes the critic
            network's last hidden layer.
        ridge: added to w's block, in units of tr(F) / N with F the Fisher matrix of N episodes; 0 or above.

    Source: Peters and Schaal 2008, table 2. Raises ValueError where an option is out of its range, Incompatible where
    no episode begins and ends in the batch, NumericalFailure where the equations have no finite solution.
    """

    degrees: tuple[int, ...] | None
    ridge: float

    whole_episodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_degrees(self.degrees)
        non_negative("ridge", self.ridge)

    def estimate(self, experience: Experience, gamma: float) -> Estimate:
        e, samples = experience, experience.samples
        ids, index = samples.episode.unique(return_inverse=True)
        count = len(ids)
        begun = _counts(index, count, samples.time == 0)
        whole = begun & _counts(index, count, e.done.flatten())
        if not all_sum(whole.sum().clone()):
            raise Incompatible(
                f"no episode begins and ends within the {len(e.rewards)} steps that a batch has of each environment, "
                "and the critic learns from whole episodes",
                Remedy.LONGER_ROLLOUT,
            )
        samples = samples.replacing(weight=torch.where(whole[index], samples.weight, 0.0))
        share = samples.share
        _, s = e.head.log_prob_and_score(e.tape.outputs, samples.actions)
        scale = share.sum() / samples.weight.sum().clamp(min=torch.finfo(share.dtype).tiny)  # 1 / sum of all weights

        first = (samples.time == 0) & (samples.weight > 0)  # a masked row may have time 0 too
        order = index[first]
        phi = e.features.new_zeros(count, e.features.shape[1]).index_copy_(0, order, e.features[first]).double()
        returns = _sums(samples.weight * e.rewards.flatten(), index, count).double()
        rows = _rows(e, s * samples.weight[:, None], index, count)
        each = whole.double() * scale
        w = solve(GivenScores(rows), each, removed(phi, phi, each), returns, self.ridge).to(s.dtype)
        fitted = _sums(samples.weight * (s * e.tape.jvp(w)).sum(1), index, count)
        scalars = {"critic/episodes": all_sum(whole.sum().to(s.dtype))}
        return Estimate(w, samples.replacing(advantages=fitted[index]), scalars)


def _rows(e: Experience, u: Tensor, index: Tensor, count: int) -> Tensor:
    """(count, P) sums of J_b^T u_b by episode, float64."""
    parts = []
    for layer in e.tape.layers(u[None]):
        part = u.new_zeros(count, layer_shape(layer).size, dtype=torch.float64)
        parts.append(part.index_add_(0, index, layer_shape(layer).flat(gradients(layer)[0]).double()))
    return torch.cat(parts, 1)


def _sums(values: Tensor, index: Tensor, count: int) -> Tensor:
    """(count,) sums of values (B,) by episode."""
    return values.new_zeros(count).index_add_(0, index, values)


def _counts(index: Tensor, count: int, event: Tensor) -> Tensor:
    """(count,) bool: whether the event (B,) happened in the episode."""
    return torch.zeros(count, dtype=torch.bool, device=index.device).index_fill_(0, index[event], True)
