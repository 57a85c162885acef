"""A network of one's own: any nn.Module from observations to outputs, and what is checked of it before training.

A class with a method ``build``, chosen by a .yaml, or a function given to rlopt.train makes it:

    build(observation_space, outputs, generator) -> module,     module(observations) -> (N, outputs)

``observation_space`` is the environment's own. The module is given N observations at a time, as `rlopt.policy.parts`
has them: a tensor, or a dict or tuple of tensors. ``generator`` may draw its weights; torch's global generator is
seeded from it as well.

With a memory behind it, by policy.memory.size=64 and so on, it is asked for as many outputs as there are units.

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

from rlopt.core.flat import CONSTANTS
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
        self.check("rlopt.load(RUN_DIR, {0}), or rlopt.resume(RUN_DIR, {0}) to train on")
        return _functions[self.role](space, outputs, generator)

    def check(self, call: str) -> None:
        """Raise UserError, with the ``call`` in which {0} stands for it, where the function is not there."""
        if self.role not in _functions:
            raise UserError(
                f"the {self.role}'s network is made by a Python function, {self.function}, which must be given again: "
                + call.format(f"{self.role}={self.function.rpartition('.')[2]}")
            )


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
    """Raise UserError unless the module gives (N, outputs) from rows, always the same, and has parameters to train."""
    version, called = rows._version, set[nn.Module]()
    hooks = [child.register_forward_pre_hook(lambda child, _: called.add(child)) for child in module.modules()]
    with torch.enable_grad():  # a lazy layer gets its parameters here
        found = _explained(f"{name}: its forward pass fails", lambda: module(rows))
    for hook in hooks:
        hook.remove()
    if not isinstance(found, Tensor) or found.shape != (len(rows), outputs):
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{name} must return a tensor (N, {outputs}); for N = {len(rows)} it returned {came}")
    if rows._version != version:
        raise UserError(
            f"{name}: its forward pass changes its input in place, as by x.mul_(2) or x += 1; copy it first"
        )
    _check_parameters(name, module, found, called)
    z = found.detach()
    if not z.isfinite().all():
        raise UserError(f"{name}: its outputs are not finite; one of them is {float(z[~z.isfinite()][0])}")
    _check_same(name, module, rows, z)


def _check_parameters(name: str, module: nn.Module, z: Tensor, called: set[nn.Module]) -> None:
    """Raise UserError unless autograd reaches, from outputs z, the parameters of all modules that were called."""
    parameters = dict(module.named_parameters())
    if not parameters:
        raise UserError(f"{name} has no parameters to train")
    if CONSTANTS in parameters:
        raise UserError(f"{name}: its parameter {CONSTANTS} must have another name; this one is the distribution's own")
    for parameter, value in parameters.items():
        if not value.requires_grad:
            raise UserError(
                f"{name}: all parameters are trained, and {parameter} has requires_grad=False; a buffer stays"
            )
    detached = "take torch.no_grad(), .detach() and numpy out of its forward pass"
    if not z.requires_grad:
        raise UserError(f"{name}: its outputs do not depend on its parameters by autograd; {detached}")
    gradients = torch.autograd.grad(z, list(parameters.values()), torch.ones_like(z), allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None and module.get_submodule(parameter.rpartition(".")[0]) in called:
            raise UserError(
                f"{name}: its outputs do not depend on its parameter {parameter} by autograd; {detached}, or leave out "
                "a parameter that is not used"
            )


def _check_same(name: str, module: nn.Module, rows: Tensor, z: Tensor) -> None:
    """Raise UserError unless the outputs of rows are z, whenever they come and whatever comes with them."""
    before = {buffer: value.clone() for buffer, value in module.named_buffers()}
    again = module(rows)
    changed = [buffer for buffer, value in module.named_buffers() if not torch.equal(value, before[buffer])]
    if changed:
        raise UserError(
            f"{name}: its forward pass changes the buffer {changed[0]}, and a network must give the same outputs at "
            "one theta; use LayerNorm in place of batch or spectral normalisation, or call .eval() where it is built"
        )
    if not torch.allclose(z, again):
        raise UserError(f"{name}: its outputs differ from call to call, as by dropout; call .eval() where it is built")
    if not torch.allclose(z[:2], module(rows[:2]), rtol=1e-2, atol=1e-3):
        raise UserError(f"{name}: its outputs for one observation depend on the others in the batch")
