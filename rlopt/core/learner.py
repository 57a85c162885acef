"""Learner: all the updates of one network after one rollout, epochs of minibatches or the whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.parts import Scalars, State
from rlopt.core.samples import Samples
from rlopt.core.update import Report, Update


@dataclass(frozen=True)
class Schedule:
    """Epochs over the batch; ``minibatch`` samples a step (None: the whole batch)."""

    epochs: int
    minibatch: int | None

    def __post_init__(self) -> None:
        at_least_one("epochs", self.epochs)
        if self.minibatch is not None:
            at_least_one("minibatch", self.minibatch)


@dataclass(frozen=True)
class Outcome:
    """What the updates of one network did together."""

    steps: int = 0
    skipped: int = 0  # steps not taken because a quantity was not finite
    failure: str | None = None  # the first such quantity
    last: Report = Report()  # of the last step that was not skipped

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.steps + other.steps,
            self.skipped + other.skipped,
            self.failure or other.failure,
            other.last if other.last.scalars else self.last,
        )


class Learner:
    """Runs ``update`` by ``schedule``. Holds no state: theta and state come in and go out."""

    def __init__(self, update: Update, schedule: Schedule):
        check(
            schedule.minibatch is None or not update.step.whole_batch,
            "schedule.minibatch",
            f"null with step={type(update.step).__name__}, which measures on the whole batch",
            schedule.minibatch,
        )
        self.update = update
        self.schedule = schedule

    def init(self, theta: Tensor) -> State:
        return self.update.init(theta)

    @torch.no_grad()
    def run(
        self, theta: Tensor, state: State, samples: Samples, generator: torch.Generator, epochs: int
    ) -> tuple[Tensor, State, Outcome]:
        """``epochs`` passes over the samples, from theta (P,)."""
        steps, skipped, failure, last = 0, 0, None, Report()
        for _ in range(epochs):
            for minibatch in samples.minibatches(self.schedule.minibatch, generator):
                theta, state, report = self.update(theta, state, minibatch)
                steps += 1
                if report.failure:
                    skipped += 1
                    failure = failure or report.failure
                else:
                    last = report
        return theta, state, Outcome(steps, skipped, failure, last)

    def advance(self, state: State) -> State:
        """State at the end of a whole update: learning-rate schedules move."""
        return {**state, "step": self.update.step.advance(state["step"])}

    @torch.no_grad()
    def measure(self, theta: Tensor, samples: Samples) -> Scalars:
        """What the whole update changed, on the whole batch, against the policy that acted.

        KL in nats, improvement in units of the objective, entropy in nats.
        """
        update, head = self.update, self.update.head
        old = samples.old_outputs
        z = update.network.outputs(theta, samples.inputs)
        before = samples.mean(update.objective.values(head, old, samples))
        after = samples.mean(update.objective.values(head, z, samples))
        return {
            "step/kl": samples.mean(head.kl(old, z)),
            "step/improvement": after - before,
            "policy/entropy": samples.mean(head.entropy(z)),
        }


def host(scalars: Scalars) -> dict[str, float]:
    """Scalars as Python floats, reading the device once."""
    names = list(scalars)
    tensors = [torch.as_tensor(scalars[name], dtype=torch.float64).reshape(()) for name in names]
    device = next((t.device for t in tensors if t.device.type != "cpu"), torch.device("cpu"))
    return dict(zip(names, torch.stack([t.to(device) for t in tensors]).tolist(), strict=True)) if names else {}
