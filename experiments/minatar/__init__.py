"""MinAtar: PPO, ACKTR and TRPO on five small Atari games."""
