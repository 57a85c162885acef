"""Dense float64 truths from torch.func, torch.autograd and torch.distributions alone, and small cases to compare on.

Nothing here calls a tape, a head's formulas, a metric or a solver: a case carries them, an oracle does not use them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from rlopt.core import heads
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from tests.support.densities import distribution, kl, log_prob, of_product

HEADS: dict[str, heads.Head] = {
    "categorical": heads.Categorical(3),
    "log_sigma": heads.DiagonalGaussian(2),
    "sigma": heads.DiagonalGaussian(2, scale="sigma"),
    "log_sigma_per_state": heads.DiagonalGaussian(2, per_state=True),
    "sigma_per_state": heads.DiagonalGaussian(2, scale="sigma", per_state=True),
    "multi_categorical": heads.MultiCategorical((2, 3)),
    "bernoulli": heads.Bernoulli(2),
    "value": heads.Value(variance=2.5),
    "joint_categorical": heads.Joint(heads.Categorical(2), 2.5),
    "joint_sigma": heads.Joint(heads.DiagonalGaussian(1, scale="sigma"), 2.5),
}
# chosen cases see these, which would make every battery twice as long
MORE_HEADS: dict[str, heads.Head] = {
    "scale_by_network": heads.DiagonalGaussian(2, initial_sigma=0.5, per_state=True),
    "softplus": heads.DiagonalGaussian(2, "softplus", 0.5, per_state=True),
    "beta": heads.Beta(2, 0.4),
    "full_gaussian": heads.FullGaussian(3, 0.5),
    "gsde": heads.GSDE(2, 3),
    "product": heads.Product(
        (heads.DiagonalGaussian(2), heads.Categorical(3), heads.MultiCategorical((2, 3)), heads.FullGaussian(2))
    ),
    "product_beta": heads.Product((heads.Bernoulli(2), heads.Beta(1))),
    "product_sigma": heads.Product((heads.Categorical(2), heads.DiagonalGaussian(1, scale="sigma"))),
}
POLICIES = [name for name in HEADS if name != "value"]
TAPES = ["mlp", "autograd"]
WEIGHTS = ["uniform", "random", "masked"]


class Wrapped(nn.Module):
    """The same function as ``inner``, but no chain that a reader could recognise."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@dataclass(frozen=True)
class Case:
    """A network, a head, a point theta (P,) and samples there."""

    module: nn.Module
    network: Network
    head: Any
    theta: Tensor
    samples: Samples

    @property
    def tape(self) -> Any:
        return self.network.tape(self.theta, self.samples.inputs)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def mlp(
    sizes: tuple[int, ...], activation: type[nn.Module] = nn.Tanh, bias: bool = True, seed: int = 0
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between each two, float64."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layers += [activation()] if i else []
        layers.append(nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64))
    module = nn.Sequential(*layers)
    randomise(module, seed)
    return module


def randomise(module: nn.Module, seed: int) -> None:
    """Every parameter anew, of about unit gain, from the seed alone."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            gain = p.shape[-1] ** -0.5 if p.ndim > 1 else 0.3
            p.copy_(gain * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def make_case(
    head: str | heads.Head = "categorical",
    tape: str = "mlp",
    weights: str = "random",
    count: int = 17,
    seed: int = 0,
    hidden: tuple[int, ...] = (5, 4),
    activation: type[nn.Module] = nn.Tanh,
    moved: float = 0.0,
) -> Case:
    """A network 3-5-4-O at a random theta, with actions drawn from the policy at theta + ``moved`` times noise."""
    head = {**HEADS, **MORE_HEADS}[head] if isinstance(head, str) else head
    module = mlp((3, *hidden, head.network_outputs), activation, seed=seed)
    gaussian = isinstance(head, heads.DiagonalGaussian)
    if gaussian and head.per_state:  # keeps sigma well above 0 in either scale
        with torch.no_grad():
            module[-1].weight[head.size :].mul_(0.2)
            module[-1].bias[head.size :].fill_(1.0 if head.scale == "sigma" else 0.0)
    if tape == "autograd":
        module = Wrapped(module)
    constants = 0.3 * randn(head.constants, seed=seed + 1)
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, constants.exp() if head.bounded else constants)

    inputs = randn(count, 3, seed=seed + 2)
    acting = outputs(module, theta + moved * randn(len(theta), seed=seed + 3), inputs).detach()
    if moved and head.bounded:
        sigmas(head, acting).clamp_(min=0.3)
    actions = draw(head, acting, seed + 4)
    samples = Samples(
        inputs=inputs,
        actions=actions,
        weight=make_weights(weights, count, seed + 5),
        advantages=randn(count, seed=seed + 6),
        old_outputs=acting,
        old_log_prob=log_prob(head, acting, actions),
        time=torch.arange(count),
        episode=torch.arange(count) // 5,
    )
    return Case(module, network, head, theta, samples)


def sigmas(head: Any, z: Tensor) -> Tensor:
    """The part of z (B, O) that must be above 0; a view."""
    head = getattr(head, "policy", head)
    if isinstance(head, heads.Product):  # of which one part has such numbers, the last constants
        head = next(part for part in head.parts if part.bounded)
    return z[:, -head.size :]


def points(head: Any, count: int, seed: int = 0) -> Tensor:
    """(B, O) outputs at random, with sigma > 0."""
    z = randn(count, head.network_outputs + head.constants, seed=seed)
    if head.bounded:
        sigmas(head, z).mul_(0.4).exp_()
    return z


def make_weights(kind: str, count: int, seed: int) -> Tensor:
    if kind == "uniform":
        return torch.ones(count, dtype=torch.float64)
    weight = 0.2 + torch.rand(count, generator=seeded(seed), dtype=torch.float64)
    if kind == "masked":
        weight[::3] = 0
    return weight


def draw(head: Any, z: Tensor, seed: int) -> Tensor:
    """Actions from the distribution at z, in the form that samples hold them."""
    if isinstance(head, heads.Categorical):
        return torch.multinomial(z.softmax(1), 1, generator=seeded(seed)).squeeze(1)
    if isinstance(head, heads.MultiCategorical):
        parts = z.split(head.counts, 1)
        drawn = [torch.multinomial(part.softmax(1), 1, generator=seeded(seed + i)) for i, part in enumerate(parts)]
        return torch.cat(drawn, 1)
    if isinstance(head, heads.Bernoulli):
        return torch.bernoulli(z.sigmoid(), generator=seeded(seed))
    if isinstance(head, heads.Joint):
        own = draw(head.policy, z[:, 1:], seed).reshape(len(z), -1)
        return torch.cat([z[:, :1] + head.variance**0.5 * randn(len(z), 1, seed=seed + 50), own], 1)
    if isinstance(head, heads.Product):
        drawn = [
            draw(part, own, seed + i) for i, (part, own) in enumerate(zip(head.parts, of_product(head, z), strict=True))
        ]
        return torch.cat([a.reshape(len(z), -1).to(z.dtype) for a in drawn], 1)
    if isinstance(head, heads.Beta):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return distribution(head, z).base_dist.sample().logit() / 2
    if isinstance(head, heads.FullGaussian):
        normal = distribution(head, z)
        return normal.loc + (normal.scale_tril @ randn(*normal.loc.shape, 1, seed=seed)).squeeze(2)
    normal = distribution(head, z).base_dist
    return normal.mean + normal.stddev * randn(*normal.mean.shape, seed=seed)


def outputs(module: nn.Module, theta: Tensor, inputs: Tensor) -> Tensor:
    """(B, O) the module's outputs with its parameters read from theta, what is left of theta beside them."""
    parameters, place = {}, 0
    for name, p in module.named_parameters():
        parameters[name] = theta[place : place + p.numel()].reshape(p.shape)
        place += p.numel()
    z = functional_call(module, parameters, (inputs,))
    return torch.cat([z, theta[place:].expand(len(z), -1)], 1)


def jacobian(case: Case) -> Tensor:
    """(B, O, P) of the outputs in theta."""
    return jacrev(lambda theta: outputs(case.module, theta, case.samples.inputs))(case.theta)


def share(samples: Samples) -> Tensor:
    return samples.weight / samples.weight.sum()


def mean_kl(case: Case, theta: Tensor, start: Tensor | None = None) -> Tensor:
    """() weighted mean KL(policy at start || policy at theta); start is the case's theta unless given."""
    old = outputs(case.module, case.theta if start is None else start, case.samples.inputs).detach()
    return share(case.samples) @ kl(case.head, old, outputs(case.module, theta, case.samples.inputs))


def hessian(f: Any, x: Tensor) -> Tensor:
    """By differentiating twice; f may hold branches that depend on data."""
    return torch.autograd.functional.hessian(f, x.detach())


def output_fisher(head: Any, z: Tensor) -> Tensor:
    """(B, O, O) the Hessian in new of KL(z || new) at new = z, sample by sample."""
    blocks = [hessian(lambda new, old=row[None]: kl(head, old, new[None]).squeeze(), row) for row in z.detach()]
    return torch.stack(blocks)


def fisher(case: Case) -> Tensor:
    """(P, P) sum_b share_b J_b^T C_b J_b."""
    J = jacobian(case)
    C = output_fisher(case.head, outputs(case.module, case.theta, case.samples.inputs))
    return torch.einsum("b,boi,bop,bpj->ij", share(case.samples), J, C, J)


def kl_hessian(case: Case) -> Tensor:
    """(P, P) the Hessian at theta of the weighted mean KL from theta."""
    return hessian(lambda theta: mean_kl(case, theta), case.theta)


def objective(case: Case, name: str, theta: Tensor, clip: float = 0.2, entropy: float = 0.0) -> Tensor:
    """() the weighted mean of log_prob, surrogate, clipped, spo or value."""
    z = outputs(case.module, theta, case.samples.inputs)
    return share(case.samples) @ sample_values(case, name, z, clip, entropy)


def sample_values(case: Case, name: str, z: Tensor, clip: float = 0.2, entropy: float = 0.0) -> Tensor:
    """(B,) each sample's part in the objective at outputs z (B, O)."""
    s = case.samples
    p = distribution(case.head, z)
    log_p = p.log_prob(s.actions)
    if name == "value":
        return log_p
    ratio = (log_p - s.old_log_prob).exp()
    penalty = s.advantages.abs() * (ratio - 1) ** 2 / (2 * clip)
    values = {
        "log_prob": lambda: s.advantages * log_p,
        "surrogate": lambda: s.advantages * ratio,
        "spo": lambda: s.advantages * ratio - penalty,
        "clipped": lambda: torch.min(s.advantages * ratio, s.advantages * ratio.clamp(1 - clip, 1 + clip)),
    }[name]()
    return values + entropy * p.entropy()


def gradient(case: Case, name: str, **options: float) -> Tensor:
    """(P,) of the objective at the case's theta."""
    theta = case.theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(objective(case, name, theta, **options), theta)
    return g


def bits(tree: Any) -> Any:
    """Tensors in nested containers as digests, so that equality is equality of every bit, NaN included."""
    if isinstance(tree, Tensor):
        return (
            tuple(tree.shape),
            str(tree.dtype),
            hashlib.sha256(tree.detach().contiguous().numpy().tobytes()).hexdigest(),
        )
    if isinstance(tree, dict):
        return {k: bits(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [bits(v) for v in tree]
    return repr(tree)


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Every entry within ``tolerance`` of the larger of 1 and b's largest magnitude."""
    assert a.shape == b.shape, (a.shape, b.shape)
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    return bool((a - b).abs().le(tolerance * scale).all())
