"""Recorder: what a run leaves behind to be looked at: TensorBoard events and summary.json.

Scalars, by group; the actor's have no prefix, the critic's begin with ``critic/``:

| name | is |
|---|---|
| episode/return, episode/length       | mean over the episodes that ended in this rollout, raw rewards |
| rollout/reward                       | raw, mean over the transitions of this rollout |
| step/kl, step/kl_predicted           | nats: measured on the whole batch; by the quadratic model |
| step/improvement                     | of the objective, measured on the whole batch |
| step/improvement_predicted           | of the objective: alpha g^T x |
| step/kl_measured                     | nats: of the last step, on its own samples |
| step/improvement_measured            | of the objective: by the last step, on its own samples |
| step/size, step/accepted             | alpha (or learning rate); 1 if the step was taken |
| step/at_largest, step/clipped        | 1 if alpha is its upper bound; 1 if the radius shortened it |
| step/backtracks                      | candidates refused by the line search |
| solver/iterations, solver/residual   | of the linear solve; |g - (M + lambda I) x| / |g| |
| solver/negative_curvature            | 1 if CG met it |
| solver/pairs, solver/clamped         | L-BFGS: pairs in use; diagonal: negative entries taken for 0 |
| solver/remainder                     | low rank: the curvature assumed outside its eigenvectors |
| damping/value, damping/agreement     | lambda as used; what it learns from, 1 where the model holds |
| objective/value                      | at the start of the last step |
| objective/gradient_norm              | at the start of the last step |
| policy/entropy                       | nats, mean over states, after the update |
| critic/loss                          | mean squared error on the targets, after the update |
| critic/explained_variance            | of the targets, before the update |
| update/skipped                       | steps not taken since training began because a number was not finite |
| time/steps_per_second                | over the whole run so far, start-up excluded |
| time/collect, time/update            | seconds of this update |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


class Recorder:
    """Writes under one run directory."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any], config_text: str):
        self.run_dir = run_dir
        self._config = config
        self._writer = SummaryWriter(str(run_dir), flush_secs=10)
        self._writer.add_text("config", f"```yaml\n{config_text}\n```")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def summary(self, summary: Mapping[str, Any]) -> None:
        """summary.json, and the hparams tab with the same results."""
        (self.run_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        results = {f"final/{k}": v for k, v in summary.items() if k.startswith(("evaluation", "sampled", "return"))}
        results = {k: float(v) for k, v in results.items() if v is not None}
        file_writer = self._writer._get_file_writer()
        for entry in hparams(_flat(self._config), results):
            file_writer.add_summary(entry)
        for name, value in results.items():
            self._writer.add_scalar(name, value, summary["steps"])

    def close(self) -> None:
        self._writer.close()


class Silent:
    """The recorder of a rank that writes nothing."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        pass

    def summary(self, summary: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Nested config -> dotted names, with values the hparams tab can hold."""
    flat: dict[str, bool | float | str] = {}
    for key, value in node.items():
        name = f"{prefix}{key}".replace("_target_", "part")
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[name] = value.rsplit(".", 1)[-1] if key == "_target_" and isinstance(value, str) else value
        else:
            flat[name] = str(value)
    return flat
