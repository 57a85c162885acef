"""Other trainers, and when to use one of them. As of November 2026.

The entries for Stable-Baselines3 2.9.2, sb3-contrib 2.9.2 and Tianshou 2.0.1 are from their installed packages, those
for CleanRL from its README. Nothing else was compared.

| | rlopt 0.1 | Stable-Baselines3 + contrib | Tianshou | CleanRL |
|---|---|---|---|---|
| what it is | one update with interchangeable parts | a library of algorithms | a library of algorithms | one file for each algorithm, to read and to copy |
| on-policy | VPG, A2C, NPG, NAC, eNAC, TRPO, ACKTR, PPO, and every other combination | A2C, PPO; TRPO, recurrent PPO, masked PPO, ARS | REINFORCE, A2C, NPG, TRPO, PPO | PPO and variants of it |
| off-policy | none | DQN, QR-DQN, DDPG, TD3, SAC, TQC, CrossQ | DQN and its kin, DDPG, TD3, SAC, REDQ | DQN, C51, DDPG, TD3, SAC |
| offline | none | none | yes | none |
| several agents | one policy for all of them, self-play | none | yes | PPO on PettingZoo's Atari games |
| imitation | `rlopt clone`: recorded actions | none | yes | none |
| recurrent policies, action masks | both, but not together; memory for every preset but `nac` and `enac` | both, for PPO | recurrent networks | recurrent PPO |
| metric | see `rlopt.guide.choices` | Fisher, in TRPO | Fisher, in NPG and TRPO | - |
| solver of (M + lambda I) x = g | see `rlopt.guide.choices` | CG | CG of 10 steps, lambda 0.1, fixed in the code | - |
| natural gradients for the critic | every part, as for the policy | - | - | - |
| several machines | torchrun: every mean goes over all ranks | - | - | not compared |
| what a save holds | all state, environments too: a resumed run is the same run to the bit | networks, optimizers, counters; neither the environments nor the rollout buffer, and the normaliser in a file of its own | not compared | not compared |
| loading a save | safetensors and JSON: runs no code | a zip archive, in it cloudpickle | not compared | not compared |

Use Stable-Baselines3 for off-policy learning, for a widely used PPO with documentation and many tuned settings. Use CleanRL to read
how an algorithm works, or to change it beyond what parts can express. Use Tianshou for offline learning, or for agents
with policies of their own.
Use rlopt if the geometry of the update is the question, if natural-gradient methods must be fast, or if a run must be
resumed exactly.

Speed was compared on MuJoCo with the same settings, on a machine with 2 cores and without a GPU: experiments/speed says
how, with which versions, and where the comparison is not fair.
"""
