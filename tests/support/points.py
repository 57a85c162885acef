"""Points in the outputs of a head, and derivatives there."""

import torch

from tests.support.oracles import points

B = 9


def outputs(head, seed: int = 0) -> torch.Tensor:
    """(B, O) at random, with sigma > 0."""
    return points(head, B, seed)


def gradient(f, z: torch.Tensor) -> torch.Tensor:
    z = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(z).sum() + 0 * z.sum(), z)  # f may not depend on z
    return g
