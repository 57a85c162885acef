"""The tape of arrays against the tape of tensors, which is held against the dense Jacobian."""

import pytest
import torch

from rlopt.core.tapes.array import ArrayTape
from tests.support.modules import CHAINS, setup
from tests.support.oracles import close, randn

KNOWN = ["tanh", "relu", "no_bias", "single_linear", "ends_in_activation", "two_linear_in_a_row", "softplus",
         "leaky_relu"]  # fmt: skip


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("chain", KNOWN)
def test_a_tape_of_arrays_is_that_of_tensors(chain, constants):
    _, network, theta, inputs = setup(CHAINS[chain], constants)
    assert network.takes_arrays(theta, inputs, len(inputs))
    plain, tape = network.tape(theta, inputs), network.tape(theta, inputs.numpy())
    assert isinstance(tape, ArrayTape) and close(tape.outputs, plain.outputs, 1e-12)
    u, v = randn(*plain.outputs.shape, seed=4), randn(tape.size, seed=5)
    first = tape.vjp(u)
    assert close(tape.jvp(v), plain.jvp(v), 1e-12)
    assert close(tape.vjp(2 * u), 2 * plain.vjp(u), 1e-12) and close(first, plain.vjp(u), 1e-12)
    for at, part in tape.parts(3):
        assert close(part.vjp(u[at]), network.tape(theta, inputs[at]).vjp(u[at]), 1e-12)
    for a, b in zip(tape.layers(u[None]), plain.layers(u[None]), strict=True):
        assert close(a.inputs, b.inputs, 1e-12) and close(a.signals, b.signals, 1e-12)


def test_it_reads_theta_as_it_is_after_a_step_in_place():
    _, network, theta, inputs = setup(CHAINS["tanh"], 2)
    network.tape(theta, inputs.numpy())
    theta.mul_(3)
    assert close(network.tape(theta, inputs.numpy()).outputs, network.outputs(theta, inputs), 1e-12)


def test_many_samples_and_other_activations_stay_with_tensors():
    _, network, theta, inputs = setup(CHAINS["tanh"], 0)
    assert not network.takes_arrays(theta, inputs, 2**18)
    assert not network.takes_arrays(theta, inputs.to(torch.float32), len(inputs))
    for chain in ("elu", "silu", "normed"):
        _, network, theta, inputs = setup(CHAINS[chain], 0)
        assert not network.takes_arrays(theta, inputs, len(inputs))
