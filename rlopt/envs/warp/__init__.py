"""MuJoCo on the GPU: thousands of environments of one model are stepped together by MuJoCo Warp (extra `warp`).

`env.backend=warp` uses it, for Gymnasium's tasks of `rlopt.envs.mujoco` and for a model of one's own
(`rlopt.envs.mujoco.own`). Observations, rewards, ends of episodes and beginnings are the functions that
`env.backend=mujoco` has, in torch, over Warp's arrays as they lie in memory. On the processor it runs too, slowly: for
a few steps of a test. Evaluations and videos play MuJoCo in C.

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

So single steps agree to about six digits, and trajectories with contacts drift apart as chaotic ones do. On a GPU sums
are in an order of their own choice unless ``env.deterministic``, the default, fixes it: then the same command gives the
same bits. Kernels are compiled at the first use of a model, which takes minutes, and kept in Warp's cache.
"""

from rlopt.envs.warp.envs import WarpEnvs
from rlopt.envs.warp.simulation import Simulation, simulation_of

__all__ = ["Simulation", "WarpEnvs", "simulation_of"]
