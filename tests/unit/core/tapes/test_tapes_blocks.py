"""Products of many vectors at once, and tapes of some of the samples, of every kind of tape."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rlopt.core import heads
from rlopt.core.tapes.array import ArrayTape
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.frozen import FrozenTape
from rlopt.core.tapes.joined import JoinedTape
from rlopt.core.tapes.masked import MaskedTape
from rlopt.core.tapes.mlp import MLPTape
from rlopt.core.tapes.recurrent import RecurrentTape
from tests.support.masking import masked_case
from tests.support.modules import CHAINS, OTHERS, setup
from tests.support.oracles import close, make_case, randn
from tests.support.remembering import LENGTH, SEQUENCES, network, rows


def module_tape(make: Callable[[], Any]) -> Any:
    _, made, theta, inputs = setup(make, 2)
    return made.tape(theta, inputs)


def array_tape() -> Any:
    case = make_case("log_sigma")
    return case.network.tape(case.theta, case.samples.inputs.numpy())


def by_autograd(make: Callable[[], Any]) -> AutogradTape:
    module, made, theta, inputs = setup(make, 2)
    return AutogradTape(module, made.layout, theta, inputs)


def frozen() -> Any:
    case = make_case("log_sigma")
    case.network.freeze(["0.*", "4.bias"])
    return case.tape


def recurrent() -> Any:
    net = network("gru", 2, 2)
    return net.tape(0.5 * randn(net.layout.size, seed=1), rows("gru"))


MADE: dict[str, tuple[type, Callable[[], Any]]] = {
    **{f"chain, {name}": (MLPTape, lambda make=make: module_tape(make)) for name, make in CHAINS.items()},
    **{name: (AutogradTape, lambda make=make: module_tape(make)) for name, make in OTHERS.items()},
    "chain by autograd": (AutogradTape, lambda: by_autograd(CHAINS["tanh"])),
    "array": (ArrayTape, array_tape),
    "masked": (MaskedTape, lambda: masked_case(heads.Categorical(4, masked=True)).tape),
    "frozen": (FrozenTape, frozen),
    "joined": (JoinedTape, lambda: JoinedTape([make_case("log_sigma", count=n, seed=n).tape for n in (7, 2, 9)])),
    "recurrent": (RecurrentTape, recurrent),
}
every_tape = pytest.mark.parametrize("name", MADE)


def made(name: str) -> Any:
    kind, make = MADE[name]
    tape = make()
    assert isinstance(tape, kind)
    return tape


@pytest.mark.parametrize("count", [1, 3])
@every_tape
def test_block_products_are_single_products(name, count):
    tape = made(name)
    V, U = randn(tape.size, count, seed=1), randn(count, *tape.outputs.shape, seed=2)
    kept = V.clone(), U.clone()
    along, back = tape.jvps(V), tape.vjps(U)
    assert along.shape == U.shape and back.shape == V.shape
    assert not along.requires_grad and not back.requires_grad
    for i in range(count):
        assert close(along[i], tape.jvp(V[:, i].clone()), 1e-13)
        assert close(back[:, i], tape.vjp(U[i]), 1e-13)
    assert torch.equal(V, kept[0]) and torch.equal(U, kept[1])


@every_tape
def test_a_tape_of_some_samples_has_their_products(name):
    tape = made(name)
    B = len(tape.outputs)
    index = torch.arange(B)[torch.arange(B) % 3 != 1]
    if name == "recurrent":  # whole sequences
        assert B == SEQUENCES * LENGTH
        index = torch.cat([torch.arange(LENGTH), torch.arange(2 * LENGTH, 3 * LENGTH)])
    part = tape.take(index)
    assert close(part.outputs, tape.outputs[index], 1e-14)
    assert (part.size, part.width, part.layout) == (tape.size, tape.width, tape.layout)
    v, u = randn(tape.size, seed=1), torch.zeros_like(tape.outputs)
    u[index] = randn(len(index), u.shape[1], seed=2)
    assert close(part.jvp(v), tape.jvp(v)[index], 1e-13)
    assert close(part.vjp(u[index]), tape.vjp(u), 1e-13)
    assert close(tape.vjp(u), part.vjp(u[index]), 1e-13)  # and the whole is as it was


@pytest.mark.parametrize("name", ["chain, tanh", "chain, normed", "array", "masked", "frozen"])
def test_layer_records_of_some_samples_are_theirs(name):
    tape = made("chain, normed" if name == "frozen" else name)
    index, U = torch.tensor([0, 2, 5]), randn(2, *tape.outputs.shape, seed=3)
    for whole, part in zip(tape.layers(U), tape.take(index).layers(U[:, index]), strict=True):
        assert close(part.activations, whole.activations[index], 1e-14)
        assert close(part.signals, whole.signals[:, index], 1e-14)


class Doubled(torch.autograd.Function):
    """2 sin x, whose gradient is looked at, which vmap cannot."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        if grad.detach().isnan().any():
            raise ArithmeticError
        return 2 * x.cos() * grad


def test_a_function_that_torch_cannot_vectorise_is_served():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3, dtype=torch.float64)

        def forward(self, x):
            return Doubled.apply(self.inner(x))

    tape = module_tape(Own)
    V, U = randn(tape.size, 3, seed=1), randn(3, *tape.outputs.shape, seed=2)
    with pytest.raises(RuntimeError, match="Batching rule"):
        torch.autograd.grad(tape._z, tape._theta, U, retain_graph=True, is_grads_batched=True)
    along, back = tape.jvps(V), tape.vjps(U)
    assert along.shape == U.shape and back.shape == V.shape and not along.requires_grad
    for i in range(3):
        assert close(along[i], tape.jvp(V[:, i]), 1e-13) and close(back[:, i], tape.vjp(U[i]), 1e-13)


def test_single_precision_blocks_are_single_products():
    case = make_case("log_sigma")
    case.module.float()
    tape = case.network.tape(case.theta.float(), case.samples.inputs.float())
    V, U = randn(tape.size, 4, seed=1).float(), randn(4, *tape.outputs.shape, seed=2).float()
    single = torch.stack([tape.jvp(v) for v in V.t().contiguous()]), torch.stack([tape.vjp(u) for u in U], 1)
    assert close(tape.jvps(V), single[0], 1e-6) and close(tape.vjps(U), single[1], 1e-6)
