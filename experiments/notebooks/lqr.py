# %% [markdown]
# # Why the natural gradient: Peters and Schaal's figure
# A linear system $s' = s + a$ with reward $-(s^2 + a^2)$ and the policy $a \sim N(k s, \sigma^2)$. Everything is known
# in closed form (`rlopt.tasks.lqr`), so that both gradients of the return can be drawn in the plane of $\theta = (k,
# \sigma)$ (Peters and Schaal 2008, Natural actor-critic, figure 1).

# %%
import matplotlib.pyplot as plt
import numpy as np

import rlopt
from rlopt.tasks.lqr import LQR

STEPS = 60_000  # of the training at the end
system = LQR(A=1.0, B=1.0, Q=1.0, R=1.0, gamma=0.95)  # from s = 0
print(f"the best gain is k = {system.optimum():.3f}, whatever sigma")

# %%
k, sigma = np.meshgrid(np.linspace(-1.8, -0.1, 18), np.linspace(0.05, 1.0, 12))
fields = {"vanilla gradient": system.gradient(k, sigma), "natural gradient": system.natural_gradient(k, sigma)}


def flow(step, start, steps=4000, length=2e-3):
    """The path along the unit vectors of a gradient, until sigma has vanished or the gradient has."""
    path = [np.array(start)]
    for _ in range(steps):
        arrow = step(*path[-1])
        if path[-1][1] < 0.01 or np.linalg.norm(arrow) < 1e-6:
            break
        path.append(path[-1] + length * arrow / np.linalg.norm(arrow))
    return np.array(path)


# %% [markdown]
# The vanilla gradient turns down towards $\sigma = 0$ before $k$ is right: it stops exploring before it has learned.
# The natural gradient does not.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
ends = {}
for axis, (name, field) in zip(axes, fields.items(), strict=True):
    unit = field / np.linalg.norm(field, axis=-1, keepdims=True)
    axis.contour(k, sigma, np.log(-system.J(k, sigma)), levels=10, colors="0.75", linewidths=0.8)
    axis.quiver(k, sigma, unit[..., 0], unit[..., 1], color="0.35", angles="xy", scale=24, width=0.003)
    path = flow(system.gradient if name.startswith("vanilla") else system.natural_gradient, (-0.3, 0.6))
    ends[name] = path[-1, 0]
    axis.plot(*path.T, color="#b34700", linewidth=2.2, label=f"ends at k = {path[-1, 0]:.2f}")
    axis.axvline(system.optimum(), color="black", linewidth=0.8, linestyle=":")
    axis.set(title=name, xlabel="k, gain", xlim=(-1.8, -0.1), ylim=(0, 1.02))
    axis.legend(loc="upper left")
axes[0].set_ylabel("σ, standard deviation of the action")
figure.savefig("lqr.png", dpi=110)

# %% [markdown]
# The trainer follows the second panel: TRPO's step is the natural gradient, on samples.

# %%
theta = []
trained = rlopt.train(
    "env=lqr", "algo=trpo", "policy=linear", "policy.scale=sigma", "policy.initial_sigma=0.6",
    total_steps=STEPS, evaluation={"episodes": 5},
    on_update=lambda moment, scalars: theta.append(moment.policy().frozen.theta.tolist()) and None,
)  # fmt: skip
print(f"k = {theta[-1][0]:.3f} and sigma = {theta[-1][1]:.3f}; the best k is {system.optimum():.3f}")
trained.plot()
