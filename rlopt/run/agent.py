"""Agent: actor, critic and normalisers, and what one rollout teaches them. All state is one tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlopt.core.averaging import Averaging
from rlopt.core.failure import first_nonfinite
from rlopt.core.learner import Learner, Outcome, host
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.samples import Samples
from rlopt.policy.normaliser import ObservationNormaliser, RewardScaler
from rlopt.rollout.batch import Batch
from rlopt.rollout.inference import Inference
from rlopt.rollout.returns import gae, normalised
from rlopt.rollout.spaces import PolicyHead


@dataclass(frozen=True)
class Returns:
    """How rewards become advantages and targets."""

    gamma: float
    gae_lambda: float
    discounted_states: bool  # weight states by gamma^time
    normalise: bool  # advantages, over the batch
    recompute: bool  # advantages, before every epoch


@dataclass(frozen=True)
class Lesson:
    """What one update did: scalars to record, and the first quantity that was not finite, if any."""

    scalars: dict[str, float]
    skipped: int
    failure: str | None


class Agent:
    """``state`` holds everything that changes: theta and the parts' states of actor and critic, normalisers."""

    def __init__(
        self,
        head: PolicyHead,
        actor: Learner,
        critic: Learner,
        observations: ObservationNormaliser,
        rewards: RewardScaler,
        returns: Returns,
        averaging: Averaging,
        device: torch.device,
    ):
        self.head, self.actor, self.critic = head, actor, critic
        self.observations, self.rewards, self.returns = observations, rewards, returns
        self.averaging, self.device = averaging, device

    def init(self, actor_theta: Tensor, critic_theta: Tensor, observation_size: int, num_envs: int) -> State:
        """State before the first rollout."""
        actor_theta, critic_theta = actor_theta.to(self.device), critic_theta.to(self.device)
        return {
            "actor": {
                "theta": actor_theta,
                "parts": self.actor.init(actor_theta),
                "average": self.averaging.init(actor_theta),
            },
            "critic": {"theta": critic_theta, "parts": self.critic.init(critic_theta)},
            "observations": self.observations.init(observation_size),
            "rewards": self.rewards.init(num_envs),
        }

    def policy(self, state: State) -> Inference:
        """The policy as it stands, on the host, frozen: neither theta nor the normaliser will change under it."""
        theta = state["actor"]["theta"].to("cpu", copy=True)
        return self._inference(theta, state)

    def evaluated_policy(self, state: State) -> Inference:
        """The policy that evaluation judges: of the averaged theta, where there is one."""
        actor = state["actor"]
        theta = actor["average"].get("theta", actor["theta"]).to("cpu", copy=True)
        return self._inference(theta, state)

    def _inference(self, theta: Tensor, state: State) -> Inference:
        return Inference(self.actor.update.network, self.head, self.observations, theta, state["observations"])

    def learn(self, state: State, batch: Batch, generator: torch.Generator) -> tuple[State, Lesson]:
        """One update: actor first, then critic (alternating by epochs where advantages are recomputed).

        The normalisers take in the batch last. When anything is not finite the state comes back as it was.
        """
        rewards = self.rewards.apply(state["rewards"], batch.rewards)
        values = self._values(state["critic"]["theta"], batch)
        advantages, targets = self._advantages(batch, rewards, values)
        bad = first_nonfinite(
            {"observation": batch.observations, "reward": batch.rewards, "value": values[0], "advantage": advantages}
        )
        if bad:
            return state, Lesson({}, 1, bad)

        weight = self._weight(batch)
        ready = self._ready(advantages, weight)
        actor_samples = batch.actor_samples(self.head, ready, weight).to(self.device)
        critic_samples = batch.critic_samples(targets, values[0][:-1].flatten(), weight).to(self.device)
        actor, critic = dict(state["actor"]), dict(state["critic"])
        actor_epochs, critic_epochs = self.actor.schedule.epochs, self.critic.schedule.epochs
        outcome, critic_outcome = Outcome(), Outcome()
        if not self.returns.recompute:
            outcome = _train(self.actor, actor, actor_samples, generator, actor_epochs)
            critic_outcome = _train(self.critic, critic, critic_samples, generator, critic_epochs)
        else:
            for epoch in range(max(actor_epochs, critic_epochs)):
                if epoch:
                    fresh = self._values(critic["theta"], batch)
                    advantages, targets = self._advantages(batch, rewards, fresh)
                    ready = self._ready(advantages, weight)
                    actor_samples = actor_samples.replacing(advantages=ready.to(self.device))
                    critic_samples = critic_samples.replacing(actions=targets[:, None].to(self.device))
                if epoch < actor_epochs:
                    outcome += _train(self.actor, actor, actor_samples, generator, 1)
                if epoch < critic_epochs:
                    critic_outcome += _train(self.critic, critic, critic_samples, generator, 1)

        actor["parts"] = self.actor.advance(actor["parts"])
        critic["parts"] = self.critic.advance(critic["parts"])
        actor["average"] = self.averaging.update(actor["average"], actor["theta"])
        scalars = host({**outcome.last.scalars, **self.actor.measure(actor["theta"], actor_samples)})
        scalars |= self._critic_scalars(critic_outcome, critic["theta"], critic_samples)
        state = {
            "actor": actor,
            "critic": critic,
            "observations": self.observations.merge(state["observations"], batch.observations.flatten(0, 1)),
            "rewards": self.rewards.merge(state["rewards"], batch.rewards, batch.done, self.returns.gamma),
        }
        skipped = outcome.skipped + critic_outcome.skipped
        failure = outcome.failure or (f"critic {critic_outcome.failure}" if critic_outcome.failure else None)
        return state, Lesson(scalars, skipped, failure)

    def actor_samples(self, state: State, batch: Batch) -> Samples:
        """What the actor would learn from this batch, critic and normalisers as they stand."""
        rewards = self.rewards.apply(state["rewards"], batch.rewards)
        advantages, _ = self._advantages(batch, rewards, self._values(state["critic"]["theta"], batch))
        weight = self._weight(batch)
        return batch.actor_samples(self.head, self._ready(advantages, weight), weight).to(self.device)

    def _weight(self, batch: Batch) -> Tensor:
        """(B,) what each sample counts for."""
        return batch.weight(self.returns.gamma if self.returns.discounted_states else None)

    def _ready(self, advantages: Tensor, weight: Tensor) -> Tensor:
        """Advantages (B,) as the actor is given them."""
        return normalised(advantages, weight) if self.returns.normalise else advantages

    def _values(self, theta: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """V at every input [T + 1, E] and at the truncated episodes' last observations (N,), on the host."""
        network: Network = self.critic.update.network
        inputs = torch.cat([batch.inputs.flatten(0, 1), batch.final])
        with torch.no_grad():
            v = network.outputs(theta, inputs.to(self.device)).squeeze(1).to("cpu")
        count = batch.inputs.shape[0] * batch.inputs.shape[1]
        return v[:count].view(batch.inputs.shape[:2]), v[count:]

    def _advantages(self, batch: Batch, rewards: Tensor, values: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Advantages and targets, (B,) each."""
        v, final = values
        advantages, targets = gae(
            rewards,
            v[:-1],
            batch.next_values(v, final),
            batch.terminated,
            batch.done,
            self.returns.gamma,
            self.returns.gae_lambda,
        )
        return advantages.flatten(), targets.flatten()

    def _critic_scalars(self, outcome: Outcome, theta: Tensor, samples: Samples) -> dict[str, float]:
        targets, before = samples.actions.squeeze(1), samples.old_outputs.squeeze(1)
        with torch.no_grad():
            after = self.critic.update.network.outputs(theta, samples.inputs).squeeze(1)
        centre = samples.mean(targets)
        variance = samples.mean((targets - centre) ** 2)
        error = targets - before
        unexplained = samples.mean((error - samples.mean(error)) ** 2)
        own = {f"critic/{k.replace('/', '_')}": v for k, v in outcome.last.scalars.items() if k.startswith(_SHOWN)}
        return host(
            {
                **own,
                "critic/loss": samples.mean((targets - after) ** 2),
                "critic/explained_variance": 1 - unexplained / variance.clamp(min=1e-12),
            }
        )


_SHOWN = ("step/size", "step/accepted", "step/kl", "solver/", "damping/")  # of the critic's update


def _train(
    learner: Learner, trained: dict[str, Any], samples: Samples, generator: torch.Generator, epochs: int
) -> Outcome:
    """Train in place of ``trained``'s theta and parts."""
    trained["theta"], trained["parts"], outcome = learner.run(
        trained["theta"], trained["parts"], samples, generator, epochs
    )
    return outcome
