"""Self-play: a frozen copy of the policy acts for the agents of one side of a game, and is replaced every n updates.

A game with two sides is then one against an opponent that holds still for n updates. Bansal et al. (2018, Emergent
complexity via multi-agent competition) draw the opponent from all earlier ones; here it is the latest alone. It acts by
samples, as the policy that learns does, with the normaliser of its own time. Its parameters, its normaliser and its
generator are in checkpoints, so that a resumed run goes on to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rlopt.envs.observations import observation_dtype
from rlopt.envs.replay import generator_of
from rlopt.envs.spaces import PolicyHead, action_transform
from rlopt.policy.inference import FrozenPolicy, numpy_sampler
from rlopt.rollout.seeding import Purpose, sequence


class FrozenOpponents:
    """Acts for the agents that do not learn; see `rlopt.envs.agents.envs.Opponents`.

    ``space`` and ``actions`` are of one agent, ``every`` counts the rollouts, and so the updates, that a copy lasts.
    """

    def __init__(
        self, head: PolicyHead, space: gym.Space, actions: gym.Space, every: int, seed: int, dtype: torch.dtype
    ):
        self._head, self._every, self._dtype = head, every, observation_dtype(space, dtype)
        self._transform = action_transform(actions, getattr(head, "squash", False))
        self._draw = numpy_sampler(head)
        self._noise_dtype = np.float64 if dtype == torch.float64 else np.float32
        self._generator = np.random.default_rng(sequence(seed, Purpose.OPPONENT))
        self._rollouts = 0  # that were begun
        self._policy: FrozenPolicy | None = None
        self._kept: tuple[Tensor, tuple[Tensor, Tensor] | None] | None = None  # theta and normaliser of a checkpoint

    def meet(self, policy: FrozenPolicy) -> None:
        """Before every rollout: the policy that will collect it, which is copied where the copy has done its time."""
        if self._rollouts % self._every == 0:
            normaliser = policy.shift_and_scale and tuple(x.clone() for x in policy.shift_and_scale)
            self._policy = policy.with_parameters(policy.theta.clone(), normaliser)  # type: ignore[arg-type]
        elif self._kept is not None:
            self._policy = policy.with_parameters(*self._kept)
        self._kept = None
        self._rollouts += 1

    @torch.inference_mode()
    def act(self, rows: np.ndarray) -> Sequence[Any]:
        """Actions, as the game takes them, for raw rows (K, ...)."""
        assert self._policy is not None
        raw = torch.from_numpy(rows.reshape(len(rows), -1)).to(self._dtype)
        z = self._policy.outputs(self._policy.normalise(raw, out=torch.empty_like(raw)))
        draw = self._generator.standard_normal if self._head.noise == "normal" else self._generator.random
        noise = draw((len(rows), self._head.noise_size), dtype=self._noise_dtype)
        with np.errstate(all="ignore"):  # the update finds numbers that are not finite
            actions: Sequence[Any] = self._transform(self._draw(z.numpy(), noise))  # type: ignore[assignment]
        return actions

    def state(self) -> dict[str, Any]:
        """Theta, normaliser, generator and count, as plain arrays and numbers."""
        assert self._policy is not None
        theta, normaliser = self._policy.theta, self._policy.shift_and_scale
        shift, scale = (None, None) if normaliser is None else (x.numpy() for x in normaliser)
        generator = self._generator.bit_generator.state
        return {
            "theta": theta.numpy(),
            "shift": shift,
            "scale": scale,
            "generator": generator,
            "rollouts": self._rollouts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the one whose `state` this is. Raises ValueError or LookupError for what cannot be one."""
        shift, scale = state["shift"], state["scale"]
        normaliser = None if shift is None else (torch.tensor(shift), torch.tensor(scale))
        self._kept, self._rollouts = (torch.tensor(state["theta"]), normaliser), int(state["rollouts"])
        self._generator = generator_of(state["generator"])
