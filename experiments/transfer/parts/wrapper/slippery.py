"""Half of a MuJoCo model's friction."""

import gymnasium as gym


class Slippery(gym.Wrapper):
    def __init__(self, env: gym.Env):
        super().__init__(env)
        env.unwrapped.model.geom_friction[:] *= 0.5
