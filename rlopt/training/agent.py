"""Agent: actor, critic and normalisers, and the update that they make of one rollout.

The critic is a network of its own, or the first output of the actor's network (heads.Joint), which the actor's update
then trains as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rlopt.config.options import OwnCritic, RunConfig
from rlopt.core.checks import NumericalFailure
from rlopt.core.compatible.critic import Estimate
from rlopt.core.learner import Learner, TrainingResult, host
from rlopt.core.parts import COMPATIBLE, Scalars, State
from rlopt.core.popart import PopArt, preserve_, shift_and_scale, to_outputs
from rlopt.core.samples import Samples, to_device
from rlopt.core.solvers.compatible import with_direction
from rlopt.core.update import first_nonfinite
from rlopt.envs.spaces import PolicyHead
from rlopt.policy.device import DevicePolicy
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.normalisers import ObservationNormaliser, RewardScaler
from rlopt.rollout.advantages import gae
from rlopt.rollout.buffer import Rollout
from rlopt.training.compatible_critic import CompatibleEstimator
from rlopt.training.failure_policy import first_bad_quantity
from rlopt.training.reuse import Past, Reuse
from rlopt.training.samples import SampleMaker
from rlopt.training.values import Values, memory_of_all_ranks, value, values_of

if TYPE_CHECKING:
    from rlopt.training.exploring import Explored, Explorer


@dataclass(frozen=True)
class UpdateResult:
    """What one update did: scalars to record, and the first quantity that was not finite, if any."""

    scalars: dict[str, float]
    skipped: int  # steps not taken because a number was not finite
    failure: str | None  # the first such quantity
    quantities: Mapping[str, Tensor] = field(default_factory=dict)  # the update's data: for reports and histograms


class _Scaled(NamedTuple):
    """A batch in numbers that do not depend on units, and the normalisers' states with this batch in them."""

    batch: Rollout
    rewards: Tensor  # [T, E]
    observations_state: State
    rewards_state: State
    explored: Explored | None = None


@dataclass(frozen=True)
class _Estimates:
    """Values, samples and normalisers of a batch before any network learns."""

    quantities: dict[str, Tensor]
    scaled: _Scaled
    values: Values  # by the critic before it learns
    targets: Tensor  # (B,) of the values
    samples: dict[str, Samples]  # of every network
    scalars: Scalars
    natural: Tensor | None = None  # (P,) the compatible critic's direction, if there is such a critic
    past: Sequence[Past] = ()  # earlier batches that are learned from too


@dataclass
class _Training:
    """An update under way. The networks are copies: if it is interrupted, the state before it is as it was."""

    before: State
    networks: State
    results: dict[str, TrainingResult]
    samples: dict[str, Samples]  # with the latest advantages
    targets: Tensor  # (B,), the latest
    measured: dict[str, Scalars] = field(default_factory=dict)  # of a network after its last step
    exploration: State | None = None  # after its own learning


class Agent:
    """The learning side of a run. It has no state of its own: ``state`` goes in and comes out, as one tree.

    ``state`` holds all that changes: theta and the parts' states of every network, averages and normalisers. ``head``
    is the policy's. Where ``critic`` is None, the actor's update has a Joint head: of the policy's head and a value.
    """

    def __init__(
        self,
        config: RunConfig,
        head: PolicyHead,
        actor: Learner,
        critic: Learner | None,
        compatible: CompatibleEstimator | None,
        observations: ObservationNormaliser,
        device: torch.device,
        explorer: Explorer | None = None,
    ):
        self.head, self.actor, self.critic, self.compatible = head, actor, critic, compatible
        self.observations, r = observations, config.rewards
        self.rewards = RewardScaler(r.scale, r.clip, r.sign)
        self.device, self._config, self._explorer = device, config, explorer
        targets = config.critic.targets if isinstance(config.critic, OwnCritic) else None
        self._popart = PopArt(targets.decay) if targets and targets.normalise else None
        reuse = Reuse(config.reuse, head, config.gamma, config.gae_lambda)
        self._reuse = reuse if config.reuse.batches > 1 else None
        self._maker = SampleMaker(config, head, actor.update, critic.update if critic else None, device, self._reuse)

    @property
    def learners(self) -> dict[str, Learner]:
        """Every network's learner, in the order in which they learn. The last network's first output is the value."""
        return {"actor": self.actor} if self.critic is None else {"actor": self.actor, "critic": self.critic}

    def init(self, thetas: Mapping[str, Tensor], observation_size: int, num_envs: int) -> State:
        """State before the first rollout. ``thetas`` (P,) are initial parameters, by the names of `learners`."""
        networks: State = {}
        for name, learner in self.learners.items():
            theta = thetas[name].to(self.device)
            networks[name] = {"theta": theta, "parts": learner.init(theta)}
        if self.critic is not None and (memory := self.critic.update.network.memory):
            dtype = networks["critic"]["theta"].dtype
            networks["critic"]["memory"] = torch.zeros(num_envs, memory, dtype=dtype)  # of all ranks' environments
        if self._popart:
            networks["critic"]["targets"] = self._popart.init()
        networks["actor"]["average"] = self._config.averaging.init(networks["actor"]["theta"])
        return {
            **networks,
            "observations": self.observations.init(observation_size),
            "rewards": self.rewards.init(num_envs),
            **({"reuse": {}} if self._reuse else {}),
            **({"exploration": self._explorer.init(num_envs)} if self._explorer else {}),
        }

    def policy(self, state: State) -> Any:
        """A frozen copy of the policy, for the collector. Later updates change neither its theta nor its normaliser.

        It is a FrozenPolicy, which acts on the host, or where environments are tensors a DevicePolicy.
        """
        theta = state["actor"]["theta"]
        if self._config.env.as_tensors:
            network, seen = self.actor.update.network, state["observations"]
            return DevicePolicy(network, self.head, self.observations, theta.clone(), seen)
        return self._frozen(theta.to("cpu", copy=True), state)

    def evaluated_policy(self, state: State) -> FrozenPolicy:
        """The policy to evaluate. Its theta is the average in ``state``, or the current one if it keeps none."""
        actor = state["actor"]
        theta = actor["average"].get("theta", actor["theta"]).to("cpu", copy=True)
        return self._frozen(theta, state)

    def _frozen(self, theta: Tensor, state: State) -> FrozenPolicy:
        return FrozenPolicy(self.actor.update.network, self.head, self.observations, theta, state["observations"])

    def learn(
        self,
        state: State,
        batch: Rollout,
        generator: torch.Generator,
        on_policy_ready: Callable[[Any], None] = lambda policy: None,
    ) -> tuple[State, UpdateResult]:
        """One update from a batch: the state after it, and what it did. ``generator`` shuffles minibatches.

        The actor learns first, then the critic; they alternate by epochs where advantages are recomputed. As soon as
        the actor has learned, ``on_policy_ready`` gets the policy of the next rollout, whose normaliser includes this
        batch: that rollout can be collected while the critic learns. When the batch is not finite the state comes back
        unchanged and ``on_policy_ready`` is not called. A network returns to where it was if its parameters, or its KL
        or loss on the batch, are not finite after its last step.
        """
        estimates = self._estimate(state, batch)
        if isinstance(estimates, UpdateResult):
            return state, estimates
        training = self._copy(state, estimates)
        for name in self._train(training, estimates, generator):
            self._verify(training, name)
            if name == "actor":
                actor, observations = training.networks["actor"], estimates.scaled.observations_state
                on_policy_ready(self.policy({"actor": actor, "observations": observations}))
        if self._explorer and estimates.scaled.explored:
            found = self._explorer.learn(estimates.scaled.explored, generator)
            training.exploration, training.results["exploration"] = found
        return self._commit(training, estimates)

    def _estimate(self, state: State, batch: Rollout) -> _Estimates | UpdateResult:
        """Values, advantages, targets and normalisers; the compatible critic's direction where there is one.

        Where a number is not finite it is the result of an update without effect.
        """
        quantities = {**batch.course, "last observation": batch.last}
        try:
            scaled = self._scale(state, batch)
            values = self._values(state, scaled.batch)
            advantages, targets = self._advantages(scaled, values)
            quantities |= {"value": values.inputs, "advantage": advantages.flatten()}
            if bad := first_nonfinite(quantities, over_ranks=True):
                raise FloatingPointError(bad)
            past = self._recall(state, scaled)
            samples, scalars = self._maker.samples(scaled.batch, advantages, targets, values, past)
            targets, old = self._maker.flat(samples, scaled.batch, targets, values)
            scalars = {"critic/explained_variance": self._explained_variance(samples["actor"], targets, old), **scalars}
            if self.compatible is None:
                return _Estimates(quantities, scaled, values, targets, samples, scalars, past=past)
            estimate = self._compatible(self.compatible, state, scaled, samples["actor"])
        except (FloatingPointError, NumericalFailure) as failure:
            return UpdateResult({}, 1, first_bad_quantity(quantities) or str(failure), quantities)
        samples["actor"], scalars = estimate.samples, {**scalars, **estimate.scalars}
        return _Estimates(quantities, scaled, values, targets, samples, scalars, estimate.natural)

    def _scale(self, state: State, batch: Rollout) -> _Scaled:
        """The batch with scaled rewards, and the first one with normalised inputs, see policy/normalisers.py.

        Raises FloatingPointError where observations or rewards are not finite.
        """
        observations = self.observations.merge(state["observations"], batch.visited)
        rewards = self.rewards.merge(state["rewards"], batch.rewards, batch.done, self._config.gamma, batch.mask.bool())
        if self.observations.is_new(state["observations"]):
            batch = batch.seen_by(self.policy({"actor": state["actor"], "observations": observations}))
        if any(learner.update.network.memory for learner in self.learners.values()):
            batch = replace(batch, by_environment=True)  # whose sequences are then consecutive samples
        explored = self._explorer.explore(state["exploration"], batch) if self._explorer else None
        return _Scaled(batch, self.rewards.apply(rewards, batch.rewards), observations, rewards, explored)

    def _copy(self, state: State, estimates: _Estimates) -> _Training:
        """Copies of the networks, for training to change."""
        networks = {name: _copy_network(state[name]) for name in self.learners}
        if estimates.natural is not None and COMPATIBLE in self.actor.update.solver.needs:
            parts = networks["actor"]["parts"]
            networks["actor"]["parts"] = {**parts, "solver": with_direction(parts["solver"], estimates.natural)}
        if self._popart:
            self._rescale(networks["critic"], self._popart, estimates.samples["critic"])
        results = dict.fromkeys(self.learners, TrainingResult())
        return _Training(state, networks, results, dict(estimates.samples), estimates.targets)

    def _rescale(self, critic: State, popart: PopArt, samples: Samples) -> None:
        """Let the statistics of the critic's targets follow these samples, and its last layer the statistics."""
        before, critic["targets"] = critic["targets"], popart.merge(critic["targets"], samples)
        assert self.critic is not None
        preserve_(critic["theta"], self.critic.update.network.layout, before, critic["targets"])

    def _train(self, training: _Training, estimates: _Estimates, generator: torch.Generator) -> Iterator[str]:
        """Train the networks. Yields "actor" when the actor has finished, and "critic" when all is done."""
        recompute = self._config.advantages.recompute
        rounds = max(learner.schedule.epochs for learner in self.learners.values()) if recompute else 1
        for epoch in range(rounds):
            if epoch:
                values = self._values(training.networks, estimates.scaled.batch)
                advantages, targets = self._advantages(estimates.scaled, values)
                batch, before, past = estimates.scaled.batch, estimates.values, estimates.past
                now = [self._values(training.networks, p.batch) for p in past]
                training.samples, _ = self._maker.samples(batch, advantages, targets, before, past, now)
                training.targets, _ = self._maker.flat(training.samples, batch, targets, before)
            for name, learner in self.learners.items():
                epochs = learner.schedule.epochs
                if epoch >= epochs or training.results[name].stopped:
                    continue
                count = 1 if recompute else epochs
                network, samples = training.networks[name], training.samples[name]
                if "targets" in network:
                    samples = to_outputs(network["targets"], samples)
                network["theta"], network["parts"], result = learner.run(
                    network["theta"], network["parts"], samples, generator, count
                )
                training.results[name] += result
                if name == "actor" and (training.results[name].stopped or epoch + count == epochs):
                    yield name
        if self.critic is not None:
            yield "critic"

    def _verify(self, training: _Training, name: str) -> None:
        """Measure what a network learned; where that is not finite the network goes back to where it was."""
        measure, scalar, what = (
            (self._measure_actor, "step/kl", "KL") if name == "actor" else (self._measure_critic, "critic/loss", "loss")
        )
        measured, theta = measure(training), training.networks[name]["theta"]
        value = torch.as_tensor(measured[scalar], dtype=theta.dtype, device=theta.device)
        if bad := first_nonfinite({"theta": theta, what: value}):
            training.networks[name] = dict(training.before[name])
            training.results[name] += TrainingResult(skipped=1, failure=f"{bad} after the update")
            measured = measure(training)
        training.measured[name] = measured

    def _commit(self, training: _Training, estimates: _Estimates) -> tuple[State, UpdateResult]:
        """The state after the update, with schedules and averages advanced, and the update's result."""
        networks, results, changed = training.networks, training.results, training.measured["actor"]
        loss = self._measure_critic(training) if self.critic is None else training.measured["critic"]
        for name, learner in self.learners.items():
            adapts = name == "actor" and not results[name].failure
            networks[name]["parts"] = learner.advance(networks[name]["parts"], changed if adapts else None)
        actor = networks["actor"]
        if "memory" in networks.get("critic", {}):
            networks["critic"]["memory"] = memory_of_all_ranks(networks["critic"]["memory"], estimates.values.memory)
        actor["average"] = self._config.averaging.update(actor["average"], actor["theta"])
        scalars = {**results["actor"].last.read(), **estimates.scalars, **changed}
        if self.critic is not None:
            scalars |= _critic_scalars(results["critic"].last.read())
        if self._popart:
            shift, scale = shift_and_scale(networks["critic"]["targets"])
            scalars |= {"critic/target_mean": shift, "critic/target_std": scale}
        scalars |= loss
        failures = [f"{name} {r.failure}".removeprefix("actor ") for name, r in results.items() if r.failure]
        quantities = estimates.quantities
        if failures:
            quantities = quantities | {f"{name} parameters": network["theta"] for name, network in networks.items()}
        skipped = sum(result.skipped for result in results.values())
        scaled = estimates.scaled
        state = {**networks, "observations": scaled.observations_state, "rewards": scaled.rewards_state}
        if self._reuse:
            state["reuse"] = self._reuse.keep(training.before["reuse"], scaled.batch)
        if scaled.explored:
            state["exploration"], scalars = training.exploration, {**scalars, **scaled.explored.scalars}
        return state, UpdateResult(host(scalars), skipped, failures[0] if failures else None, quantities)

    def actor_samples(self, state: State, batch: Rollout) -> Samples:
        """The samples that the actor would learn from in ``state``."""
        scaled = self._scale(state, batch)
        values = self._values(state, scaled.batch)
        samples = self._maker.samples(scaled.batch, *self._advantages(scaled, values), values)[0]["actor"]
        return self._compatible(self.compatible, state, scaled, samples).samples if self.compatible else samples

    def _compatible(self, compatible: CompatibleEstimator, state: State, scaled: _Scaled, samples: Samples) -> Estimate:
        """The compatible critic's estimate from this batch and the actor's samples of it."""
        theta, critic_theta = state["actor"]["theta"], state["critic"]["theta"]
        return compatible.estimate(self.actor.update, theta, critic_theta, scaled.batch, scaled.rewards, samples)

    def _recall(self, state: State, scaled: _Scaled) -> list[Past]:
        """The earlier batches to learn from, as the policy in ``state`` sees them, with its critic's values."""
        if not self._reuse or not state["reuse"]:
            return []
        rewards = partial(self.rewards.apply, scaled.rewards_state)
        past = self._reuse.recall(state["reuse"], self.policy(state), rewards)
        return [replace(p, values=self._values(state, p.batch)) for p in past]

    def _values(self, networks: State, batch: Rollout) -> Values:
        """V at every input and at the truncated episodes' last observations."""
        name, learner = list(self.learners.items())[-1]
        return values_of(learner.update.network, networks[name], batch, self.device, of_policy=self.critic is None)

    def _advantages(self, scaled: _Scaled, values: Values) -> tuple[Tensor, Tensor]:
        """Advantages and targets, [T, E] each."""
        v, batch, c = values.inputs, scaled.batch, self._config
        following = batch.next_values(v, values.final)
        advantages, targets = gae(
            scaled.rewards, v[:-1], following, batch.terminated, batch.done, c.gamma, c.gae_lambda
        )
        return (advantages + scaled.explored.advantages if scaled.explored else advantages), targets

    def _explained_variance(self, samples: Samples, targets: Tensor, values: Tensor) -> Tensor:
        """The share () of the targets' variance that the values (B,) explain."""
        targets, values = to_device(targets, self.device), to_device(values, self.device)
        variance = samples.mean((targets - samples.mean(targets)) ** 2)
        error = targets - values
        return 1 - samples.mean((error - samples.mean(error)) ** 2) / variance.clamp(min=1e-12)

    def _measure_actor(self, training: _Training) -> Scalars:
        """The KL, in nats, and other measures of the actor's update, on the whole batch."""
        network, start = training.networks["actor"], training.before["actor"]["theta"]
        return self.actor.measure(network["theta"], network["parts"], training.samples["actor"], start)

    def _measure_critic(self, training: _Training) -> Scalars:
        """Mean squared error of the values, on the targets of the whole batch."""
        samples, targets = training.samples["actor"], to_device(training.targets, self.device)
        inputs = training.samples[list(self.learners)[-1]].inputs
        name, learner = list(self.learners.items())[-1]
        values = value(learner.update.network, training.networks[name], inputs)
        return {"critic/loss": samples.mean((targets - values) ** 2)}


_CRITIC_SCALARS = ("step/size", "step/accepted", "step/kl", "solver/", "damping/")  # recorded of the critic's update


def _critic_scalars(scalars: Scalars) -> Scalars:
    """The critic's scalars, by names of its own: solver/residual is critic/solver_residual."""
    shown = {name: value for name, value in scalars.items() if name.startswith(_CRITIC_SCALARS)}
    return {f"critic/{name.replace('/', '_')}": value for name, value in shown.items()}


def _copy_network(network: dict[str, Any]) -> dict[str, Any]:
    """A network's state, with copies of all that an optimizer changes in place."""
    parts = network["parts"]
    return {**network, "theta": network["theta"].clone(), "parts": {**parts, "step": _clone_tensors(parts["step"])}}


def _clone_tensors(node: Any) -> Any:
    if isinstance(node, Tensor):
        return node.clone()
    return {k: _clone_tensors(v) for k, v in node.items()} if isinstance(node, dict) else node
