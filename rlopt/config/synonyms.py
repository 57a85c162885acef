"""Names that other trainers have for what is an option here: who types one is told rlopt's."""

from __future__ import annotations

_TABLE = {  # what is typed instead -> names elsewhere
    "algo=...": "algorithm alg method agent",
    "advantages.normalise=batch": "normalize_advantage normalize_advantages norm_adv normalise_advantage adv_norm",
    "averaging.decay": "polyak tau ema_decay",
    "batch_size=... (steps of all environments)": "n_steps num_steps rollout_steps n_rollout_steps steps_per_epoch "
    "timesteps_per_batch train_batch_size frames_per_batch horizon_length rollout_length",
    "checkpoint.every_updates": "save_freq save_interval checkpoint_freq checkpoint_interval save_every",
    "critic=shared critic.value_weight": "vf_coef value_coef value_loss_coef critic_coef vf_loss_coeff",
    "damping.value": "cg_damping damping_coeff damping_coef damp",
    "env.id": "env_id env_name environment gym_id task",
    "env.num_envs": "n_envs num_environments n_env nenvs number_envs",
    "evaluation.episodes": "n_eval_episodes eval_episodes num_eval_episodes",
    "evaluation.every_updates": "eval_freq eval_interval evaluation_interval eval_every",
    "gae_lambda": "lam gae lambda lambda_ gae_lam lmbda",
    "gamma": "discount discount_factor",
    "objective.clip": "clip_range clip_coef clip_ratio clip_param clip_eps clip_epsilon eps_clip",
    "objective.entropy": "ent_coef entropy_coef entropy_coeff entropy_loss_scale entropy_cost entropy_beta",
    "observations.normalise": "norm_obs normalize_obs normalize obs_norm normalize_observations",
    "optimizer.lr and critic.optimizer.lr": "learning_rate lr stepsize step_size optim_stepsize",
    "optimizer.lr": "pi_lr actor_lr policy_lr",
    "critic.optimizer.lr": "vf_lr critic_lr value_lr vf_stepsize",
    "policy.activation": "activation_fn activation hidden_activation",
    "policy.hidden": "net_arch hidden_sizes hidden_size hidden_dim hidden_layers policy_kwargs hidden_dims layers",
    "policy.initial_sigma": "log_std_init init_std action_std_init initial_std std",
    "policy.head=gsde": "use_sde sde",
    "record.project": "wandb_project wandb_project_name project_name project",
    "record.tracker=wandb": "track wandb use_wandb report_to log_with logger tracker",
    "record.video_steps": "capture_video record_video save_video video",
    "rewards.scale": "norm_reward normalize_reward reward_norm normalize_rewards reward_scaling",
    "run_dir": "log_dir logdir output_dir save_path tensorboard_log save_dir out_dir experiment_dir exp_name",
    "schedule.epochs": "n_epochs update_epochs ppo_epoch ppo_epochs num_epochs num_sgd_iter noptepochs learning_epochs "
    "repeat_per_collect",
    "schedule.minibatch": "minibatch_size mini_batch_size sgd_minibatch_size minibatches num_minibatches n_minibatch "
    "nminibatches mini_batches",
    "solver.iterations": "cg_max_steps cg_iters cg_iterations cg_max_iterations max_cg_iters",
    "step.backtracks": "line_search_max_iter max_backtracks backtrack_iters linesearch_steps",
    "step.max_norm": "max_grad_norm grad_clip clip_grad_norm grad_norm_clip grad_norm",
    "step.radius": "max_kl delta kl_target trust_region_size max_kl_step",
    "total_steps": "total_timesteps timesteps n_timesteps num_timesteps total_frames max_steps max_timesteps "
    "num_env_steps training_steps total_env_steps",
    "workers": "num_workers n_workers n_jobs num_processes num_cpu",
}
SYNONYMS = {name: own for own, names in _TABLE.items() for name in names.split()}


def meant_by(name: str) -> str | None:
    """What to type for an option that other trainers have under this name; None where nobody is known to."""
    network = "critic." if name.startswith("critic.") else ""
    found = SYNONYMS.get(name.rpartition(".")[2].replace("-", "_").lower())
    if found is None or not network:
        return found
    of_both = found.partition(".")[0] in ("step", "optimizer", "solver", "damping", "schedule")
    return f"{network}{found.partition(' and ')[0]}" if of_both else found
