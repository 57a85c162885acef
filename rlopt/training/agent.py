"""Agent: actor, critic and normalisers, and what one rollout teaches them. All state is one tree.

The critic is a network of its own, or the first output of the actor's (heads.Joint), trained by the actor's update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlopt.core.averaging import Averaging
from rlopt.core.checks import NumericalFailure
from rlopt.core.compatible.critic import Estimate
from rlopt.core.heads import Joint
from rlopt.core.learner import Learner, TrainingResult, host
from rlopt.core.parts import Scalars, State
from rlopt.core.samples import Samples, to_device
from rlopt.core.update import first_nonfinite
from rlopt.envs.spaces import PolicyHead
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.normalisers import ObservationNormaliser, RewardScaler
from rlopt.rollout.advantages import gae, normalised
from rlopt.rollout.buffer import Batch
from rlopt.training.compatible_critic import Compatible, informed
from rlopt.training.nan_report import earliest
from rlopt.training.undo import copied, exploded

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Returns:
    """How rewards become advantages and targets."""

    gamma: float
    gae_lambda: float
    discounted_states: bool  # weight states by gamma^time
    normalise: bool  # advantages, over the batch
    recompute: bool  # advantages, before every epoch


@dataclass(frozen=True)
class UpdateResult:
    """What one update did: scalars to record, and the first quantity that was not finite, if any."""

    scalars: dict[str, float]
    skipped: int
    failure: str | None
    seen: Mapping[str, Tensor] = field(default_factory=dict)  # what it learned from; for nan_report.json and histograms


class Agent:
    """``state`` holds everything that changes: theta and the parts' states of every network, normalisers.

    ``head`` is the policy's. Without a ``critic`` that of the actor's update is a Joint of it and a value.
    """

    def __init__(
        self,
        head: PolicyHead,
        actor: Learner,
        critic: Learner | None,
        observations: ObservationNormaliser,
        rewards: RewardScaler,
        returns: Returns,
        averaging: Averaging,
        device: torch.device,
        compatible: Compatible | None = None,
    ):
        self.head, self.actor, self.critic = head, actor, critic
        self.observations, self.rewards, self.returns = observations, rewards, returns
        self.averaging, self.device, self.compatible = averaging, device, compatible

    @property
    def learners(self) -> dict[str, Learner]:
        """Every network's, in the order in which they learn. The first output of the last network is the value."""
        return {"actor": self.actor} if self.critic is None else {"actor": self.actor, "critic": self.critic}

    def init(self, thetas: Mapping[str, Tensor], observation_size: int, num_envs: int) -> State:
        """State before the first rollout, of networks that start from ``thetas``, named as ``learners`` are."""
        networks: State = {}
        for name, learner in self.learners.items():
            theta = thetas[name].to(self.device)
            networks[name] = {"theta": theta, "parts": learner.init(theta)}
        networks["actor"]["average"] = self.averaging.init(networks["actor"]["theta"])
        return {
            **networks,
            "observations": self.observations.init(observation_size),
            "rewards": self.rewards.init(num_envs),
        }

    def policy(self, state: State) -> FrozenPolicy:
        """The policy as it stands, on the host, frozen: neither theta nor the normaliser will change under it."""
        theta = state["actor"]["theta"].to("cpu", copy=True)
        return self._inference(theta, state)

    def evaluated_policy(self, state: State) -> FrozenPolicy:
        """The policy that evaluation judges: of the averaged theta, where there is one."""
        actor = state["actor"]
        theta = actor["average"].get("theta", actor["theta"]).to("cpu", copy=True)
        return self._inference(theta, state)

    def _inference(self, theta: Tensor, state: State) -> FrozenPolicy:
        return FrozenPolicy(self.actor.update.network, self.head, self.observations, theta, state["observations"])

    def learn(
        self,
        state: State,
        batch: Batch,
        generator: torch.Generator,
        acts: Callable[[FrozenPolicy], None] = lambda policy: None,
    ) -> tuple[State, UpdateResult]:
        """One update: actor first, then critic (alternating by epochs where advantages are recomputed).

        What the normalisers make of the batch counts after the actor's last step; ``acts`` is then given the policy of
        the next rollout, which may be collected while the critic learns. When the batch is not finite the state comes
        back as it was and ``acts`` is given nothing; a network whose parameters, or what it makes of the batch, are not
        finite after its last step goes back to where it was.
        """
        before = self._values(state, batch)
        estimates = self._estimates(state, batch, before)
        seen = {**batch.course, "last observation": batch.last, "value": before[0], "advantage": estimates[0]}
        if bad := first_nonfinite(seen, over_ranks=True):
            return state, UpdateResult({}, 1, earliest(seen) or bad, seen)
        done, mask = batch.done, batch.mask.bool()
        try:
            observations = self.observations.merge(state["observations"], batch.visited)
            rewards = self.rewards.merge(state["rewards"], batch.rewards, done, self.returns.gamma, mask)
        except FloatingPointError as failure:
            return state, UpdateResult({}, 1, str(failure), seen)

        # all that follows is done to copies: a run that is interrupted goes back to ``state``
        kept = {name: dict(state[name]) for name in self.learners}
        networks = {name: copied(state[name]) for name in self.learners}
        outcomes = dict.fromkeys(self.learners, TrainingResult())
        samples = self._samples(batch, estimates, before)
        found: Scalars = {"critic/explained_variance": self._explained(samples["actor"], estimates[1], before[0])}
        if self.compatible is not None:
            try:
                estimate = self._compatible(self.compatible, state, batch, samples["actor"])
            except NumericalFailure as failure:
                return state, UpdateResult({}, 1, str(failure), seen)
            samples["actor"], found = estimate.samples, {**found, **estimate.scalars}
            networks["actor"] = informed(networks["actor"], self.actor.update, estimate)
        rounds = max(learner.schedule.epochs for learner in self.learners.values()) if self.returns.recompute else 1
        for epoch in range(rounds):
            if epoch:
                estimates = self._estimates(state, batch, self._values(networks, batch))
                samples = self._samples(batch, estimates, before)
            for name, learner in self.learners.items():
                if epoch < learner.schedule.epochs and not outcomes[name].stopped:
                    count = 1 if self.returns.recompute else learner.schedule.epochs
                    outcomes[name] += _train(learner, networks[name], samples[name], generator, count)
                    over = outcomes[name].stopped or epoch + count == learner.schedule.epochs
                    if name == "actor" and over:
                        measured = self._measured(networks, samples["actor"], state["actor"]["theta"])
                        if bad := exploded(networks["actor"], "KL", measured["step/kl"]):
                            networks["actor"] = kept["actor"]
                            outcomes["actor"] += TrainingResult(skipped=1, failure=bad)
                            measured = self._measured(networks, samples["actor"], state["actor"]["theta"])
                        acts(self.policy({"actor": networks["actor"], "observations": observations}))

        loss = self._loss(networks, samples["actor"], estimates[1])
        if "critic" in outcomes and (bad := exploded(networks["critic"], "loss", loss)):
            networks["critic"] = kept["critic"]
            outcomes["critic"] += TrainingResult(skipped=1, failure=bad)
            loss = self._loss(networks, samples["actor"], estimates[1])
        for name, learner in self.learners.items():
            changed = measured if name == "actor" and not outcomes[name].failure else None
            networks[name]["parts"] = learner.advance(networks[name]["parts"], changed)
        actor = networks["actor"]
        actor["average"] = self.averaging.update(actor["average"], actor["theta"])
        scalars = {**outcomes["actor"].last.read(), **found, **measured}
        if "critic" in outcomes:
            scalars |= _of_critic(outcomes["critic"].last.read())
        scalars |= {"critic/loss": loss}
        state = {**networks, "observations": observations, "rewards": rewards}
        failures = [f"{name} {o.failure}".removeprefix("actor ") for name, o in outcomes.items() if o.failure]
        skipped = sum(outcome.skipped for outcome in outcomes.values())
        if not failures:
            return state, UpdateResult(host(scalars), skipped, None, seen)
        seen |= {f"{name} parameters": network["theta"] for name, network in networks.items()}
        return state, UpdateResult(host(scalars), skipped, failures[0], seen)

    def _measured(self, networks: State, samples: Samples, start: Tensor) -> Scalars:
        """What the actor's update from ``start`` (P,) changed."""
        return self.actor.measure(networks["actor"]["theta"], networks["actor"]["parts"], samples, start)

    def actor_samples(self, state: State, batch: Batch) -> Samples:
        """What the actor would learn from this batch, values and normalisers as they stand."""
        values = self._values(state, batch)
        samples = self._samples(batch, self._estimates(state, batch, values), values)["actor"]
        return self._compatible(self.compatible, state, batch, samples).samples if self.compatible else samples

    def _compatible(self, compatible: Compatible, state: State, batch: Batch, samples: Samples) -> Estimate:
        """What the compatible critic makes of this batch, of which these are the actor's samples."""
        rewards = self.rewards.apply(state["rewards"], batch.rewards)
        theta, critic_theta = state["actor"]["theta"], state["critic"]["theta"]
        return compatible.estimate(self.actor.update, theta, critic_theta, batch, rewards, samples)

    def _samples(self, batch: Batch, estimates: Pair, before: Pair) -> dict[str, Samples]:
        """What each network learns from, given advantages and targets, and the values before training."""
        advantages, targets = estimates
        weight = batch.weight(self.returns.gamma if self.returns.discounted_states else None)
        if self.returns.normalise:
            advantages = normalised(advantages, weight)
        values = before[0][:-1].flatten()
        if self.critic is None:
            joint = self.actor.update.head
            assert isinstance(joint, Joint)
            found = {"actor": batch.joint_samples(joint, advantages, targets, values, weight)}
        else:
            actor = batch.actor_samples(self.head, advantages, weight)
            found = {"actor": actor, "critic": batch.critic_samples(targets, values, weight)}
        return {name: samples.to(self.device) for name, samples in found.items()}

    def _values(self, networks: State, batch: Batch) -> Pair:
        """V at every input [T + 1, E] and at the truncated episodes' last observations (N,), on the host."""
        inputs = torch.cat([batch.inputs.flatten(0, 1), batch.final])
        v = self._value(networks, to_device(inputs, self.device)).to("cpu")
        count = batch.inputs.shape[0] * batch.inputs.shape[1]
        return v[:count].view(batch.inputs.shape[:2]), v[count:]

    @torch.no_grad()
    def _value(self, networks: State, inputs: Tensor) -> Tensor:
        """V (N,) at inputs (N, ...)."""
        name, learner = list(self.learners.items())[-1]
        return learner.update.network.outputs(networks[name]["theta"], inputs)[:, 0]

    def _estimates(self, state: State, batch: Batch, values: Pair) -> Pair:
        """Advantages and targets, (B,) each, by the reward scale of ``state``."""
        v, final = values
        advantages, targets = gae(
            self.rewards.apply(state["rewards"], batch.rewards),
            v[:-1],
            batch.next_values(v, final),
            batch.terminated,
            batch.done,
            self.returns.gamma,
            self.returns.gae_lambda,
        )
        return advantages.flatten(), targets.flatten()

    def _explained(self, samples: Samples, targets: Tensor, values: Tensor) -> Tensor:
        """The share of the targets' variance that the values explained before training."""
        targets, values = to_device(targets, self.device), to_device(values[:-1].flatten(), self.device)
        variance = samples.mean((targets - samples.mean(targets)) ** 2)
        error = targets - values
        return 1 - samples.mean((error - samples.mean(error)) ** 2) / variance.clamp(min=1e-12)

    def _loss(self, networks: State, samples: Samples, targets: Tensor) -> Tensor:
        """How far the values are from the targets after training: mean squared error."""
        return samples.mean((to_device(targets, self.device) - self._value(networks, samples.inputs)) ** 2)


_SHOWN = ("step/size", "step/accepted", "step/kl", "solver/", "damping/")  # of the critic's update


def _of_critic(scalars: Scalars) -> Scalars:
    return {f"critic/{name.replace('/', '_')}": value for name, value in scalars.items() if name.startswith(_SHOWN)}


def _train(
    learner: Learner, trained: dict[str, Any], samples: Samples, generator: torch.Generator, epochs: int
) -> TrainingResult:
    """Train in place of ``trained``'s theta and parts."""
    trained["theta"], trained["parts"], outcome = learner.run(
        trained["theta"], trained["parts"], samples, generator, epochs
    )
    return outcome
