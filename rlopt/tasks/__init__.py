"""rlopt's own tasks. Importing this registers their ids with Gymnasium; their code is loaded when one is made."""

import gymnasium as gym

gym.register("rlopt/LQR-v0", entry_point="rlopt.tasks.lqr_env:LQREnv")
gym.register("rlopt/CartPolePositions-v0", entry_point="rlopt.tasks.partial:cart_pole_positions", max_episode_steps=500)
gym.register("rlopt/PendulumPosition-v0", entry_point="rlopt.tasks.partial:pendulum_position", max_episode_steps=200)
gym.register("rlopt/TMaze-v0", entry_point="rlopt.tasks.partial:TMaze")
