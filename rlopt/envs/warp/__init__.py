"""MuJoCo on the GPU: thousands of environments of one model are stepped together by MuJoCo Warp (extra `warp`).

`env.backend=warp` uses it, for Gymnasium's tasks of `rlopt.envs.mujoco` and for a model of one's own
(`rlopt.envs.mujoco.own`). Observations, rewards, ends of episodes and beginnings are the functions that
`env.backend=mujoco` has, in torch, over Warp's arrays as they lie in memory. On a processor it runs too, slowly: one
core made 370 steps of HalfCheetah in a second of 16 environments and 4,300 of 512, where `env.backend=mujoco` made
19,000. Evaluations and videos play MuJoCo in C.

What differs from MuJoCo in C, and so from Gymnasium:

| what         | in C                               | here                                                           |
|---|---|---|
| numbers      | float64                            | float32; dtype=float64 is refused                              |
| solver       | as the model has it                | CG and Newton as the model has it, Newton where it has PGS     |
|              |                                    | (Humanoid, HumanoidStandup)                                    |
| tolerance    | as the model has it, mostly 1e-8   | at least 1e-6                                                  |
| bad numbers  | MuJoCo resets the state, and the   | the episode ends, and the update that it is in is skipped      |
|              | episode goes on                    |                                                                |
| contacts     | as many as there are               | as many as `env.nconmax` and `env.njmax` leave room for, which |
|              |                                    | are set by a dry run (`rlopt.envs.warp.sizes`); more are an    |
|              |                                    | error at the end of the rollout                                |
| not there    |                                    | the noslip solver with some integrators, plugins, sleeping,    |
|              |                                    | some flexes; MuJoCo Warp names what a model has of it          |

One step agrees with C's to 3e-7 in positions, and trajectories drift apart as those of C do that begin 1e-6 away. Of 16
environments with random actions, the positions (m, rad) after 10, 50 and 100 steps differed from C's by

| task                   | median: 10 | 50     | 100    | worst: 10 | 50     | 100    |
|---|---|---|---|---|---|---|
| HalfCheetah            | 3e-6       | 2e-2   | 0.3    | 3e-5      | 0.2    | 1      |
| Hopper                 | 2e-7       | 6e-7   | 2e-6   | 6e-7      | 8e-5   | 6e-4   |
| Walker2d               | 1e-6       | 9e-6   | 4e-5   | 3e-6      | 3e-5   | 2e-3   |
| Ant                    | 8e-2       | 2      | 2      | 0.2       | 2      | 5      |
| Humanoid               | 6e-7       | 7e-6   | 5e-5   | 1e-6      | 2e-2   | 0.2    |
| HumanoidStandup        | 5e-7       | 1e-6   | 4e-6   | 2e-6      | 3e-2   | 0.3    |
| Swimmer                | 3e-7       | 2e-6   | 5e-6   | 7e-7      | 2e-5   | 1e-4   |
| Reacher                | 7e-8       | 2e-6   | 5e-6   | 3e-7      | 4e-6   | 3e-5   |
| Pusher                 | 2e-7       | 5e-6   | 9e-5   | 4e-7      | 9e-5   | 2e-2   |
| InvertedPendulum       | 9e-8       | 3e-7   | 2e-6   | 3e-7      | 2e-6   | 1e-5   |
| InvertedDoublePendulum | 4e-7       | 2e-4   | 5e-2   | 2e-6      | 1e-3   | 8      |

HumanoidStandup was held against Newton in C. Ant stands out: friction is a pyramid, and Warp turns the one of a capsule
that stands steeply on a plane, as Ant's legs do, another way than C. With elliptic cones Ant too is at 2e-6 after 10
steps.

On a GPU sums are in an order of their own choice unless ``env.deterministic``, the default, fixes it: then the same
command gives the same bits. Kernels are compiled at the first use of a model, which takes minutes, and kept in Warp's
cache. All this was measured on a processor; on a GPU it has not been run yet.
"""

from rlopt.envs.warp.envs import WarpEnvs
from rlopt.envs.warp.simulation import Simulation, simulation_of

__all__ = ["Simulation", "WarpEnvs", "simulation_of"]
