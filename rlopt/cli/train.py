"""rlopt train: one run, or with -m one for every combination."""

from __future__ import annotations

from contextlib import closing

from rlopt.config import choices as catalogue
from rlopt.errors import UserError
from rlopt.parallel import ranks
from rlopt.training.run_directory import choose_run_directory, exclusive_run_directory


def run(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(_help())
        return 0
    flags = [a for a in arguments if a.startswith("-")]
    overrides = [a for a in arguments if not a.startswith("-")]
    if "--cfg" in arguments and {"job", "hydra", "all"} & set(overrides):
        raise UserError("--cfg takes nothing of its own: it prints what is typed beside it, such as --cfg algo=ppo")
    unknown = [a for a in flags if a not in ("-m", "--multirun", "--cfg")]
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}; options are written name=value, such as seed=1")
    several = "-m" in flags or "--multirun" in flags
    if several and "--cfg" in flags:
        raise UserError("--cfg prints the configuration of one run; leave out -m")
    if several and ranks.is_distributed():
        raise UserError("-m is for one process; with torchrun, start the combinations one after another")
    if several:
        from rlopt.cli.sweep.launch import multirun

        return multirun(overrides, _train_once)
    if "--cfg" in flags:
        from rlopt.config.compose import resolve, to_yaml

        print(to_yaml(resolve(overrides)), end="")
        return 0
    return _train_once(overrides)


def _train_once(overrides: list[str]) -> int:
    with ranks.process_group():
        return _train(overrides)


def _train(overrides: list[str]) -> int:
    from rlopt.config.compose import resolve

    config = ranks.broadcast_from_first(lambda: resolve(overrides))
    import torch

    from rlopt.api import prepared
    from rlopt.cli.process import carry_out
    from rlopt.training.signals import SignalHandler

    torch.set_num_threads(1)  # small networks are slower on more
    run_dir = ranks.broadcast_from_first(lambda: choose_run_directory(config))
    stops = SignalHandler()
    with stops.installed():
        made = ranks.on_all_ranks(lambda: prepared(overrides, config, run_dir))
        with closing(made.collector), exclusive_run_directory(run_dir, new=True):
            return carry_out(made, stops)


def _help() -> str:
    """Every choice of every group, with what its file says of it."""
    lines = [
        "rlopt train [name=value ...]",
        "",
        "theta <- theta + alpha (M + lambda I)^-1 g. Choose its parts by group=choice, set options by name=value,",
        "the critic's by critic.group=choice. Defaults: algo=trpo env=cartpole. Options of a choice stand in its file",
        f"under {catalogue.conf_dir()}.",
    ]
    for group, names in catalogue.groups().items():
        if names:
            lines += ["", f"{group}=" + ("" if group not in catalogue.UPDATE_GROUPS else f"  (and critic.{group}=)")]
            lines += [f"  {name:<26}{catalogue.described(group, name)}" for name in names]
    lines += [
        "",
        "Common options: seed total_steps batch_size gamma gae_lambda env.id env.num_envs policy.hidden",
        "  optimizer.lr damping.value step.radius schedule.epochs schedule.minibatch run_dir device dtype",
        "-m, --multirun: every combination of comma-separated values, into sweep_dir=...; again, it does what is left",
        "--cfg: print the resolved configuration of what is typed beside it, such as --cfg algo=ppo, and stop",
        "--extensions DIR: further choices, DIR/GROUP/NAME.yaml, and their code beside them; --import MODULE",
    ]
    return "\n".join(lines)
