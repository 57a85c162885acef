"""Other trainers, and when to take one of them. As of November 2026.

Stable-Baselines3 2.9.2, sb3-contrib 2.9.2 and Tianshou 2.0.1 were read in their installed packages, CleanRL in its
README. What is not in the table was not compared.

| | rlopt 0.1 | Stable-Baselines3 + contrib | Tianshou | CleanRL |
|---|---|---|---|---|
| what it is | one update with interchangeable parts | a library of algorithms | a library of algorithms | one file for each algorithm, to read and to copy |
| on-policy | VPG, A2C, NPG, NAC, eNAC, TRPO, ACKTR, PPO, and every other combination | A2C, PPO; TRPO, recurrent PPO, masked PPO, ARS | REINFORCE, A2C, NPG, TRPO, PPO | PPO and variants of it |
| off-policy | none | DQN, QR-DQN, DDPG, TD3, SAC, TQC, CrossQ | DQN and its kin, DDPG, TD3, SAC, REDQ | DQN, C51, DDPG, TD3, SAC |
| offline, imitation, several agents | none | none | all three | none |
| recurrent policies, action masks | none | both, for PPO | recurrent networks | recurrent PPO |
| metric | ten | Fisher, in TRPO | Fisher, in NPG and TRPO | - |
| solver of (M + lambda I) x = g | thirteen | CG | CG of 10 steps, lambda 0.1, fixed in the code | - |
| natural gradients for the critic | every part, as for the policy | - | - | - |
| several machines | torchrun: every mean goes over all ranks | - | - | not compared |
| what a save holds | all state, environments too: a resumed run is the same run to the bit | networks, optimizers, counters; neither the environments nor the rollout buffer, and the normaliser in a file of its own | not compared | not compared |
| loading a save | safetensors and JSON: runs no code | a zip archive, in it cloudpickle | not compared | not compared |

Take Stable-Baselines3 for off-policy learning, for a well-trodden PPO with documentation and a zoo of tuned settings,
or for masks and recurrence. Take CleanRL to read how an algorithm works, or to change it beyond what parts can
express. Take Tianshou for offline learning or several agents. Take rlopt where the geometry of the update is the
question, where natural-gradient methods shall run at speed, or where a run must be resumed exactly.

Speed was measured for TRPO, NPG, PPO and A2C on HalfCheetah, beside the same versions and with the same settings, on a
2-core machine without a GPU: experiments/speed says how, and where the comparison is not fair. Speed is compared with
others nowhere else.
"""
