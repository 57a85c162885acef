"""Layer normalisation's record against torch's own function; test_tapes.py has its products within chains."""

import pytest
import torch

from rlopt.core.tapes.norm import Norm, Normalised
from tests.support.oracles import close, eye, randn

VIEWS = {"gamma": randn(4, seed=1), "beta": randn(4, seed=2)}


@pytest.mark.parametrize("norm", [Norm("gamma", "beta", 0.1), Norm("gamma", None, 0.1), Norm(None, None, 1e-5)])
def test_a_record_has_torchs_result_and_jacobian(norm):
    s = 3 * randn(5, 4)
    parameters = [VIEWS[name] if name else None for name in norm[:2]]

    def normalise(s: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(s, (4,), *parameters, norm.eps)

    record, y = Normalised.forward(norm, VIEWS, s)
    assert close(y, normalise(s), 1e-14)
    J = torch.func.vmap(torch.func.jacrev(normalise))(s)  # (B, J, J)
    for i, e in enumerate(eye(4)):
        still = {name: torch.zeros(4).double() for name in VIEWS}
        assert close(record.jvp(e.expand(5, 4).clone(), still), J[:, :, i], 1e-13)
        sent = record.vjp(e.expand(5, 4), {name: torch.empty(4).double() for name in VIEWS})
        assert close(sent, J[:, i], 1e-13)
        assert close(record.at(slice(1, 3)).signals(e.expand(1, 2, 4))[1][0], J[1:3, i], 1e-13)
