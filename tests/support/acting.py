"""Policies of every head and space, and observations for them."""

from typing import Any

import gymnasium as gym
import numpy as np

from rlopt.policy.policy import Policy
from tests.support.probes import make_trainer

CNN = [f"{net}.{name}=[{value}]" for net in ("policy", "critic") for name, value in
       (("channels", 4), ("kernels", 3), ("strides", 2))]  # fmt: skip


EVERY = {  # head or observation -> the run
    "Categorical": ["env=cartpole"],
    "Joint": ["env=cartpole", "critic=shared"],
    "MultiCategorical": ["env.id=probe/MultiDiscrete-v0"],
    "Bernoulli, Tuple": ["env.id=probe/Tuple-v0"],
    "DiagonalGaussian": ["env=pendulum"],
    "squashed, in sigma": ["env=pendulum", "policy.squash=true", "policy.scale=sigma"],
    "Beta": ["env=pendulum", "policy.head=beta"],
    "GSDE": ["env=pendulum", "policy.head=gsde", "critic=shared"],
    "FullGaussian": ["env.id=probe/Seeded-v0", "policy.head=full_gaussian"],
    "Product": ["env.id=probe/MixedTuple-v0"],
    "Product, Beta": ["env.id=probe/Mixed-v0", "policy.head=beta", "critic=shared"],
    "whole numbers": ["env.id=probe/Whole-v0"],
    "Dict": ["env.id=probe/Dict-v0"],
    "Discrete": ["env.id=probe/Discrete-v0"],
    "MultiBinary": ["env.id=probe/MultiBinary-v0"],
    "several inputs": ["env.id=probe/Dict-v0", "policy=multi_input", "policy.embedding=2"],
    "image": ["env.id=probe/Image-v0", "policy=nature_cnn", "critic=nature_cnn", *CNN],
}


def moved(*overrides: str) -> Policy:
    """A policy after one update, so that its normaliser has moved."""
    run = make_trainer("batch_size=160", "policy.last_gain=1.0", *overrides)
    try:
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, lesson = run.agent.learn(run.state, batch, run.minibatches)
    finally:
        run.collector.close()
    assert lesson.failure is None
    return Policy(run.agent.evaluated_policy(run.state), run.agent.head, *run.config.env.spaces())


def seen(policy: Policy, count: int) -> list[Any]:
    """Observations of its space; numbers without bounds are drawn from a normal distribution."""
    space = policy.observation_space
    space.seed(0)
    if isinstance(space, gym.spaces.Box) and space.dtype != np.uint8:
        return list(3 * np.random.default_rng(0).standard_normal((count, *space.shape)).astype(np.float32))
    return [space.sample() for _ in range(count)]


def leaves(tree: Any) -> list[Any]:
    """The arrays in nested dictionaries, in the order of their keys, and tuples."""
    if not isinstance(tree, dict | tuple):
        return [tree]
    return [
        leaf for part in ([tree[k] for k in sorted(tree)] if isinstance(tree, dict) else tree) for leaf in leaves(part)
    ]


def equal(a: Any, b: Any) -> bool:
    """Whether two actions, of any space, are the same."""
    both = list(zip(leaves(a), leaves(b), strict=True))
    return all(np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype for x, y in both)
