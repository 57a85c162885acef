# %% [markdown]
# # An environment of one's own
# A walker on a line of `size` places wants to reach the right end. The class is all that rlopt needs: no registration.

# %%
import gymnasium as gym
import numpy as np

import rlopt

STEPS = 20_000  # of the first training

# %%


class Line(gym.Env):
    """Places 0 to size; two actions, left and right; 1 for arriving, and every step costs 0.01."""

    observation_space = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, size: int = 8):
        self.size = size

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t, self.x = self.t + 1, max(0, self.x + (1 if action else -1))
        arrived = self.x == self.size
        return self.seen(), float(arrived) - 0.01, arrived, self.t >= 50, {"is_success": arrived}

    def seen(self):
        return np.array([self.x / self.size, self.t / 50], np.float32)


# %% [markdown]
# Options are the command line's. `record.info` adds the environment's own numbers to the record. Stop the cell while it
# trains, and `trained` is the run so far.

# %%
trained = rlopt.train("algo=trpo", "record.info=[is_success]", total_steps=STEPS, env=Line)
trained.plot()

# %% [markdown]
# `plot` takes any scalars that were recorded, and `scalars` has them as arrays.

# %%
trained.plot("episode/return", "policy/entropy", "info/is_success_at_end")

# %%
steps, values = trained.scalars("critic/explained_variance")["critic/explained_variance"]
print(f"after {steps[-1]:.0f} steps the critic explains {values[-1]:.0%} of its targets' variance")

# %% [markdown]
# The policy acts on observations as the environment gives them.

# %%
policy, env = rlopt.load(trained.run_dir), Line()
observation, _ = env.reset(seed=0)
places, over = [0], False
while not over:
    observation, _, terminated, truncated, _ = env.step(policy(observation))
    places.append(env.x)
    over = terminated or truncated
print(places)

# %% [markdown]
# A run goes on from where it ended, with more steps.

# %%
longer = rlopt.resume(trained.run_dir, f"total_steps={2 * STEPS}", env=Line)
print(longer.summary["steps"], longer.summary["evaluation_return"])
