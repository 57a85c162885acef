"""rlopt's own tasks. Importing this registers their ids with Gymnasium; their code is loaded when one is made."""

import gymnasium as gym

gym.register("rlopt/LQR-v0", entry_point="rlopt.tasks.lqr_env:LQREnv")
