"""Behaviour cloning: a policy that imitates recorded actions (Pomerleau 1991), before it learns from rewards.

    maximise  mean log pi(a | o)   by   theta <- theta + alpha (M + lambda I)^-1 g

over recorded observations o and actions a, with the run's own metric, solver, damping, step and schedule; rates stay as
they begin. The parameters that are kept are those with the highest mean log-probability of held-out transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlopt.core.learner import Learner
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.parts import COMPATIBLE, State
from rlopt.core.samples import Samples
from rlopt.envs.observations import describe_space
from rlopt.envs.spaces import first_values, has_mask_key, is_continuous, mask_counts, scale_and_shift
from rlopt.errors import UserError, in_one_line, needs_extra
from rlopt.files import shown
from rlopt.policy.policy import Policy
from rlopt.rollout.seeding import Purpose, torch_generator
from rlopt.training.agent import Agent

_INSIDE = 1 - 1e-6  # the largest |action| that is taken back through tanh
MINARI = "minari:"  # begins the name of a dataset of Minari's


@dataclass(frozen=True)
class Demonstrations:
    """N recorded transitions, as the environment gives observations and takes actions."""

    observations: Any  # (N, ...), or a dictionary of such arrays for a Dict space
    actions: np.ndarray  # (N, ...)
    name: str  # of the dataset


@dataclass(frozen=True)
class Progress:
    """Mean log-probabilities, nats, after an update."""

    update: int
    trained: float
    held_out: float


def read_demonstrations(name: str) -> Demonstrations:
    """From a .npz file with arrays ``observations`` and ``actions``, or from Minari's dataset ``minari:NAME``.

    The observations of a Dict space are arrays ``observations/KEY``. Raises UserError where it cannot be read.
    """
    if name.startswith(MINARI):
        return _read_minari(name)
    path = Path(name)
    where = shown(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{where} is not a .npz file that can be read: {in_one_line(error)}") from error
    by_key = {key.partition("/")[2]: x for key, x in arrays.items() if key.startswith("observations/")}
    observations = by_key or arrays.get("observations")
    if observations is None or "actions" not in arrays:
        raise UserError(f"{where} must hold arrays named observations and actions; got {', '.join(arrays) or 'none'}")
    return Demonstrations(observations, arrays["actions"], str(where))


def _read_minari(name: str) -> Demonstrations:
    try:
        import minari  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(needs_extra("a dataset of Minari's needs it", "minari")) from error
    try:
        episodes = list(minari.load_dataset(name.removeprefix(MINARI), download=True).iterate_episodes())
    except Exception as error:
        raise UserError(f"{name} cannot be loaded: {in_one_line(error)}") from error
    return Demonstrations(
        _joined([_first(episode.observations, len(episode.actions)) for episode in episodes]),
        np.concatenate([episode.actions for episode in episodes]),
        name,
    )


def _first(observations: Any, count: int) -> Any:
    """The first observations of an episode, which has one more than it has actions."""
    if isinstance(observations, dict):
        return {key: _first(x, count) for key, x in observations.items()}
    return observations[:count]


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


class Cloner:
    """Trains the agent's policy on demonstrations. ``held_out`` is the share of them that it does not learn from.

    Raises UserError where the demonstrations do not belong to the environment, or the policy's update cannot learn
    from them.
    """

    def __init__(self, agent: Agent, state: State, policy: Policy, data: Demonstrations, held_out: float, seed: int):
        self.agent, self._state = agent, state
        solver = agent.actor.update.solver
        if agent.critic is None:
            raise UserError("cloning trains a policy without a value; add critic=mlp")
        if agent.actor.update.network.columns is not None:
            raise UserError("cloning reads whole observations; leave out policy.keys")
        if agent.actor.update.network.memory:
            raise UserError(
                "cloning reads transitions one by one, and a policy with memory whole episodes; choose another"
            )
        if policy.frozen.network.masked and not has_mask_key(policy.observation_space, policy.action_space):
            raise UserError(
                "cloning reads no action masks of info['action_mask'] yet; add env.mask=none to clone a policy without "
                "masks, which may choose what they forbid"
            )
        if COMPATIBLE in solver.needs:
            raise UserError(f"{type(solver).__name__} takes its direction from rewards; choose another solver")
        self.learner = Learner(replace(agent.actor.update, objective=LogProb(0.0)), agent.actor.schedule)
        self._generator = torch_generator(seed, Purpose.MINIBATCHES)
        raw, actions = _rows(policy, data), _policy_actions(policy, data)
        if policy.frozen.network.masked:
            _check_allowed(policy, data.name, raw, actions)
        order = torch.randperm(len(raw), generator=self._generator)
        kept = max(1, round(len(raw) * (1 - held_out)))
        self._normaliser = agent.observations.merge(state["observations"], raw[order[:kept]])
        inputs = agent.observations.apply(self._normaliser, raw)
        self._train, self._test = (
            self._samples(inputs[rows], actions[rows])
            for rows in (order[:kept], order[kept:] if kept < len(raw) else order)
        )

    def _samples(self, inputs: Tensor, actions: Tensor) -> Samples:
        ones = torch.ones(len(inputs), dtype=self._state["actor"]["theta"].dtype)
        return Samples(inputs, actions, ones, advantages=ones).to(self.agent.device)

    def run(self, updates: int, report: Callable[[Progress], object]) -> tuple[State, Progress]:
        """The agent's state with the best policy of so many updates, all else as before its first rollout.

        ``report`` gets the progress after every update. Raises UserError where no update gave finite numbers.
        """
        theta = self._state["actor"]["theta"].clone()
        parts = self.learner.init(theta)
        best: tuple[Tensor, Progress] | None = None
        for update in range(1, updates + 1):
            samples = self._with_old(theta)
            theta, parts, result = self.learner.run(
                theta, parts, samples, self._generator, self.learner.schedule.epochs
            )
            progress = Progress(update, *(self._log_prob(theta, s) for s in (self._train, self._test)))
            if result.failure or not np.isfinite(progress.held_out):
                failure = result.failure or "log-probability"
                raise UserError(f"cloning was given up at update {update}: {failure} is not finite; take smaller steps")
            report(progress)
            if best is None or progress.held_out > best[1].held_out:
                best = theta.clone(), progress
        assert best is not None
        thetas = {name: self._state[name]["theta"] for name in self.agent.learners} | {"actor": best[0]}
        begun = self.agent.init(thetas, len(self._train.inputs[0]), num_envs=1)  # of which the actor alone is new
        return {**self._state, "actor": begun["actor"], "observations": self._normaliser}, best[1]

    def _with_old(self, theta: Tensor) -> Samples:
        """The samples to learn from, with what the policy says of them now."""
        network, head = self.learner.update.network, self.learner.policy
        outputs = network.outputs(theta, self._train.inputs)
        return self._train.replacing(old_outputs=outputs, old_log_prob=head.log_prob(outputs, self._train.actions))

    @torch.no_grad()
    def _log_prob(self, theta: Tensor, samples: Samples) -> float:
        outputs = self.learner.update.network.outputs(theta, samples.inputs)
        return float(samples.mean(self.learner.policy.log_prob(outputs, samples.actions)))


def _rows(policy: Policy, data: Demonstrations) -> Tensor:
    """(N, D) flat observations, not yet normalised."""
    try:
        raw, single = policy.rows(data.observations)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        space = describe_space(policy.observation_space)
        raise UserError(f"{data.name}: its observations are not of {space}: {in_one_line(error)}") from error
    count = len(data.actions) if np.ndim(data.actions) else 1
    if single or len(raw) != count or not count:
        raise UserError(f"{data.name} must have as many observations as actions; got {len(raw)} and {count}")
    if raw.is_floating_point() and not raw.isfinite().all():
        raise UserError(f"{data.name}: observation {int((~raw.isfinite()).any(1).nonzero()[0])} is not finite")
    return raw


def _policy_actions(policy: Policy, data: Demonstrations) -> Tensor:
    """(N, ...) actions as the policy draws them, before they are scaled, squashed and typed for the environment."""
    space, actions = policy.action_space, data.actions
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise UserError(
            f"{data.name}: recorded actions are one array, and those of {describe_space(space)} are several"
        )
    if actions.dtype.kind not in "biuf":
        raise UserError(f"{data.name}: actions must be numbers, of {describe_space(space)}; got {actions.dtype}")
    outside = next((i for i, action in enumerate(actions) if not _contains(space, action)), None)
    if outside is not None:
        came = " ".join(np.array2string(np.asarray(actions[outside]), threshold=10).split())
        raise UserError(f"{data.name}: action {outside} is not of {describe_space(space)}: {came}")
    example = policy.head.mode(torch.zeros(1, policy.frozen.width, dtype=policy.frozen.theta.dtype))
    if isinstance(space, spaces.Box) and is_continuous(space):
        scale, shift = scale_and_shift(space)
        a = (actions.reshape(len(actions), -1).astype(np.float64) - shift) / scale
        a = np.arctanh(a.clip(-_INSIDE, _INSIDE)) if getattr(policy.head, "squash", False) else a
    else:
        a = actions - first_values(space)
    return torch.as_tensor(a.reshape(len(actions), *example.shape[1:])).to(example.dtype)


def _check_allowed(policy: Policy, name: str, raw: Tensor, actions: Tensor) -> None:
    """Raise UserError where the mask behind a row of ``raw`` forbids the action that was taken there."""
    counts = torch.tensor(mask_counts(policy.action_space))
    at = actions.reshape(len(raw), -1).long() + counts.cumsum(0) - counts
    forbidden = (raw[:, -policy.frozen.width :].gather(1, at) == 0).any(1).nonzero()
    if len(forbidden):
        row = int(forbidden[0])
        raise UserError(f"{name}: action {row}, {actions[row].tolist()}, is forbidden by the mask of observation {row}")


def _contains(space: gym.Space, action: Any) -> bool:
    """Whether the space holds the action, whatever its type and to rounding."""
    if isinstance(space, spaces.Box):
        slack = 1e-5 * np.maximum(1, np.abs(action))
        alike = np.shape(action) == space.shape
        inside = alike and bool(np.all(action >= space.low - slack) and np.all(action <= space.high + slack))
        return inside and (is_continuous(space) or bool(np.all(action == np.floor(action))))
    whole = bool(np.all(np.isfinite(action) & (action == np.floor(action))))
    return whole and space.contains(np.asarray(action).astype(space.dtype))
