"""Sample reuse: every update learns from the last M batches, within one trust region around the policy of now.

Generalised policy improvement (Queeney, Paschalidis and Cassandras 2021, Generalized proximal policy optimization with
sample reuse; 2022, Generalized policy improvement algorithms with theoretically supported sample reuse). With pi_k the
policy of now and pi_i the one that acted i batches ago,

    maximise  sum_i nu_i mean_i (pi / pi_i) A,   nu_i ~ decay^i,   A that of pi_k, corrected (`advantages.gae`)

Since pi / pi_i = (pi / pi_k) w with w = pi_k / pi_i, these are samples of pi_k with advantages w A: objectives, metrics
and steps need not know of it. KL divergences, Fisher matrices and a line search are those of pi_k and pi, on the states
of all M batches. So `algo=trpo` becomes GeTRPO and `algo=ppo` GePPO. PPO's interval for pi / pi_i is then
w (1 -+ clip), the paper's w -+ clip; both bound the mean of |pi / pi_i - w| by clip. The paper asks for a clip divided
by the mean of i + 1 over nu, and a radius divided by its square: that is left to the options.

A kept batch is seen as pi_k sees it: raw observations and rewards are normalised anew, by the statistics of now. w and
the corrected advantages compare with the policy that acted, on the observations as it saw them. Normalised advantages
have mean 0 and standard deviation 1 by weights nu w. The critic learns from all M batches too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlopt.config.groups import ReuseOptions
from rlopt.core.heads import Head
from rlopt.core.parts import Scalars, State
from rlopt.core.samples import Samples
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.advantages import gae
from rlopt.rollout.buffer import Rollout
from rlopt.training.values import Values

_KEPT = ("observations", "following", "actions", "outputs", "rewards", "terminated", "truncated", "time", "episode",
         "mask", "raw_final")  # fmt: skip


@dataclass(frozen=True)
class Past:
    """A batch of an earlier policy, as the policy of now sees it."""

    batch: Rollout
    rewards: Tensor  # [T, E] scaled
    ratio: Tensor  # [T, E] pi_k / pi_i of its actions
    values: Values | None = None  # by the critic before it learns


@dataclass(frozen=True)
class Reuse:
    """Keeps batches in the run's state, and makes samples of them. ``head`` is the policy's."""

    options: ReuseOptions
    head: Head
    gamma: float
    lambda_: float

    def keep(self, state: State, batch: Rollout) -> State:
        """State with this batch as the newest; batches are numbered from the newest, 0."""
        own: dict[str, Any] = {name: getattr(batch, name).clone() for name in _KEPT}
        own["final_t"], own["final_e"] = batch.final_index
        own["inputs"] = batch.inputs.new_empty(0)  # for their type alone
        older = {str(i + 1): state[str(i)] for i in range(min(len(state), self.options.batches - 2))}
        return {"0": own, **older}

    def recall(self, state: State, policy: FrozenPolicy, scale: Callable[[Tensor], Tensor]) -> list[Past]:
        """The kept batches, the newest first, as ``policy`` sees them; ``scale`` makes scaled rewards of raw ones."""
        return [self._past(state[str(i)], policy, scale) for i in range(len(state))]

    def _past(self, kept: Mapping[str, Tensor], policy: FrozenPolicy, scale: Callable[[Tensor], Tensor]) -> Past:
        fields: dict[str, Any] = {name: kept[name] for name in _KEPT}
        nothing, index = kept["inputs"], (kept["final_t"], kept["final_e"])
        then = Rollout(**fields, inputs=nothing, final=nothing, final_index=index)
        now = then.seen_by(policy)
        actions = now.flat(now.actions)
        log_probs = [self.head.log_prob(batch.flat(batch.outputs), actions) for batch in (now, then)]
        return Past(now, scale(then.rewards), (log_probs[0] - log_probs[1]).exp().view(now.rewards.shape))

    def advantages(self, past: Past, values: Values) -> tuple[Tensor, Tensor]:
        """Advantages and targets, [T, E] each, of the policy of now."""
        v, batch = values.inputs, past.batch
        ratio = past.ratio.clamp(max=self.options.trace)
        following = batch.next_values(v, values.final)
        return gae(past.rewards, v[:-1], following, batch.terminated, batch.done, self.gamma, self.lambda_, ratio)

    def weights(self, past: Sequence[Past]) -> list[Tensor]:
        """w (B,) of every past batch, bounded."""
        return [p.batch.flat(p.ratio).clamp(max=self.options.largest or torch.inf) for p in past]

    def join(
        self, parts: Sequence[dict[str, Samples]], past: Sequence[Past], normalise: bool
    ) -> tuple[dict[str, Samples], Scalars]:
        """The samples of all batches as one, by network, and what describes w. ``parts`` begin with the newest batch.

        With ``normalise`` advantages get mean 0 and standard deviation 1 before they are multiplied by w.
        """
        found = {name: self._concatenated([part[name] for part in parts]) for name in parts[0]}
        actor = found["actor"]
        w = torch.cat([torch.ones_like(parts[0]["actor"].weight), *self.weights(past)])
        share = actor.weight.double() / actor.weight.double().sum() * w.double()
        mean, squares = share.sum(), (share * w).sum()
        A = actor.advantages.double()
        if normalise:
            centred = A - torch.dot(share, A) / mean
            std = (torch.dot(share, centred**2) / mean).sqrt()
            rounding = 10 * torch.finfo(actor.advantages.dtype).eps * A.abs().max()
            A = centred / torch.where(std > rounding, std, torch.inf)
        found["actor"] = actor.replacing(advantages=(w * A).to(actor.advantages.dtype))
        return found, {"reuse/weight": float(mean), "reuse/effective_share": float(mean * mean / squares)}

    def _concatenated(self, parts: Sequence[Samples]) -> Samples:
        weighed = [replace(part, weight=part.weight * self.options.decay**i) for i, part in enumerate(parts)]
        names = [name for name, value in vars(parts[0]).items() if isinstance(value, Tensor) and name != "share"]
        return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in weighed]) for name in names})
