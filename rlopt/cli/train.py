"""`rlopt train`: train one run, or with -m one for every combination of values."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rlopt.config import check_config, choices, read_config
from rlopt.errors import UserError
from rlopt.parallel import ranks


def run(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        return _print_help([a for a in arguments if not a.startswith("-")])
    flags = [a for a in arguments if a.startswith("-")]
    overrides = [a for a in arguments if not a.startswith("-")]
    if "--cfg" in arguments and {"job", "hydra", "all"} & set(overrides):
        raise UserError(
            "--cfg takes no value: it prints the configuration of what is typed beside it, such as --cfg algo=ppo"
        )
    unknown = [a for a in flags if a not in ("-m", "--multirun", "--cfg")]
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}; options are written name=value, such as seed=1")
    several = "-m" in flags or "--multirun" in flags
    if several and "--cfg" in flags:
        raise UserError("--cfg prints the configuration of one run; leave out -m")
    if several and ranks.is_distributed():
        raise UserError("-m is for one process; with torchrun, start the combinations one after another")
    if several:
        from rlopt.cli.sweep import multirun

        return multirun(overrides, _train)
    return _print_configuration(overrides) if "--cfg" in flags else _train(overrides)


@ranks.process_group()
def _train(overrides: list[str]) -> int:
    from rlopt.config.compose import compose
    from rlopt.config.overrides import check_once, read_overrides

    check_once(overrides)
    plain, typed = ranks.broadcast_from_first(lambda: (compose(overrides), list(read_overrides(overrides))))
    from rlopt.cli.process import build_run, train_to_end
    from rlopt.parallel.processes import start_learner
    from rlopt.training.run_directory import choose_run_directory, exclusive_run_directory
    from rlopt.training.signals import SignalHandler

    start_learner()
    config = ranks.on_all_ranks(lambda: check_config(plain, typed))
    run_dir = ranks.broadcast_from_first(lambda: choose_run_directory(config))
    signals = SignalHandler()
    with signals.installed():
        trainer = ranks.on_all_ranks(lambda: build_run(config, run_dir))
        with closing(trainer.collector), exclusive_run_directory(run_dir, new=True):
            return train_to_end(trainer, signals)


def _print_configuration(overrides: list[str]) -> int:
    from rlopt.config.overrides import check_once
    from rlopt.config.saved import to_yaml

    check_once(overrides)
    print(to_yaml(read_config(overrides).plain), end="")
    return 0


def _print_help(asked: list[str]) -> int:
    print("\n".join(_help_of(name) for name in asked) if asked else _help())
    return 0


def _help_of(name: str) -> str:
    """The options of a choice, GROUP=CHOICE, or of every choice of a GROUP."""
    group, _, choice = name.removeprefix("critic.").partition("=")
    known = choices.groups()
    if group not in known:
        raise UserError(f"--help {name}: there is no group {group}{choices.nearest(group, list(known))}")
    if choice and choice not in known[group]:
        raise UserError(f"--help {name}: there is no {group} {choice}{choices.nearest(choice, known[group])}")
    lines = []
    for each in [choice] if choice else known[group]:
        path = choices.file(group, each)
        of_run = group == "experiment" or "@package _global_" in path.read_text("utf-8")
        lines += [f"{group}={each}: {choices.described(group, each)}"]
        lines += _parts(each) if group == "algo" and choice else []
        lines += _options(path, "" if of_run else f"{group}.")
    return "\n".join(lines)


def _parts(preset: str) -> list[str]:
    """A line for every part that an algorithm is made of, its own and the critic's."""
    from rlopt.guide.presets import parts

    found = {key: name for key, name in parts(preset).items() if key != "policy"}
    return _table([(key, name, choices.described(key.rpartition(".")[2], name)) for key, name in found.items()])


def _options(path: Path, prefix: str) -> list[str]:
    """A line for every option in a yaml file: its name, its default and its comment."""
    from rlopt.guide.options import options

    found = options(path)
    return _table([(f"{prefix}{name}", value.partition(" #")[0].strip(), comment) for name, value, comment in found])


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    width = min(max((len(f"{name}={value}") for name, value, _ in rows), default=0), 34)
    return [f"  {f'{name}={value}' if value else name:<{width}}  {comment}".rstrip() for name, value, comment in rows]


def _help() -> str:
    """Every choice of every group, and the first comment of its file; then the recipes."""
    lines = [
        "rlopt train [name=value ...]",
        "",
        "theta <- theta + alpha (M + lambda I)^-1 g. Choose the parts of this update by group=choice, set options by",
        "name=value, and those of the critic by critic.group=choice. Defaults: algo=trpo env=cartpole. A choice's file",
        f"explains its options: GROUP/CHOICE.yaml in {choices.conf_dir()}.",
    ]
    for group, names in choices.groups().items():
        if names:
            lines += ["", f"{group}=" + (f"  (and critic.{group}=)" if group in choices.UPDATE_GROUPS else "")]
            lines += [f"  {name:<26}{choices.described(group, name)}" for name in names]
    lines += [
        "",
        "Recipes: settings that an algorithm needs on an environment. It is used whenever both are chosen by name;",
        "what is typed wins over it, and recipe=null leaves it out.",
        *(f"  {name:<26}{choices.described('recipe', name)}" for name in choices.choices("recipe")),
        "",
        "Options of the run, with their defaults; `rlopt train --help solver=cg` shows those of a choice:",
        *_options(choices.conf_dir() / "config.yaml", ""),
        "",
        "-m, --multirun: every combination of comma-separated values, into sweep_dir=...; the same again does the rest",
        "--cfg: print the resolved configuration of what is typed beside it, such as --cfg algo=ppo, and stop",
        "--extensions DIR: further choices, DIR/GROUP/NAME.yaml, and their code beside them; --import MODULE",
    ]
    return "\n".join(lines)
