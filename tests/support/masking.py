"""Cases with action masks. Their oracle is a module of torch that puts -10^9 in the place of forbidden outputs."""

import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from tests.support.densities import log_prob
from tests.support.oracles import Case, Wrapped, draw, make_weights, mlp, outputs, randn, seeded

D = 3  # numbers of an observation


class Masked(nn.Sequential):
    """Layers that see the first D columns of their input; the others say which of as many last outputs are allowed."""

    def forward(self, x: Tensor) -> Tensor:
        z, mask = super().forward(x[:, :D]), x[:, D:] > 0
        first = torch.ones(len(x), z.shape[1] - mask.shape[1], dtype=torch.bool)
        return z.where(torch.cat([first, mask], 1), torch.tensor(-1e9, dtype=z.dtype))


def masked_case(
    head: heads.Head, tape: str = "mlp", hidden: tuple[int, ...] = (5, 4), count: int = 17, masks: Tensor | None = None
) -> Case:
    """A network with masks (B, M), by default at random, and actions that these allow."""
    policy = getattr(head, "policy", head)
    masks = draw_masks(policy, count) if masks is None else masks
    layers = mlp((D, *hidden, head.network_outputs))
    module = Masked(*layers)
    network = Network(layers if tape == "mlp" else Wrapped(layers), 0, masks.shape[1], masked=True)
    theta = network.layout.flatten(network.module)
    inputs = torch.cat([randn(count, D, seed=2), masks], 1)
    acting = outputs(module, theta + 0.2 * randn(len(theta), seed=3), inputs).detach()
    actions = draw(head, acting, 4)
    samples = Samples(
        inputs=inputs,
        actions=actions,
        weight=make_weights("masked", count, 5),
        advantages=randn(count, seed=6),
        old_outputs=acting,
        old_log_prob=log_prob(head, acting, actions),
        time=torch.arange(count),
        episode=torch.arange(count) // 5,
    )
    return Case(module, network, head, theta, samples)


def draw_masks(policy: heads.Head, count: int) -> Tensor:
    """(B, M) at random; every category has an action that is allowed, and some have no other."""
    parts = []
    for i, n in enumerate(getattr(policy, "counts", None) or (policy.count,)):
        part = torch.rand(count, n, generator=seeded(10 + i)) < 0.5
        part[torch.arange(count), torch.randint(n, (count,), generator=seeded(20 + i))] = True
        parts.append(part.double())
    return torch.cat(parts, 1)


def allowed(case: Case) -> Tensor:
    """(B, O) 1 where an output is allowed, else 0."""
    masks = case.samples.inputs[:, D:]
    return torch.cat([masks.new_ones(len(masks), case.head.network_outputs - masks.shape[1]), masks], 1)
