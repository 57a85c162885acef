"""Episode Fisher metric: empirical Fisher of whole episodes (Peters and Schaal 2008, section 4.2, episodic natural
actor-critic).

    M = sum_e Psi_e Psi_e^T / sum_b weight_b,     Psi_e = sum over the samples b of episode e of weight_b J_b^T s_b

with s = d log p(a | z) / dz at the action taken. C couples the samples of an episode,

    (C t)_b = s_b sum_{c in the episode of b} weight_c s_c . t_c

so that no root in output space is at hand. For weights 0 and 1 its mean is that of the empirical Fisher metric, since
scores of different times are uncorrelated; it has as many independent terms as there are episodes. Episodes do not
cross ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlopt.core.curvature import PullBack
from rlopt.core.heads import Head
from rlopt.core.parts import PRODUCT, SEMIDEFINITE, Bound, Metric, Objective, Requirements, State
from rlopt.core.requirements import Incompatible
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class EpisodeFisher(Metric):
    """M = second moments of whole episodes' scores, per step, for the actions that were taken. It has no options.

    Minibatches are refused, since they hold no whole episode. Source: Peters and Schaal 2008, section 4.2. Raises
    ValueError for samples without episode numbers.
    """

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE})
    requirements: ClassVar[Requirements] = Requirements(reads_actions=True, whole_batch=True)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        if samples.episode is None:
            raise Incompatible("the Fisher matrix of whole episodes needs to know which episode each sample belongs to")
        _, s = head.log_prob_and_score(tape.outputs, samples.actions)
        ids, index = samples.episode.unique(return_inverse=True)

        def apply(t: Tensor) -> Tensor:
            along = samples.weight * (s * t).sum(1)
            return s * along.new_zeros(len(ids)).index_add_(0, index, along)[index][:, None]

        return PullBack(tape, samples.share, apply), state
