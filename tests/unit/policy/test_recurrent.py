"""Networks with memory in numpy, step by step, and how they begin; tests/system/test_memory.py has whole runs."""

import numpy as np
import pytest
import torch

from rlopt.policy.inference import BLOCK
from tests.support.oracles import close, randn
from tests.support.remembering import KINDS, SEEN, UNITS, network


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_acting_is_the_modules_step_whatever_the_other_rows(kind, silu):
    net = network(kind, 2, silu=silu)
    theta = randn(net.layout.size, seed=1)
    net.module.load_state_dict(net.layout.views(theta))
    x, memory = randn(3 * BLOCK, SEEN, seed=2), randn(3 * BLOCK, net.memory, seed=3)
    z, after = net.module.step(x, memory)
    act, found = net.module.acting(net.layout.views(theta), BLOCK), np.empty((3 * BLOCK, net.memory))
    outputs = act(x.numpy(), memory.numpy(), found)
    assert close(torch.from_numpy(outputs), z.detach(), 1e-12) and close(torch.from_numpy(found), after.detach(), 1e-12)
    few = np.empty((BLOCK, net.memory))
    assert np.array_equal(
        act(x[BLOCK : 2 * BLOCK].numpy(), memory[BLOCK : 2 * BLOCK].numpy(), few), outputs[BLOCK : 2 * BLOCK]
    )
    assert np.array_equal(few, found[BLOCK : 2 * BLOCK])


@pytest.mark.parametrize("kind", KINDS)
def test_units_begin_with_orthogonal_gates_and_spread_horizons(kind):
    module = network(kind, 2).module
    for gate in module.hidden.weight.split(UNITS):
        assert close(gate @ gate.t(), torch.eye(UNITS, dtype=torch.float64), 1e-6)
    kept = module.inputs.bias[UNITS : 2 * UNITS].exp()  # steps until a unit forgets, less one: in [1, horizon - 1]
    assert kept.min() >= 1 and kept.max() <= 7 and len(kept.unique()) == UNITS
    rest = module.inputs.bias[:UNITS]
    assert torch.equal(rest, -module.inputs.bias[UNITS : 2 * UNITS] if kind == "lstm" else torch.zeros_like(rest))
