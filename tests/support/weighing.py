"""The importance-weighted gradient term by term, by autograd: what rlopt.core.importance must equal."""

import torch
from torch import Tensor

from rlopt.core.objectives.log_prob import LogProb
from tests.support.densities import distribution, log_prob
from tests.support.oracles import Case, outputs, share

ENTROPY = 0.3
OBJECTIVE = LogProb(ENTROPY)


def weights_of(ratios: list[float], kind: str, clip: float | None) -> list[float]:
    """w_t of one episode's ratios, multiplied out."""
    found, product = [], 1.0
    for ratio in ratios:
        product *= ratio
        found.append(product)
    if kind == "trajectory":
        found = [product] * len(ratios)
    return found if clip is None else [min(w, clip) for w in found]


def weighted_gradient(
    case: Case, theta: Tensor, kind: str, clip: float | None, self_normalise: bool, trace: float
) -> Tensor:
    """g_w (P,) at theta of OBJECTIVE on the case's samples, whose order within an episode is that of time."""
    samples, theta = case.samples, theta.clone().requires_grad_()
    z = outputs(case.module, theta, samples.inputs)
    new, entropy = log_prob(case.head, z, samples.actions), distribution(case.head, z).entropy()
    ratios = (new.detach() - samples.old_log_prob).exp()
    total, mean = torch.zeros((), dtype=torch.float64), 0.0
    for episode in samples.episode.unique():
        at = (samples.episode == episode).nonzero()[:, 0].tolist()
        A = [float(samples.advantages[i]) for i in at] + [0.0]
        deltas = [A[t] - trace * A[t + 1] for t in range(len(at))]
        w = weights_of([float(ratios[i]) for i in at], kind, clip)
        for t, i in enumerate(at):
            later = sum(trace ** (k - t) * w[k] * deltas[k] for k in range(t, len(at)))
            total = total + share(samples)[i] * (later * new[i] + ENTROPY * w[t] * entropy[i])
            mean += float(share(samples)[i]) * w[t]
    (gradient,) = torch.autograd.grad(total / mean if self_normalise else total, theta)
    return gradient


def plain_gradient(case: Case, theta: Tensor) -> Tensor:
    """g (P,) at theta of OBJECTIVE, by autograd."""
    samples, theta = case.samples, theta.clone().requires_grad_()
    z = outputs(case.module, theta, samples.inputs)
    values = samples.advantages * log_prob(case.head, z, samples.actions)
    mean = share(samples) @ (values + ENTROPY * distribution(case.head, z).entropy())
    return torch.autograd.grad(mean, theta)[0]
