"""Rollouts: what collects them, the memory they are written to, their episodes and their advantages. [T, E, ...]."""
