"""record.names=sb3: scalars under the names that Stable-Baselines3 gives them too, for dashboards that look for these.

| Stable-Baselines3          | rlopt                      | differs by |
|---|---|---|
| rollout/ep_rew_mean        | return_mean in summary.json | nothing: of the last 100 training episodes |
| rollout/ep_len_mean        | episode/length             | of this rollout's episodes, there of the last 100 |
| rollout/success_rate       | info/is_success_at_end     | the same; wants record.info=[is_success] |
| eval/mean_reward           | evaluation/return          | evaluation.every_updates says when |
| time/fps                   | time/steps_per_second      | without start-up and evaluations |
| time/iterations            | updates                    | nothing |
| time/time_elapsed          | seconds of training        | without start-up and evaluations |
| time/total_timesteps       | the step of each point     | nothing |
| train/approx_kl            | policy/kl, else step/kl    | exact, on the whole batch, after the last step |
| train/clip_fraction        | policy/clip_fraction       | on the whole batch, after the last step |
| train/entropy_loss         | minus policy/entropy       | after the last step |
| train/explained_variance   | critic/explained_variance  | nothing |
| train/learning_rate        | step/size                  | where the step is not step=optimizer it is alpha |
| train/policy_gradient_loss | minus objective/value      | with entropy and l2, at the start of the last step |
| train/std                  | policy/std                 | mean over states where these have their own |
| train/value_loss           | critic/loss                | on scaled rewards, after the last step |
"""

from __future__ import annotations

from collections.abc import Mapping

SAME = {  # Stable-Baselines3's name -> rlopt's
    "rollout/ep_len_mean": "episode/length",
    "rollout/success_rate": "info/is_success_at_end",
    "eval/mean_reward": "evaluation/return",
    "time/fps": "time/steps_per_second",
    "train/approx_kl": "step/kl",
    "train/clip_fraction": "policy/clip_fraction",
    "train/explained_variance": "critic/explained_variance",
    "train/learning_rate": "step/size",
    "train/std": "policy/std",
    "train/value_loss": "critic/loss",
}
NEGATIVE = {"train/entropy_loss": "policy/entropy", "train/policy_gradient_loss": "objective/value"}


def with_names(
    scalars: Mapping[str, float], steps: int, updates: int, seconds: float, mean_return: float | None
) -> dict[str, float]:
    """The scalars, and copies of them under the names of Stable-Baselines3."""
    found = {name: scalars[own] for name, own in SAME.items() if own in scalars}
    found |= {name: -scalars[own] for name, own in NEGATIVE.items() if own in scalars}
    if "policy/kl" in scalars:
        found["train/approx_kl"] = scalars["policy/kl"]
    if "time/steps_per_second" in scalars:  # of an update, not of an evaluation
        found |= {"time/iterations": updates, "time/time_elapsed": seconds, "time/total_timesteps": steps}
        found |= {} if mean_return is None else {"rollout/ep_rew_mean": mean_return}
    return {**scalars, **found}
