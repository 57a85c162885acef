"""Rollouts: environments, the collector, and returns. Rollout tensors are [T, E, ...]."""
