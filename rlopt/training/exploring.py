"""Explorer: intrinsic rewards of a rollout, and a critic of them with the network and the update of the run's critic.

    A = A_environment + coefficient A_intrinsic

Both advantages are generalised ones with the same lambda (`rollout.advantages.gae`), the intrinsic ones with a discount
of their own and without ends of episodes. They are made once, before the networks learn, also where the environment's
are made anew before every epoch. When actor and critic have learned, the intrinsic critic and the predictor do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlopt.core.learner import Learner, TrainingResult
from rlopt.core.parts import Scalars, State
from rlopt.core.samples import Samples
from rlopt.core.update import first_nonfinite
from rlopt.exploration.rnd import Novelty
from rlopt.rollout.advantages import gae
from rlopt.rollout.buffer import Rollout
from rlopt.training.values import values_of


class Explored(NamedTuple):
    """What exploration makes of a rollout."""

    advantages: Tensor  # [T, E] times the coefficient
    samples: Samples  # for the intrinsic critic
    seen: Tensor  # (N, D) whitened observations that transitions led to
    state: State  # with this rollout in its moments
    scalars: Scalars


class Explorer:
    """Makes intrinsic advantages and learns from them. It has no state of its own: that goes in and comes out."""

    def __init__(self, novelty: Novelty, critic: Learner, theta: Tensor, lambda_: float, device: torch.device):
        self.novelty, self.critic = novelty, critic
        self._theta, self._lambda, self._device = theta, lambda_, device

    def init(self, num_envs: int) -> State:
        theta = self._theta.to(self._device)
        return {**self.novelty.init(num_envs), "critic": {"theta": theta, "parts": self.critic.init(theta)}}

    def explore(self, state: State, batch: Rollout) -> Explored:
        """The intrinsic advantages of a rollout, whose inputs are normalised; a masked row leads to nothing new.

        Raises FloatingPointError where an observation or an error is not finite.
        """
        novelty, size, options = self.novelty, self.novelty.size, self.novelty.options
        state = novelty.see(state, batch.visited[:, :size])
        led_to = torch.cat([batch.observations[1:], batch.following])[..., :size]
        following = novelty.whitened(state, led_to)
        t, e = (index.cpu() for index in batch.final_index)
        following[t, e] = novelty.whitened(state, batch.raw_final[:, :size])
        happened = batch.mask.to("cpu", following.dtype)
        errors = novelty.errors(state, following.flatten(0, 1)).view(happened.shape) * happened
        state, rewards = novelty.scaled(state, errors)
        rewards, critic = rewards.to(batch.rewards), state["critic"]
        values = values_of(self.critic.update.network, critic, batch, self._device, of_policy=False)
        v, goes_on = values.inputs, torch.zeros_like(batch.terminated)
        advantages, targets = gae(rewards, v[:-1], v[1:], goes_on, goes_on, options.gamma, self._lambda)
        network, flat = self.critic.update.network, batch.flat
        samples = batch.critic_samples(flat(targets), flat(v[:-1]), batch.weight(None), batch.rows(network, None))
        count, misses = happened.sum(), flat(targets - v[:-1])
        share = samples.share
        variance = torch.dot(share, (flat(targets) - torch.dot(share, flat(targets))) ** 2)
        missed = torch.dot(share, (misses - torch.dot(share, misses)) ** 2)
        scalars = {
            "exploration/error": errors.sum() / count,
            "exploration/reward": (rewards.cpu() * happened).sum() / count,
            "exploration/explained_variance": 1 - missed / variance.clamp(min=1e-12),
        }
        seen = following.flatten(0, 1)[happened.flatten() > 0]
        return Explored(options.coefficient * advantages, samples.to(self._device), seen, state, scalars)

    def learn(self, explored: Explored, generator: torch.Generator) -> tuple[State, TrainingResult]:
        """State after the intrinsic critic and the predictor have learned; ``generator`` shuffles.

        A network whose parameters are not finite then returns to where it was, and the result says so.
        """
        before = explored.state["critic"]
        parts = {**before["parts"], "step": _copied(before["parts"]["step"])}
        theta, parts, result = self.critic.run(
            before["theta"].clone(), parts, explored.samples, generator, self.critic.schedule.epochs
        )
        critic: State = {"theta": theta, "parts": parts}
        after = self.novelty.learn(explored.state, explored.seen, generator)
        if bad := first_nonfinite({"intrinsic values": theta}):
            critic, result = before, result + TrainingResult(skipped=1, failure=f"{bad} after the update")
        if bad := first_nonfinite({"predictor": after["predictor"]}):
            after, result = explored.state, result + TrainingResult(skipped=1, failure=f"{bad} after the update")
        return {**after, "critic": {**critic, "parts": self.critic.advance(critic["parts"])}}, result


def _copied(node: State) -> State:
    """A step's state with copies of its tensors, which an optimizer changes in place."""
    copies = {k: v.clone() if isinstance(v, Tensor) else v for k, v in node.items()}
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in copies.items()}
