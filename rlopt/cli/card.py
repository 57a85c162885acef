"""`rlopt card`: write a run's README.md as model hubs have it, with metadata that they read and results as a table.

The metadata are those of a Hugging Face model card: library, tags, and under ``model-index`` the mean reward with its
standard deviation. Nothing is uploaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlopt import __version__
from rlopt.cli.exit_codes import Parser
from rlopt.errors import UserError
from rlopt.files import replace_file, shown
from rlopt.loggers import console

_OURS = "library_name: rlopt"  # in a card that this command may write over
_TEXT = """---
{metadata}
---

# {title}

A policy trained by rlopt {version}: {about}.

| evaluation | mean return | standard deviation over episodes |
|---|---:|---:|
{rows}

## Use

```python
import rlopt

policy = rlopt.load("RUN_DIR")  # this folder
action = policy(observation)
```

## Configuration

```yaml
{config}
```
"""
_KINDS = {"evaluation": "most probable actions", "sampled_evaluation": "sampled actions"}


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt card", description="Write README.md with a run's results, in the format of model hubs.")
    parser.add_argument("run_dir", type=Path, help="folder of a run that is finished, or zoo:NAME")
    parser.add_argument("--out", type=Path, metavar="F", help="the file (RUN_DIR/README.md)")
    options = parser.parse_args(arguments)

    from rlopt.checkpoint.zoo import output_folder, run_folder
    from rlopt.config.saved import load_run, to_yaml
    from rlopt.files.reading import read_json
    from rlopt.training.continuing import saved_result

    path = options.out or output_folder(options.run_dir) / "README.md"
    run_dir = run_folder(options.run_dir)
    config = load_run(run_dir, needs_environment=False)
    if saved_result(run_dir) is None:
        raise UserError(f"{run_dir} is not finished: it has no summary.json; `rlopt resume` goes on with it")
    if path.exists() and _OURS not in path.read_text(errors="replace")[:2000]:
        raise UserError(f"{path} is there and is no card of rlopt's; give another place, --out F")
    summary = read_json(run_dir / "summary.json")
    try:
        replace_file(path, card(summary, to_yaml(config)))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    console.output(f"the card is in {shown(path.absolute())}")
    return 0


def card(summary: Mapping[str, Any], config: str) -> str:
    """The card's text, from summary.json and config.yaml."""
    import yaml

    algo, env = (_word(summary[name]) for name in ("algo", "env"))
    metadata = {
        "library_name": "rlopt",
        "tags": ["reinforcement-learning", "deep-reinforcement-learning", "rlopt", algo, env],
        "model-index": [{"name": algo, "results": [_result(env, summary)]}],
    }
    rows = [
        f"| {kind} | {_number(summary[f'{name}_return'])} | {_number(summary[f'{name}_std'])} |"
        for name, kind in _KINDS.items()
        if f"{name}_return" in summary
    ]
    return _TEXT.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(),
        title=f"{algo} on {env}",
        about=f"{int(summary['steps']):,} steps, seed {int(summary['seed'])}",
        version=__version__,
        rows="\n".join(rows),
        config=config.replace("```", "` ` `").rstrip(),
    )


def _result(env: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    mean, std = summary.get("evaluation_return"), summary.get("evaluation_std")
    if mean is None:
        mean, std = summary.get("return_mean"), summary.get("return_std")
    return {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": env, "type": env},
        "metrics": [
            {
                "type": "mean_reward",
                "value": f"{_number(mean)} +/- {_number(std)}",
                "name": "mean_reward",
                "verified": False,
            }
        ],
    }


def _number(value: Any) -> str:
    return "-" if value is None else f"{float(value):.2f}" if abs(float(value)) < 1e6 else f"{float(value):.4g}"


def _word(name: Any) -> str:
    """A name as Markdown shows it; it may come from a stranger's folder."""
    return re.sub(r"[^\w./:@+-]+", "-", str(name))[:100]
