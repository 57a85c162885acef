"""Learner: all the updates of one network after one rollout, epochs of minibatches or the whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, positive
from rlopt.core.heads import Head, Joint
from rlopt.core.parts import Scalars, State, kl_adaptive_step
from rlopt.core.problem import adaptive_objective
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.update import Report, Update
from rlopt.parallel.collectives import broadcast_theta, world_size


@dataclass(frozen=True)
class Schedule:
    """Epochs over the batch; ``minibatch`` samples a step (None: the whole batch).

    No epoch begins once the mean KL from the policy that acted, on the whole batch, is above ``target_kl`` (None: all
    do). For a critic, KL is squared change over twice the value head's variance. For a Joint head only the policy's
    KL counts. A network with memory learns through ``sequence`` steps at a time, which minibatches keep together.
    """

    epochs: int
    minibatch: int | None
    target_kl: float | None  # nats
    sequence: int | None = None  # steps that a network with memory learns through; None: those of a whole rollout

    def __post_init__(self) -> None:
        at_least_one("epochs", self.epochs)
        if self.minibatch is not None:
            at_least_one("minibatch", self.minibatch)
        if self.target_kl is not None:
            positive("target_kl", self.target_kl)
        if self.sequence is not None:
            at_least_one("sequence", self.sequence)


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of all updates of one network after one rollout."""

    steps: int = 0
    skipped: int = 0  # steps not taken because a quantity was not finite
    failure: str | None = None  # the first such quantity
    last: Report = Report()  # of the last step that was not skipped
    stopped: bool = False  # at the target KL

    def __add__(self, other: TrainingResult) -> TrainingResult:
        return TrainingResult(
            self.steps + other.steps,
            self.skipped + other.skipped,
            self.failure or other.failure,
            other.last if other.last.scalars else self.last,
            self.stopped or other.stopped,
        )


class Learner:
    """Runs ``update`` by ``schedule``. Holds no state: theta (P,) and the parts' states come in and go out.

    With ``normalise`` the advantages of every minibatch get mean 0 and standard deviation 1, each by itself.
    Raises Incompatible where the schedule has minibatches and a part needs the whole batch.
    """

    def __init__(self, update: Update, schedule: Schedule, normalise: bool = False):
        u = update
        if (size := schedule.minibatch) is not None:
            for part in (u.objective, u.metric, u.solver, u.damping, u.step, u.estimator):
                if part.requirements.whole_batch:
                    needs = f"{type(part).__name__} needs the whole batch, and no minibatches of {size}"
                    raise Incompatible(needs, Remedy.WHOLE_BATCH)
        self.update = update
        self.schedule = schedule
        self._normalise = normalise

    @property
    def policy(self) -> Head:
        """The update's head, or its policy's; it reads the last of the outputs."""
        head = self.update.head
        return head.policy if isinstance(head, Joint) else head

    def _of_policy(self, z: Tensor) -> Tensor:
        """The policy's part of the outputs z (B, O)."""
        return z[:, -(self.policy.network_outputs + self.policy.constants) :]

    def init(self, theta: Tensor) -> State:
        return self.update.init(theta)

    @torch.no_grad()
    @np.errstate(all="ignore")  # the update finds and names what is not finite
    def run(
        self, theta: Tensor, state: State, samples: Samples, generator: torch.Generator, epochs: int
    ) -> tuple[Tensor, State, TrainingResult]:
        """``epochs`` passes over the samples, from theta (P,)."""
        kept = world_size() > 1 or kl_adaptive_step(self.update.step) is not None
        before = theta.clone() if kept else theta  # an optimizer may change theta in place
        steps, skipped, failure, last, stopped = 0, 0, None, Report(), False
        size = self.schedule.minibatch
        largest = len(samples) if size is None or size > len(samples) else size + len(samples) % size
        given = samples.arrays if self.update.takes_arrays(theta, samples, largest) else samples
        for _ in range(epochs):
            for minibatch in given.minibatches(size, generator, self.update.network.sequence):
                if self._normalise:
                    minibatch = minibatch.with_normalised_advantages()
                theta, state, report = self.update(theta, state, minibatch)
                steps += 1
                if report.failure:
                    skipped += 1
                    failure = failure or report.failure
                else:
                    last = report
            state, stopped = self._after_epoch(theta, before, state, samples)
            if stopped:
                break
        return broadcast_theta(theta, before), state, TrainingResult(steps, skipped, failure, last, stopped)

    def _after_epoch(self, theta: Tensor, before: Tensor, state: State, samples: Samples) -> tuple[State, bool]:
        """State after an epoch, and True where the mean KL from the policy that acted is above the schedule's target.

        A step whose rates follow the KL learns of it here: 0 where theta is as ``before``, though by rounding the
        outputs of the policy that acted may not be those of now.
        """
        target, step = self.schedule.target_kl, kl_adaptive_step(self.update.step)
        if target is None and step is None:
            return state, False
        old, z = samples.old_outputs, self.update.network.outputs(theta, samples.inputs)
        kl = samples.mean(self.policy.kl(self._of_policy(old), self._of_policy(z)))
        if step is not None:
            found = 0.0 if torch.equal(theta, before) else float(kl)
            state = {**state, "step": step.adapt_to_kl(state["step"], found)}
        return state, target is not None and bool(kl > target)

    def advance(self, state: State, measured: Scalars | None = None) -> State:
        """State at the end of a whole update: learning-rate schedules move; a policy's objective learns.

        ``measured`` is what `measure` found, of a policy.
        """
        state = {**state, "step": self.update.step.advance(state["step"])}
        if measured and (objective := adaptive_objective(self.update.objective)):
            kl = measured.get("policy/kl", measured["step/kl"])
            state["objective"] = objective.adapt(state["objective"], float(kl))
        return state

    @torch.no_grad()
    def measure(self, theta: Tensor, state: State, samples: Samples, start: Tensor | None = None) -> Scalars:
        """The change that a whole update made from the policy that acted, with theta ``start``, on the whole batch.

        KL in nats (of a Joint head that of both parts, and the policy's), improvement in units of the objective,
        what it loses by l2 included where ``start`` is given, entropy in nats; the standard deviation of actions that
        are real numbers, and the share of ratios that are beyond the clip of an objective that has one.
        """
        update, head, policy = self.update, self.update.head, self.policy
        objective = update.current_objective(state)
        old = samples.old_outputs
        z = update.network.outputs(theta, samples.inputs)
        before = samples.mean(objective.values(head, old, samples))
        after = samples.mean(objective.values(head, z, samples))
        if update.l2 and start is not None:
            after = after - update.l2 / 2 * (torch.dot(theta, theta) - torch.dot(start, start))
        scalars = {
            "step/kl": samples.mean(head.kl(old, z)),
            "step/improvement": after - before,
            "policy/entropy": samples.mean(policy.entropy(self._of_policy(z))),
        }
        clipped = getattr(objective, "clipped", lambda *_: None)(head, z, samples)
        for name, each in (("policy/std", policy.std(self._of_policy(z))), ("policy/clip_fraction", clipped)):
            if each is not None:
                scalars[name] = samples.mean(each)
        if policy is not head:
            scalars["policy/kl"] = samples.mean(policy.kl(self._of_policy(old), self._of_policy(z)))
        return scalars


def host(scalars: Scalars) -> dict[str, float]:
    """Scalars as Python floats, reading the device once."""
    read = {name: x.to(torch.float64).reshape(()) for name, x in scalars.items() if isinstance(x, Tensor)}
    device = next((x.device for x in read.values() if x.device.type != "cpu"), torch.device("cpu"))
    values = torch.stack([x.to(device) for x in read.values()]).tolist() if read else []
    found = dict(zip(read, values, strict=True))
    return {name: found[name] if name in found else float(x) for name, x in scalars.items()}
