"""Changes that a callback makes in the environments during a run, and their place in a replayed episode.

A change is a plain tree: {"rollout": k, "name": NAME, "set": bool, "arguments": [...]}. It is made before the first
step of rollout k, in every environment: the attribute NAME is set to the one argument, or the method NAME is called
with the arguments. The environment itself or one of its wrappers has it, the outermost first.

A run that is resumed makes new environments. Each of them goes through all changes again: those from before its running
episode at once, those within the episode at the step at which they were made (`rlopt.envs.replay`).
"""

from __future__ import annotations

import gymnasium as gym

from rlopt.envs.replay import Change, as_given, layers


def change(env: gym.Env, what: Change) -> None:
    """Make one change in an environment. Raises AttributeError where it has nothing of that name."""
    name, arguments = what["name"], as_given(what["arguments"])  # copies: an environment may change them
    owners = [layer for layer in layers(env) if not type(layer).__module__.startswith("rlopt.envs.")]
    owner = next((layer for layer in owners if hasattr(layer, name)), None)
    if owner is None:
        raise AttributeError(f"neither {type(env.unwrapped).__name__} nor a wrapper of it has {name}")
    if what["set"]:
        setattr(owner, name, arguments[0])
    else:
        getattr(owner, name)(*arguments)
