"""No code comes from a checkpoint, a configuration or a file beside them: what rlopt's own text may not contain."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlopt.config import choices as catalogue
from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part, part_class
from rlopt.core.steps.optimizer import Optimizer
from rlopt.errors import UserError

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "rlopt").rglob("*.py"))

MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "copyreg", "code", "codeop",
    "runpy", "imp", "subprocess", "pty", "ctypes", "cffi", "pdb",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
# by their last names, whatever they are called on
CALLS = {
    "torch": {"load", "hub", "jit", "package"},
    "os": {"system", "popen", "execv", "execve", "execl", "spawnv", "startfile", "posix_spawn"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"},
}
# torch.distributed pickles what these carry
OBJECTS = {"all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list", "send_object_list",
           "recv_object_list"}  # fmt: skip
# what is left, and why it is safe there
ALLOWED = {
    ("rlopt.parallel.collectives", "all_gather_object"),  # among ranks of one run, never from a file
    ("rlopt.cli.main", "import_module"),  # rlopt.commands by a fixed table
    ("rlopt", "import_module"),  # the same for what `import rlopt` offers
    ("rlopt.config.schema", "import_module"),  # rlopt.core alone
    ("rlopt.config.extensions", "import_module"),  # folders and modules that the command line names
    ("rlopt.envs.agents.zoo", "import_module"),  # modules of pettingzoo and mpe2 alone
    ("rlopt.envs.pool", "import_module"),  # "envpool"
    ("rlopt.cli.plugins", "import_module"),  # modules of rlopt by a fixed table
    ("rlopt.rollout.workers", "pickle"),  # from the learner to its own workers, never from a file
    ("rlopt.parallel.processes", "ctypes"),  # prctl of Linux, with fixed arguments
}


def named(node: ast.AST) -> str:
    """a.b.c of an expression, as far as it is written so."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> Iterator[str]:
    """What could make code of data, by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            if module.split(".")[0] in MODULES:
                yield module
            yield from (a.name for a in node.names if a.name in CALLS.get(module, ()) or a.name in OBJECTS)
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id
        elif isinstance(node, ast.Attribute):
            base, name = named(node.value), node.attr
            if name in CALLS.get(base, ()) or (base == "builtins" and name in BUILTINS):
                yield f"{base}.{name}"
            elif name in OBJECTS:
                yield name
        if isinstance(node, ast.Call):
            called = named(node.func)
            if called.rpartition(".")[2] == "import_module":
                yield "import_module"
            if called in ("np.load", "numpy.load") and not any(
                k.arg == "allow_pickle" and isinstance(k.value, ast.Constant) and k.value.value is False
                for k in node.keywords
            ):
                yield "np.load"


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_file_of_rlopt_can_make_code_of_data():
    found = {(module_name(file), danger) for file in FILES for danger in dangers(file.read_text())}
    assert len(FILES) > 100
    assert found <= ALLOWED
    assert ALLOWED <= found, "an exception that is no longer needed"


@pytest.mark.parametrize("text", [
    "import pickle", "import pickle as safe", "from pickle import loads", "def f():\n    import dill", "import os\nos.system(x)",
    "eval(x)", "e = eval", "exec(x)", "compile(x, '', 'exec')", "__import__('os')", "import builtins\nbuiltins.exec(x)",
    "import torch\ntorch.load(f)", "from torch import load", "torch.load(f, weights_only=True)", "torch.jit.load(f)",
    "torch.hub.load(x)", "from torch import hub", "np.load(f)", "np.load(f, allow_pickle=True)", "np.load(f, allow_pickle=yes)",
    "yaml.load(f, Loader=L)", "yaml.unsafe_load(f)", "from yaml import full_load", "from os import system",
    "import subprocess", "importlib.import_module(name)", "import_module(name)", "dist.broadcast_object_list(x)",
    "dist.all_gather_object(a, b)", "from torch.distributed import gather_object",
])  # fmt: skip
def test_what_could_is_found(text):
    assert list(dangers(text))


@pytest.mark.parametrize("text", [
    "import re\nre.compile(x)", "model.eval()", "np.load(f, allow_pickle=False)", "yaml.safe_load(f)", "x.exec_()",
    "import torch\ntorch.loadtxt", "safetensors.torch.load(b)", "json.loads(x)", "checkpoint.load(place)",
])  # fmt: skip
def test_what_could_not_is_left_alone(text):
    assert not list(dangers(text))


# --- _target_ and other names in a configuration

TARGETS = [
    "os.system", "builtins.eval", "subprocess.Popen", "torch.load", "torch.nn.Linear", "torch.optim.Adam", "rlopt.cli.main",
    "rlopt.config.saved.load", "rlopt.core.checks.check", "rlopt.core.parts.Tensor", "rlopt.core.steps.optimizer.torch",
    "rlopt.core.steps.optimizer.inspect", "rlopt.core.metrics.mahalanobis.zipfile.ZipFile", "rlopt.core..os.system",
    "rlopt.core.../../planted.Evil", "rlopt.core.planted.Evil", "planted.Evil", "..planted.Evil", "", ".", "rlopt", None, 3,
    ["os.system"], {"_target_": "os.system"}, "rlopt.core.metrics.fisher.Fisher.__init__", "rlopt.core.metrics.fisher.__class__",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_target_outside_rlopt_is_refused_and_imports_nothing(target, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for group in ("metric", "solver", "critic.step"):
        with pytest.raises(UserError, match="_target_") as caught:
            construct_part({"_target_": target, "args": ["touch ran"]}, group)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_every_choice_names_a_class_of_rlopts_core():
    count = 0
    for group in catalogue.UPDATE_GROUPS[:5]:
        for name in catalogue.choices(group):
            target = read_choice(group, name)["_target_"]
            assert part_class({"_target_": target}, group).__module__.startswith("rlopt.core.")
            count += 1
    assert count > 30


@pytest.mark.parametrize(
    "target",
    ["os.system", "Adam", "torch.optim.Optimizer", "torch.optim.lr_scheduler", "torch.optim.swa_utils", "torch.load",
     "torch.optim.__builtins__", "torch.optim.LBFGS", "torch.optim.lr_scheduler.LambdaLR", "torch.optim.lr_scheduler.types",
     "rlopt.core.steps.optimizer.inspect", "rlopt.core.metrics.fisher.Fisher", None, 3, "", ["os.system"]],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["optimizer", "scheduler"])
def test_an_optimizer_or_scheduler_is_one_of_torchs_own(kind, target):
    given = {
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR"},
    }
    Optimizer(**given, max_norm=None)
    with pytest.raises(ValueError, match=rf"{kind}\._target_ must be one of"):
        Optimizer(**{**given, kind: {"_target_": target}}, max_norm=None)
    with pytest.raises(ValueError, match=rf"{kind}\._target_ must be one of"):
        Optimizer(**{**given, kind: {"name": target}}, max_norm=None)


def test_no_option_of_an_optimizer_is_called(monkeypatch):
    """Nor anything else that a yaml can hold: options are numbers and truth values."""
    for value in ("os.system", {"_target_": "os.system"}, ["os.system"]):
        with pytest.raises(ValueError, match="optimizer.lr must be a number"):
            Optimizer(
                {"_target_": "torch.optim.Adam", "lr": value}, {"_target_": "torch.optim.lr_scheduler.ConstantLR"}, None
            )
    assert torch.optim.Adam  # untouched
