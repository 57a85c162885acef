"""The record of one layer: its inputs with the bias's ones, and the derivative that is made when it is asked for."""

import torch

from rlopt.core.tapes.tape import Layer

A = torch.arange(12.0).view(3, 2, 2)


def layer(bias: str | None = "b", slope=None) -> Layer:
    return Layer("w", bias, A, torch.zeros(1, 3, 2, 4), torch.zeros(4, 2), slope)


def test_inputs_have_a_column_of_ones_for_the_bias():
    inputs = layer().inputs
    assert inputs.shape == (3, 2, 3) and torch.equal(inputs[..., :2], A) and (inputs[..., 2] == 1).all()
    assert layer(bias=None).inputs is A


def test_the_derivative_is_made_once_and_only_if_it_is_read():
    calls = []

    def slope() -> torch.Tensor:
        calls.append(1)
        return torch.ones(3, 4)

    record = layer(slope=slope)
    assert not calls and record.derivative is record.derivative and calls == [1]
    assert layer().derivative is None
