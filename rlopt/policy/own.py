"""A network of one's own: any nn.Module from observations to outputs, and what is checked of it before training.

A class with a method ``build``, chosen by a .yaml, or a function given to rlopt.train makes it:

    build(observation_space, outputs, generator) -> module,     module(observations) -> (N, outputs)

``observation_space`` is the environment's own. The module is given N observations at a time, as `rlopt.policy.parts`
has them: a tensor, or a dict or tuple of tensors. ``generator`` may draw its weights; torch's global generator is
seeded from it as well.

At one theta the same observation must have the same outputs whenever it comes, whatever comes with it.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.envs.observations import declared, flattener, observation_dtype, pixels
from rlopt.errors import UserError, in_one_line
from rlopt.policy.parts import OnObservations

Function = Callable[[gym.Space, int, torch.Generator], nn.Module]
_ROWS = 5  # observations that a network is tried on
_functions: dict[str, Function] = {}  # policy or critic -> the function that makes its network


@dataclass(frozen=True)
class Given:
    """A network that a function makes, given to rlopt.train or rlopt.load from Python."""

    role: str  # policy | critic
    function: str  # its name, for messages

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> nn.Module:
        """The function's network. Raises UserError where the function is not there."""
        if self.role not in _functions:
            raise UserError(
                f"the {self.role}'s network is made by a Python function, {self.function}, which must be given again: "
                f"rlopt.load(RUN_DIR, {self.role}={self.function.rpartition('.')[2]})"
            )
        return _functions[self.role](space, outputs, generator)


@contextmanager
def functions(**given: Function | None) -> Iterator[None]:
    """Within, these functions make the networks of policy and critic."""
    before = dict(_functions)
    _functions.update({role: function for role, function in given.items() if function is not None})
    try:
        yield
    finally:
        _functions.clear()
        _functions.update(before)


def build(
    name: str, factory: Any, space: gym.Space, outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> nn.Module:
    """The network that ``factory``, which is typed ``name``, builds for flat rows of ``space``, tried and found fit.

    Raises UserError, in one line that says what is wrong with it.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(generator.initial_seed())
        module = _explained(f"{name} cannot be built", lambda: factory.build(declared(space), outputs, generator))
        if not isinstance(module, nn.Module):
            raise UserError(f"{name} must build a torch.nn.Module; got {type(module).__name__}")
        module = module.to(dtype)
        plain = isinstance(declared(space), spaces.Box) and len(space.shape or ()) == 1
        network = module if plain else OnObservations(module, space)
        with torch.no_grad():
            _check(name, network, _examples(space, dtype), outputs)
    return network


def _explained(what: str, work: Callable[[], Any]) -> Any:
    """The result of ``work``, whose errors become a UserError in one line that begins with ``what``."""
    try:
        return work()
    except UserError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = f" ({frame.filename}, line {frame.lineno})"
        raise UserError(f"{what}: {type(error).__name__}: {in_one_line(error)}{at}") from error


def _examples(space: gym.Space, dtype: torch.dtype) -> Tensor:
    """Rows (N, D) of observations that a policy may meet, normalised ones as far as that can be known."""
    own = copy.deepcopy(declared(space))
    own.seed(0)
    flatten = flattener(own)
    rows = torch.as_tensor(np.stack([np.asarray(flatten(own.sample())).reshape(-1) for _ in range(_ROWS)]))
    rows = rows.to(observation_dtype(space, dtype))
    if rows.is_floating_point():
        for at, largest in pixels(space):
            rows[:, at] /= largest
        rows = rows.nan_to_num().clamp(-10, 10)
    return rows


def _check(name: str, module: nn.Module, rows: Tensor, outputs: int) -> None:
    """Raise UserError unless the module gives (N, outputs) from rows, and always the same."""
    z = _explained(f"{name}: its forward pass fails", lambda: module(rows))  # a lazy layer gets its parameters here
    if not isinstance(z, Tensor) or z.shape != (len(rows), outputs):
        came = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise UserError(f"{name} must return a tensor (N, {outputs}); for N = {len(rows)} it returned {came}")
    parameters = dict(module.named_parameters())
    if not parameters:
        raise UserError(f"{name} has no parameters to train")
    for parameter, value in parameters.items():
        if not value.requires_grad:
            raise UserError(
                f"{name}: all parameters are trained, and {parameter} has requires_grad=False; a buffer stays"
            )
    before = {buffer: value.clone() for buffer, value in module.named_buffers()}
    again = module(rows)
    changed = [buffer for buffer, value in module.named_buffers() if not torch.equal(value, before[buffer])]
    if changed:
        raise UserError(
            f"{name}: its forward pass changes the buffer {changed[0]}, and a network must give the same outputs at "
            "one theta; use LayerNorm in place of batch or spectral normalisation, or call .eval() where it is built"
        )
    if not torch.allclose(z, again, equal_nan=True):
        raise UserError(f"{name}: its outputs differ from call to call, as by dropout; call .eval() where it is built")
    if not torch.allclose(z[:2], module(rows[:2]), rtol=1e-2, atol=1e-3, equal_nan=True):
        raise UserError(f"{name}: its outputs for one observation depend on the others in the batch")
