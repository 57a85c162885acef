"""A configuration comes back from its file, and one that is none, lacks something or names code is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlopt
from rlopt.config import choices as catalogue
from rlopt.config.saved import load, load_run, to_yaml
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.configurations import ALGOS, small_config


@pytest.mark.parametrize(
    "overrides",
    [*([f"algo={algo}"] for algo in ALGOS), ["env=halfcheetah"], ["env=lqr"], ["env.id=Pendulum-v1", "seed=12345678901"],
     ["run_dir='1e3'"], ["run_dir=null"], ["run_dir='a b: #c'"]],
    ids=" ".join,
)  # fmt: skip
def test_a_resolved_configuration_is_plain_and_survives_its_file(tmp_path, overrides):
    config = resolve(overrides)
    assert all(type(value) in (bool, int, float, str, type(None)) for value in plain_values(config))
    assert not any("${" in value for value in plain_values(config) if isinstance(value, str))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = load(path)
    assert again == config
    assert repr(again) == repr(config)  # 1 is not 1.0, and True not 1


def plain_values(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from plain_values(inner)
    else:
        yield node


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "\x00", "just text"])
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml (is not a run's configuration|cannot be read)") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["recipe", "algo"])
def test_what_every_saved_configuration_has_is_asked_for(tmp_path, lacking):
    config = resolve([])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_run(tmp_path) == config
    del config[lacking]
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(UserError, match=rf"config\.yaml .*it lacks {lacking}"):
        load_run(tmp_path)


OF_EARLIER_VERSIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no recipe": lambda config: None,
    "optimizers by name": lambda config: config["critic"]["step"]["optimizer"].update(name="Adam"),
    "optimizers apart": lambda config: config.update(optimizer={"name": "Adam", "lr": 0.001}),
    "networks by name": lambda config: config["policy"].update(network="nature_cnn"),
    "a critic that is shared": lambda config: config.update(critic={"shared": True, "variance": 1.0}),
}


@pytest.mark.parametrize("form", OF_EARLIER_VERSIONS)
@pytest.mark.usefixtures("elsewhere")
def test_a_configuration_of_an_earlier_version_is_refused(run, tmp_path, form):
    config = resolve([])
    del config["recipe"], config["experiment"], config["policy"]["_target_"]
    OF_EARLIER_VERSIONS[form](config)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "checkpoints").mkdir()
    for command in ("eval", "inspect", "resume"):
        code, out, err = run(command, str(tmp_path))
        assert (code, out) == (2, "") and len(err.splitlines()) == 1
        assert "config.yaml has the form of an earlier rlopt" in err and "use that version, or train anew" in err
    with pytest.raises(UserError, match="has the form of an earlier rlopt"):
        rlopt.load(tmp_path)


@pytest.mark.parametrize(
    "lacking", ["env", "critic", "objective", "seed", "policy", "checkpoint", "evaluation", "rewards"]
)
def test_a_configuration_that_lacks_an_option_is_refused_by_name(lacking):
    config = small_config("", {})
    del config[lacking]
    with pytest.raises(UserError, match=lacking):
        trainer(config)


@pytest.mark.parametrize(
    "target",
    ["os.system", "rlopt.cli.main", "rlopt.core.checks.check", "rlopt.core.heads", "rlopt.core.none.None", 3, None],
)
def test_a_configuration_can_name_no_code_but_the_parts_of_core(target):
    with pytest.raises(UserError, match=r"metric\._target_"):
        trainer(small_config("", {"metric": {"_target_": target}}))


def test_conf_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert catalogue.conf_dir().is_absolute()
    assert resolve(["seed=3"])["seed"] == 3
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(("group", "name", "value"), [
    ("env", "num_envs", 10**9), ("policy", "hidden", [10**9, 10**9]), ("critic", "hidden", [8, 10**6, 10**6]),
    ("policy", "hidden", [2**31]),
])  # fmt: skip
def test_a_saved_run_of_impossible_size_is_refused_at_once(tmp_path, group, name, value):
    config = resolve(["algo=ppo"])
    config[group][name] = value
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(UserError, match=f"{group}.{name}=.*, which is larger than a run can be"):
        load_run(tmp_path)


@pytest.mark.parametrize("value", ["abc", ["a"], None, [], 3, [64, 64], [float("nan")]])
def test_a_saved_size_of_another_kind_is_left_to_where_it_is_parsed(tmp_path, value):
    config = resolve(["algo=ppo"])
    config["policy"]["hidden"] = value
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert str(load_run(tmp_path)["policy"]["hidden"]) == str(value)
